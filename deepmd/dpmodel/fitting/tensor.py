# SPDX-License-Identifier: LGPL-3.0-or-later
"""Base of the fittings of vectors and tensors."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from dargs import Argument

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Descriptor, DescriptorOutput
from deepmd.dpmodel.fitting.base import Fitting
from deepmd.schema.common import Rule, unset
from deepmd.schema.settings import setting


class TensorFitting(Fitting):
    """Base of fittings that turn with the system, by the equivariant part of the descriptor."""

    var_name: ClassVar[str]
    #: What it is called in texts, and an older name of the key ``sel_type``.
    quantity: ClassVar[str]
    sel_alias: ClassVar[str]

    embedding_width: int = setting(..., "Rows of the descriptor's equivariant part.", key=False)

    @classmethod
    def arguments(cls) -> list[Argument]:
        """Return the settings, and the choice of types, from which ``exclude_types`` follows."""
        chosen = unset(
            "sel_type",
            [int, list[int], None],
            f"Types that have a {cls.quantity}; the others have none. All if absent.",
            alias=[cls.sel_alias],
            rule=Rule(
                lambda v: v is None or all(t >= 0 for t in ([v] if isinstance(v, int) else v)),
                "must be type indices",
            ),
        )
        return [*super().arguments(), chosen]

    @property
    def net_out(self) -> int:
        """Numbers that the networks put out."""
        return self.embedding_width

    @classmethod
    def for_descriptor(
        cls,
        section: dict[str, Any],
        descriptor: Descriptor,
        type_map: Sequence[str],
        exclude_types: Sequence[int] = (),
        tebd_dim: int = 0,
    ) -> Any:
        """Build the fitting of a checked section; types not in ``sel_type`` are excluded too."""
        if not descriptor.dim_embed:
            raise InputError(
                f"the descriptor has no equivariant part, a {cls.var_name} cannot be built",
                where="model/descriptor/type",
                fix="use se_e2_a, dpa1, dpa2 or dpa3",
            )
        given = dict(section)
        chosen = given.pop("sel_type", None)
        if chosen is not None:
            chosen = [chosen] if isinstance(chosen, int) else chosen
            if not chosen or max(chosen) >= len(type_map):
                raise InputError(
                    f"{chosen} are not type indices, type_map has {len(type_map)} types",
                    where="model/fitting_net/sel_type",
                )
            others = set(range(len(type_map))) - set(chosen)
            exclude_types = sorted(others | set(exclude_types))
        given["embedding_width"] = descriptor.dim_embed
        return super().for_descriptor(given, descriptor, type_map, exclude_types, tebd_dim)

    def rotation(self, output: DescriptorOutput) -> Any:
        """Return the equivariant part of the descriptor, (n_atoms, embedding_width, 3) float64."""
        return ops.cast(output.rotation, "float64")

    def own_bias(self) -> np.ndarray:
        """Zero, (ntypes, 1): the output of the networks is turned before it is one."""
        return np.zeros((self.ntypes, 1))

    def sel_type(self) -> list[int]:
        """Return the types that are predicted."""
        return [t for t in range(self.ntypes) if t not in self.exclude_types]
