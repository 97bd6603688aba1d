# SPDX-License-Identifier: LGPL-3.0-or-later
"""Smooth-edition descriptor with radial information only, two-body embedding.

Zhang et al., "End-to-end symmetry preserving inter-atomic potential energy model for finite and
extended systems", NeurIPS 2018.
"""

from collections.abc import Sequence
from typing import Any

from dargs import Argument

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import environment_serial
from deepmd.dpmodel.descriptor.typed import TypedDescriptor
from deepmd.schema.common import common_network_arguments, option, widths_argument
from deepmd.schema.descriptor import cutoff_arguments, environment_arguments, sel_argument
from deepmd.schema.registry import descriptor_args

# The fixed factor of the definition.
SCALE = 0.2


@Descriptor.register("se_e2_r", "se_r")
class DescrptSeR(TypedDescriptor):
    r"""``D_i = 1/5 (1/N) Σ_j G(s_ij)``, G the embedding of the normalised radial component s.

    Parameters
    ----------
    type_one_side : bool
        One network per neighbour type instead of one per pair of types.
    rcut, rcut_smth, sel, options
        See :meth:`TypedDescriptor._init_common`.
    """

    serial = environment_serial(
        "se_r",
        "rcut rcut_smth sel neuron resnet_dt set_davg_zero"
        " activation_function precision embeddings env_mat exclude_types env_protection @variables"
        " type_map trainable type_one_side spin",
    )
    spin = None
    width = 1

    def __init__(
        self,
        rcut: float,
        rcut_smth: float,
        sel: Sequence[int],
        *,
        type_one_side: bool = True,
        **options: Any,
    ) -> None:
        self.type_one_side = self.one_sided = type_one_side
        self._init_common(rcut, rcut_smth, sel, ndim=1 if type_one_side else 2, **options)

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom: value (n_atoms, ng)."""
        parts = []
        for a, rows, tables in self.groups(atoms, slots):
            total = sum(self.pair(a, b, atoms, table) for b, table in enumerate(tables))
            parts.append((rows, DescriptorOutput(total * (SCALE / self.nnei))))
        return self.assemble(atoms, parts)

    def pair(self, a: int | None, b: int, atoms: Atoms, table: Any) -> Any:
        """Sum of G over the slots of type b, empty ones included: (n, ng)."""
        network = self.network(a, b)
        g = network(self.rows(a, atoms, table, b))
        missing = self.sel[b] - ops.shape(table)[1]
        return ops.xp(g).sum(g, axis=1) + missing * network(self.padding_row(a, atoms))[:, 0, :]


@descriptor_args.register("se_e2_r", alias=["se_r"])
def se_e2_r_arguments() -> list[Argument]:
    """Keys of the two-body descriptor with distances only."""
    return [
        sel_argument(),
        *cutoff_arguments(),
        widths_argument(
            [10, 20, 40], "Widths of the embedding network; residual if same or twice."
        ),
        option(
            "type_one_side",
            bool,
            False,
            "Embedding networks depend on the neighbour's type only, not on the centre's.",
        ),
        *common_network_arguments(),
        *environment_arguments(),
    ]
