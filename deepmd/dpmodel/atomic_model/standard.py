# SPDX-License-Identifier: LGPL-3.0-or-later
"""The usual model: a descriptor, then a fitting."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import AtomicModel, without_excluded
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, Slots
from deepmd.dpmodel.fitting.base import Fitting
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.output_def import FittingOutputDef


@AtomicModel.register("standard")
class StandardAtomicModel(AtomicModel):
    """Descriptor and fitting, with the bias per type and what is excluded.

    Parameters
    ----------
    descriptor : Descriptor
    fitting : Fitting
    type_map : list of str
        Names of the types.
    atom_exclude_types : list of int
        Centre types that contribute nothing.
    pair_exclude_types : list of (int, int)
        Pairs of types that are not neighbours.
    preset_out_bias : dict, optional
        Given biases per output and type; None where one is fitted.
    """

    serial = Serial(
        layout="type_map atom_exclude_types pair_exclude_types rcond preset_out_bias @variables"
        " @class @version type descriptor fitting",
        name="Model",
        type="standard",
        version=2,
        accepts=(2,),
        buffers=("out_bias", "out_std"),
        children=("descriptor", "fitting"),
    )

    descriptor: Any
    fitting: Any

    def __init__(
        self,
        descriptor: Descriptor | None,
        fitting: Fitting | None,
        type_map: Sequence[str],
        *,
        atom_exclude_types: Sequence[int] = (),
        pair_exclude_types: Sequence[Sequence[int]] = (),
        rcond: float | None = None,
        preset_out_bias: Mapping[str, Any] | None = None,
    ) -> None:
        self._settings(type_map, atom_exclude_types, pair_exclude_types, rcond, preset_out_bias)
        self.descriptor, self.fitting = descriptor, fitting
        self.out_bias = self.out_std = None
        if fitting is not None:
            outputs = fitting.output_def().get_data().values()
            size = max(v.size for v in outputs)
            self.out_bias = np.zeros((len(outputs), len(self.type_map), size))
            self.out_std = np.ones_like(self.out_bias)

    @property
    def rcut(self) -> float:
        """Cutoff [Å]."""
        return self.descriptor.rcut

    @property
    def sel(self) -> Any:
        """Largest numbers of neighbours."""
        return self.descriptor.sel

    @property
    def mixed_types(self) -> bool:
        """Whether frames of different composition may share a system."""
        return self.descriptor.mixed_types

    @property
    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return self.descriptor.message_passing

    @property
    def dim_fparam(self) -> int:
        """Number of frame parameters."""
        return self.fitting.numb_fparam

    @property
    def dim_aparam(self) -> int:
        """Number of atomic parameters."""
        return self.fitting.numb_aparam

    @property
    def default_fparam(self) -> list[float] | None:
        """Frame parameters of frames that have none."""
        return self.fitting.default_fparam

    @property
    def dim_chg_spin(self) -> int:
        """Numbers of charge and spin multiplicity expected per frame."""
        return getattr(self.descriptor, "dim_chg_spin", 0)

    @property
    def default_chg_spin(self) -> list[float] | None:
        """Charge and spin multiplicity of frames that have none."""
        return getattr(self.descriptor, "default_chg_spin", None)

    def output_def(self) -> FittingOutputDef:
        """Return what the fitting predicts."""
        return self.fitting.output_def()

    def sel_type(self) -> list[int]:
        """Return the types the fitting predicts; empty means all."""
        return self.fitting.sel_type()

    def packings(self) -> list[Packing]:
        """Return the layouts of descriptor and fitting, each once."""
        return list(dict.fromkeys(map(self._layout, self._parts())))

    def _parts(self) -> list[Packing]:
        return [*self.descriptor.packings(), *self.fitting.packings()]

    def _layout(self, packing: Packing) -> Packing:
        """Leave the excluded pairs out of a packing of neighbours."""
        if not self.pair_exclude_types or packing.layout == "centres":
            return packing
        pairs = tuple((int(a), int(b)) for a, b in self.pair_exclude_types)
        return dataclasses.replace(packing, exclude=packing.exclude + pairs)

    def call(self, atoms: Atoms, slots: Slots, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Evaluate every atom; see :class:`AtomicModel`."""
        mine = {p: slots[self._layout(p)] for p in self._parts()}
        output = self.descriptor(atoms, mine)
        values = self.fitting(output, atoms, mine)
        values = self.fitting.with_out_bias(values, self.out_bias, self.out_std, atoms)
        values = without_excluded(self, values, atoms)
        if "descriptor" in extra:
            values["descriptor"] = ops.cast(output.value, "float64")
        if "fitting_last_layer" in extra:
            last = self.fitting.last_layer(output, atoms, mine)
            values["fitting_last_layer"] = ops.cast(last, "float64")
        return values

    @classmethod
    def construct(cls, config: dict, data: dict) -> "StandardAtomicModel":
        return cls(None, None, **config)
