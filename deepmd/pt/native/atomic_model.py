# SPDX-License-Identifier: LGPL-3.0-or-later
"""Nodes around atomic models and whole models that are written for PyTorch."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import AtomicModel, add_out_bias, without_excluded
from deepmd.dpmodel.descriptor.base import Atoms, Slots
from deepmd.dpmodel.descriptor.extended import Extended, extend, neighbor_packing
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.neighbors import Packing
from deepmd.dpmodel.output_def import FittingOutputDef, Level
from deepmd.dpmodel.statistics import Sample
from deepmd.pt.native.model import section_of_class
from deepmd.pt.native.node import NativeNode, back, double_by_default, native_serial, to_torch
from deepmd.pt.native.script import WholeCore
from deepmd.pt.native.selection import selections_by_class
from deepmd.pt.native.statistics import merged_sample
from deepmd.schema.descriptor import Selection
from deepmd.schema.model import common_model_arguments

Tensor = torch.Tensor
_STATISTICS = ("out_bias", "out_std")
_EXCLUSIONS = ("atom_exclude_types", "pair_exclude_types", "preset_out_bias", "rcond")


def register_model(key: str, code: type[Any], *, override: bool = False) -> None:
    """File the nodes of a class of models under its ``type``."""
    body = {"code": code, "__module__": code.__module__, "__doc__": code.__doc__}
    serial = native_serial("Model", key, " ".join(_EXCLUSIONS), buffers=_STATISTICS)
    whole = not hasattr(code, "atomic_class")
    base: Any = NativeWhole if whole else NativeAtomicModel
    node = type(f"{code.__name__}Node", (base,), {**body, "serial": serial})
    AtomicModel.registry.register(key, override=override)(node)
    if whole:
        around = type(f"{code.__name__}Whole", (NativeModel,), {"__module__": code.__module__})
        Model.registry.register(key, override=override)(around)


class NativeAtomicModel(NativeNode, AtomicModel):
    """Node around the atomic model of a plugin."""

    rcond: Any
    preset_out_bias: Any

    def __init__(
        self, section: dict[str, Any], *, type_map: Sequence[str], **exclusions: Any
    ) -> None:
        self.section, self.type_map = section, list(type_map)
        self.atom_exclude_types = [int(t) for t in exclusions.get("atom_exclude_types") or ()]
        self.pair_exclude_types = [list(p) for p in exclusions.get("pair_exclude_types") or ()]
        self.preset_out_bias = exclusions.get("preset_out_bias")
        self.rcond = exclusions.get("rcond")
        module = self.take_module()
        sel = module.get_sel()
        self._rcut = float(module.get_rcut())
        self._sel = [int(sel)] if isinstance(sel, int) else [int(n) for n in sel]
        self._mixed = bool(module.mixed_types())
        self._messages = bool(module.has_message_passing())
        self._outputs = FittingOutputDef(list(outputs_of(module).values()))
        self._dims = int(module.get_dim_fparam()), int(module.get_dim_aparam())
        AtomicModel.build(self)

    @classmethod
    def from_section(cls, section: dict[str, Any]) -> "NativeAtomicModel":
        """Build the node of a checked ``model`` section."""
        given = {k: v for k, v in section.items() if k not in ("type", "type_map", "info")}
        exclusions = {k: given.pop(k, None) for k in _EXCLUSIONS}
        common = (a.name for a in common_model_arguments() if a.name != "type_map")
        return cls(
            section_of_class(cls.code, given, common), type_map=section["type_map"], **exclusions
        )

    @classmethod
    def construct(cls, config: dict, data: dict) -> Any:
        """Build the node of a dictionary."""
        return cls(**config)

    @classmethod
    def selections(cls, section: dict[str, Any], where: str) -> Iterator[Selection]:
        """Iterate over the numbers of neighbors that ``update_sel`` of the class replaces."""
        return selections_by_class(cls.code, section, where)

    def construct_module(self) -> Any:
        """Return the module of the section."""
        return self.new_module().atomic_model

    def new_module(self) -> Any:
        """Return the whole model of the section, with initial values that follow from its seed."""
        with torch.random.fork_rng(devices=[]), double_by_default():
            if isinstance(self.section.get("seed"), int):
                torch.manual_seed(self.section["seed"])
            return self.code.get_model(
                {**self.section, "type": self.serial.type, "type_map": list(self.type_map)}
            )

    @property
    def rcut(self) -> float:
        """Cutoff [Å]."""
        return self._rcut

    @property
    def sel(self) -> Any:
        """Largest numbers of neighbors."""
        return self._sel

    @property
    def mixed_types(self) -> bool:
        """Whether frames of different composition may share a system."""
        return self._mixed

    @property
    def message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return self._messages

    @property
    def interaction_range(self) -> float:
        """Distance beyond which atoms do not influence each other [Å]; not known for messages."""
        return float("inf") if self._messages else self._rcut

    def inputs(self) -> tuple[InputDef, ...]:
        """Frame and atomic parameters, where there are any."""
        known = (
            InputDef("fparam", Level.FRAME, self._dims[0]),
            InputDef("aparam", Level.ATOM, self._dims[1]),
        )
        return tuple(one for one in known if one.size)

    def components(self) -> dict[str, Any]:
        """Return the whole as one component."""
        return {"model": self}

    def output_def(self) -> FittingOutputDef:
        """Return what the model predicts."""
        return self._outputs

    def packings(self) -> list[Packing]:
        """Layout of the neighbor list."""
        packing = neighbor_packing(self.ntypes, self._rcut, self._sel, mixed=self._mixed)
        pairs = tuple((int(a), int(b)) for a, b in self.pair_exclude_types)
        return [Packing(**{**vars(packing), "exclude": pairs})]

    def call(self, atoms: Atoms, slots: Slots, extra: Sequence[str] = ()) -> dict[str, Any]:
        """Evaluate every atom; see :class:`AtomicModel`."""
        (packing,) = self.packings()
        frames = extend(atoms, slots[packing], packing)
        values = self.evaluate(frames, atoms)
        return without_excluded(self, add_out_bias(self, values, atoms), atoms)

    def evaluate(self, frames: Extended, atoms: Atoms) -> dict[str, Any]:
        """Evaluate the module: {name: (n_atoms, size) float64}."""
        module = self.running_module(frames.coord)
        if frames.nlist.shape[0] == 0:
            return self.nothing(frames.coord)
        given = [to_torch(x)[None] for x in frames]
        with double_by_default():
            found = module.forward_atomic(
                given[0],
                given[1],
                given[2],
                mapping=given[3],
                fparam=self._parameters_of_frame(atoms),
                aparam=self._parameters_of_atoms(atoms),
            )
        return {
            name: back(found[name][0].reshape(-1, v.size).double(), frames.coord)
            for name, v in self._outputs.get_data().items()
        }

    def nothing(self, like: Any) -> dict[str, Any]:
        """Return the values of no atoms."""
        known = self._outputs.get_data().items()
        return {name: ops.like(np.zeros((0, v.size)), like) for name, v in known}

    def _parameters_of_frame(self, atoms: Atoms) -> Any:
        if not self._dims[0]:
            return None
        fparam = to_torch(atoms.frame_inputs["fparam"])
        if fparam.shape[0] != 1:
            raise NotAvailableError(
                f'"{self.serial.type}" takes parameters of one frame at a time',
                fix='use "batch_size": 1, and evaluate one frame in a call',
            )
        return fparam

    def _parameters_of_atoms(self, atoms: Atoms) -> Any:
        return to_torch(atoms.atom_inputs["aparam"])[None] if self._dims[1] else None


class NativeWhole(NativeAtomicModel):
    """Node around a whole model of a plugin, which gives energies and derivatives itself."""

    #: Its own ``compute_or_load_stat`` fits the bias.
    has_own_bias = True

    def construct_module(self) -> Any:
        """Return the module of the section."""
        return self.new_module()

    def evaluate(self, frames: Extended, atoms: Atoms) -> dict[str, Any]:
        """Energies of atoms."""
        if frames.nlist.shape[0] == 0:
            return self.nothing(frames.coord)
        found = self.run(frames, atoms, order=atoms.order)
        return {"energy": back(found["atom_energy"][0].reshape(-1, 1).double(), frames.coord)}

    def run(self, frames: Extended, atoms: Atoms, *, order: int) -> dict[str, Tensor]:
        """Evaluate the module, with derivatives that can be differentiated again for ``order`` 2."""
        module = self.running_module(frames.coord)
        module.train(order > 1)
        coord, atype, nlist, mapping = (to_torch(x)[None] for x in frames)
        with torch.enable_grad(), double_by_default():
            return module.forward_lower(
                coord,
                atype,
                nlist,
                mapping,
                self._parameters_of_frame(atoms),
                self._parameters_of_atoms(atoms),
            )

    def compute_statistics(self, sample: Sample) -> None:
        """Let ``compute_or_load_stat`` of the class set what depends on the data."""
        module = self.module()
        method = getattr(module, "compute_or_load_stat", None)
        if method is not None:
            method(functools.partial(merged_sample, sample))
            self.take_arrays(module)

    def statistics_nodes(self, sample: Sample) -> Iterator[tuple[Any, Sample]]:
        """Iterate over the one part, with the frames."""
        yield self, sample


class NativeModel(Model):
    """Model around a whole model of a plugin: forces come from the module."""

    @classmethod
    def from_section(cls, section: dict[str, Any]) -> "NativeModel":
        """Build the model of a checked ``model`` section."""
        kind: Any = AtomicModel.registry.get(section["type"])
        if section.get("spin"):
            raise InputError(
                f'"{section["type"]}" has no spins', where="model/spin", fix="leave it out"
            )
        return cls(kind.from_section(section))

    def forward_edges(
        self,
        inputs: Inputs,
        extra: Sequence[str] = (),
        *,
        order: int = 1,
        cotangent: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Evaluate every atom, and the gradients with respect to the edge vectors."""
        if order > 2 or cotangent is not None or weights is not None:
            return super().forward_edges(
                inputs, extra, order=order, cotangent=cotangent, weights=weights
            )
        whole: Any = self.atomic_model
        (packing,) = self.packings()
        if inputs.atype.shape[0] == 0:
            none = inputs.vec.new_zeros((0, 1))
            return {"energy": none, "energy_grad": inputs.vec.new_zeros((0, 1, 3))}
        padded = torch.cat([inputs.vec, inputs.vec.new_tensor([[self.rcut, 0.0, 0.0]])])
        atoms = Atoms(
            padded,
            inputs.i,
            inputs.j,
            inputs.atype,
            inputs.frame,
            inputs.frame_inputs,
            inputs.atom_inputs,
            order,
        )
        found = whole.run(extend(atoms, list(inputs.slots), packing), atoms, order=order)
        energy = found["atom_energy"][0].reshape(-1, 1).double()
        gradient = -found["extended_force"][0, inputs.atype.shape[0] :, None, :].double()
        if order == 1:
            energy, gradient = energy.detach(), gradient.detach()
        values = without_excluded(whole, add_out_bias(whole, {"energy": energy}, atoms), atoms)
        return {**values, "energy_grad": gradient}

    def scripted_core(self) -> Any:
        """Return the evaluation entry for a TorchScript file, to be compiled."""
        whole: Any = self.atomic_model
        if any(whole._dims):
            raise NotAvailableError(
                f'"{whole.serial.type}" takes parameters of frames or atoms, and is not frozen then'
            )
        (packing,) = self.packings()
        module = whole.module().eval().requires_grad_(False)
        kept = np.array([[float(t not in whole.atom_exclude_types)] for t in range(whole.ntypes)])
        bias = torch.from_numpy(np.array(whole.out_bias[0, :, :1]))
        return WholeCore(module, list(packing.sel), bias, torch.from_numpy(kept))


def outputs_of(module: Any) -> dict[str, Any]:
    """Return what a module predicts for every atom, by name."""
    for name in ("atomic_output_def", "fitting_output_def"):
        method = getattr(module, name, None)
        if method is not None:
            return dict(method().get_data())
    raise InputError(
        f"{type(module).__name__} has neither atomic_output_def nor fitting_output_def"
    )
