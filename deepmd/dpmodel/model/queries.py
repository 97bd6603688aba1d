# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a model says of itself: types, cutoffs, inputs, outputs, neighbors, its description."""

import numpy as np

from deepmd.dpmodel.atomic_model.base import AtomicModel
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.model.info import ModelInfo, OutputInfo, lowest_precision
from deepmd.dpmodel.module import Module, modules
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.nn.tabulation import Tables
from deepmd.dpmodel.output_def import FittingOutputDef, Level, OutputVariableDef


class ModelQueries(Module):
    """The properties of a model that follow from its atomic model."""

    atomic_model: AtomicModel

    @property
    def type_map(self) -> list[str]:
        """Names of the types."""
        return self.atomic_model.type_map

    @property
    def rcut(self) -> float:
        """Cutoff [Å]."""
        return self.atomic_model.rcut

    def get_rcut(self) -> float:
        """Cutoff [Å]."""
        return self.rcut

    def get_type_map(self) -> list[str]:
        """Return the names of the types."""
        return list(self.type_map)

    def get_ntypes(self) -> int:
        """Return the number of types."""
        return len(self.type_map)

    def get_sel(self) -> list[int]:
        """Return the largest numbers of neighbors."""
        sel = self.atomic_model.sel
        return [sel] if isinstance(sel, int) else list(sel)

    def inputs(self) -> tuple[InputDef, ...]:
        """Inputs beside positions, cells and types."""
        return self.atomic_model.inputs()

    def info(self, *, probes: int = 0) -> ModelInfo:
        """Return the description of this model.

        Parameters
        ----------
        probes : int
            Number of probes in its file.
        """
        atomic, spins = self.atomic_model, self.has_spin()
        outputs = self.output_def().get_data().values()
        return ModelInfo(
            type_map=tuple(self.type_map),
            rcut=float(self.rcut),
            interaction_range=float(atomic.interaction_range),
            message_range=float(atomic.message_range),
            sel=tuple(int(n) for n in self.get_sel()),
            inputs=self.inputs(),
            outputs=tuple(
                OutputInfo(v.name, Level.ATOM, v.size, v.r_differentiable, v.intensive, v.magnetic)
                for v in outputs
            ),
            packings=tuple(self.packings()),
            core_types=atomic.ntypes,
            contributing_types=tuple(
                t not in atomic.atom_exclude_types for t in range(atomic.ntypes)
            ),
            selected_types=tuple(int(t) for t in self.get_sel_type()),
            use_spin=tuple(self.get_use_spin()) if spins else (),
            spin_scale=self.spin_scale(),
            precision=lowest_precision(self),
            message_passing=self.message_passing(),
            mixed_types=self.mixed_types(),
            compressed=self.compressed(),
            probes=probes,
            regions=bool(self.assembly_inputs()),
        )

    def compressed(self) -> bool:
        """Whether embedding networks are tabulated."""
        return any(isinstance(node, Tables) for node in modules(self))

    def input_def(self, name: str) -> InputDef:
        """Return the definition of an input, of size 0 if the model does not take it."""
        known = {one.name: one for one in self.inputs()}
        return known.get(name, InputDef(name, Level.FRAME, 0))

    def get_dim_fparam(self) -> int:
        """Return the number of frame parameters."""
        return self.input_def("fparam").size

    def get_dim_aparam(self) -> int:
        """Return the number of atomic parameters."""
        return self.input_def("aparam").size

    def get_default_fparam(self) -> list[float] | None:
        """Return the frame parameters of frames that have none, or None."""
        default = self.input_def("fparam").default
        return None if default is None else list(default)

    def get_dim_chg_spin(self) -> int:
        """Return how many numbers of charge and spin multiplicity a frame has: 0 or 2."""
        return self.input_def("charge_spin").size

    def get_default_chg_spin(self) -> list[float] | None:
        """Return charge and spin multiplicity of frames that have none, or None."""
        default = self.input_def("charge_spin").default
        return None if default is None else list(default)

    def get_sel_type(self) -> list[int]:
        """Return the types that are predicted; empty means all."""
        return self.atomic_model.sel_type()

    def mixed_types(self) -> bool:
        """Whether frames of different composition may share a system."""
        return self.atomic_model.mixed_types

    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return self.atomic_model.message_passing

    def output_def(self) -> FittingOutputDef:
        """Return what the model predicts."""
        return self.atomic_model.output_def()

    def kinds(self) -> list[str]:
        """Return the kinds of what is predicted: the names of the outputs, or ``property``."""
        return self.atomic_model.kinds()

    def packings(self) -> list[Packing]:
        """Return the layouts of neighbors, in the order of ``Inputs.slots``."""
        return self.atomic_model.packings()

    def has_spin(self) -> bool:
        """Whether atoms have spins."""
        return False

    def expands(self) -> bool:
        """Whether another batch than the given one is evaluated, see :meth:`expand`."""
        return False

    def get_use_spin(self) -> list[bool]:
        """Return which types have a spin."""
        return [False] * self.get_ntypes()

    def spin_scale(self) -> tuple[float, ...]:
        """Displacement of the virtual atom per unit of spin [Å], for every type; empty without spins."""
        return ()

    def entry_inputs(self) -> tuple[InputDef, ...]:
        """Inputs of the evaluation entry (:class:`Inputs`), by name."""
        return self.inputs()

    def input_names(self) -> set[str]:
        """Names of :meth:`entry_inputs`."""
        return {one.name for one in self.entry_inputs()}

    def assembly_inputs(self) -> tuple[InputDef, ...]:
        """Inputs that :meth:`assemble` reads beside those of the entry, in :meth:`predict`, too."""
        return ()

    def predict_names(self) -> set[str]:
        """Names of all that :meth:`predict` reads."""
        return self.input_names() | {one.name for one in self.assembly_inputs()}

    def example_aparam(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return parameters of ``n`` atoms for an example: (n, size)."""
        return rng.normal(size=(n, self.get_dim_aparam()))

    def warnings(self) -> list[str]:
        """Return what a user should know of the physics of this model, a line each."""
        return self.atomic_model.warnings()

    def differentiable(self) -> list[OutputVariableDef]:
        """Outputs that have derivatives with respect to positions."""
        return [v for v in self.output_def().get_data().values() if v.r_differentiable]
