# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies of atoms of metatomic's systems; everything but the core is compiled by TorchScript.

The neighbor list is that of the engine, whose vectors carry the derivatives by positions and cell.
"""

import torch
from metatensor.torch import TensorBlock
from metatomic.torch import NeighborListOptions, System

from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.model.info import ModelInfo
from deepmd.pt.lift import convert
from deepmd.pt.torchscript.example import example_inputs, widths
from deepmd.pt.torchscript.export import graph_of
from deepmd.pt.torchscript.neighbors import Packing, Pairs, pack

#: Largest atomic number, and one.
_ELEMENTS = 119


class LiftedCore(torch.nn.Module):
    """Evaluation of a lifted model; derivatives of any order, by its parameters, too."""

    def __init__(self, lifted: torch.nn.Module) -> None:
        super().__init__()
        self.lifted = lifted

    def forward(
        self,
        vec: torch.Tensor,
        i: torch.Tensor,
        j: torch.Tensor,
        atype: torch.Tensor,
        frame: torch.Tensor,
        slots: list[torch.Tensor],
    ) -> torch.Tensor:
        """Energies (n_atoms, 1); the arguments are those of :class:`Inputs`."""
        found: torch.Tensor = self.lifted.atomic(  # type: ignore[operator]
            Inputs(vec, i, j, atype, frame, {}, {}, slots), order=3
        )["energy"]
        return found


class TracedCore(torch.nn.Module):
    """The same as a graph of plain operations, for a file."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        lifted = convert(model).requires_grad_(False)
        inputs = example_inputs(model.packings(), inputs=(), taken=sorted(widths(lifted)))

        def function(*arrays: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"energy": lifted.atomic(inputs.with_arrays(arrays), order=3)["energy"]}

        self.graph = graph_of(function, model, inputs)

    def forward(
        self,
        vec: torch.Tensor,
        i: torch.Tensor,
        j: torch.Tensor,
        atype: torch.Tensor,
        frame: torch.Tensor,
        slots: list[torch.Tensor],
    ) -> torch.Tensor:
        """Energies (n_atoms, 1); the arguments are those of :class:`Inputs`."""
        frames: dict[str, torch.Tensor] = {}
        atoms: dict[str, torch.Tensor] = {}
        found = self.graph(vec, i, j, atype, frame, frames, atoms, slots)
        return found["energy"]


class AtomEnergies(torch.nn.Module):
    """From systems to energies of their atoms.

    Parameters
    ----------
    core : LiftedCore or TracedCore
    info : ModelInfo
        The description of the model.
    atomic_types : list of int
        Atomic number of every type, in the order of the type map.
    length_unit : str
        Unit of lengths of the data, and so of the cutoff.
    """

    layouts: list[str]
    sels: list[list[int]]
    excluded: list[list[int]]
    edge_sels: list[int]
    grouped: list[bool]
    type_index: torch.Tensor

    def __init__(self, core: torch.nn.Module, info: ModelInfo, atomic_types: list[int]) -> None:
        super().__init__()
        self.core = core
        packings = info.packings
        self.core_types = info.core_types
        self.layouts = [p.layout for p in packings]
        self.rcuts = [float(p.rcut) for p in packings]
        self.sels = [[int(n) for n in p.sel] for p in packings]
        self.grouped = [bool(p.by_centre) for p in packings]
        self.nearest = [int(p.nearest) for p in packings]
        self.excluded = [[int(t) for pair in p.exclude for t in pair] for p in packings]
        self.edge_rcuts = [float(p.edge_rcut) for p in packings]
        self.edge_sels = [int(p.edge_sel) for p in packings]
        self.options = NeighborListOptions(
            cutoff=float(info.rcut), full_list=True, strict=True, requestor="deepmd"
        )
        index = torch.full((_ELEMENTS,), -1, dtype=torch.int64)
        index[torch.tensor(atomic_types)] = torch.arange(len(atomic_types))
        self.register_buffer("type_index", index, persistent=False)

    def forward(self, systems: list[System]) -> torch.Tensor:
        """Energies (n_atoms, 1) float64 of the atoms of all systems, one after another."""
        vecs: list[torch.Tensor] = []
        centers: list[torch.Tensor] = []
        others: list[torch.Tensor] = []
        types: list[torch.Tensor] = []
        frames: list[torch.Tensor] = []
        first = 0
        for k, system in enumerate(systems):
            block: TensorBlock = system.get_neighbor_list(self.options)
            pairs = block.samples.values.to(torch.int64)
            order = torch.argsort(pairs[:, 0], stable=True)
            vecs.append(block.values.reshape(-1, 3)[order].to(torch.float64))
            centers.append(pairs[:, 0][order] + first)
            others.append(pairs[:, 1][order] + first)
            types.append(system.types.to(torch.int64))
            frames.append(torch.full_like(system.types, k, dtype=torch.int64))
            first += len(system)
        atype = self.type_index[torch.cat(types)]
        if bool((atype < 0).any()):
            raise ValueError("there are elements that the model was not trained for")
        vec, i, j = torch.cat(vecs), torch.cat(centers), torch.cat(others)
        frame = torch.cat(frames)
        slots = self.slots(vec.detach(), i, j, atype, frame)
        energies: torch.Tensor = self.core(vec, i, j, atype, frame, slots)
        return energies

    def slots(
        self,
        vec: torch.Tensor,
        i: torch.Tensor,
        j: torch.Tensor,
        atype: torch.Tensor,
        frame: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Tables of neighbors, as the model wants them."""
        slots: list[torch.Tensor] = []
        pairs = Pairs(i, j, atype, frame, vec, (vec * vec).sum(-1))
        for k in range(len(self.layouts)):
            packing = Packing(
                self.layouts[k],
                self.core_types,
                self.rcuts[k],
                self.sels[k],
                self.grouped[k],
                self.excluded[k],
                self.nearest[k],
                self.edge_rcuts[k],
                self.edge_sels[k],
            )
            slots += pack(packing, pairs)
        return slots
