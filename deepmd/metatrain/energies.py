# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies of atoms of metatomic's systems; everything but the core is compiled by TorchScript.

The neighbor list is that of the engine, whose vectors carry the derivatives by positions and cell.
"""

import torch
from metatensor.torch import TensorBlock
from metatomic.torch import NeighborListOptions, System

from deepmd.dpmodel.model.info import ModelInfo
from deepmd.pt.torchscript.neighbors import Pairs, pack_all, packing_lists

#: Largest atomic number, and one.
_ELEMENTS = 119


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
    rcuts: list[float]
    sels: list[list[int]]
    grouped: list[bool]
    nearest: list[int]
    excluded: list[list[int]]
    edge_rcuts: list[float]
    edge_sels: list[int]
    type_index: torch.Tensor

    def __init__(self, core: torch.nn.Module, info: ModelInfo, atomic_types: list[int]) -> None:
        super().__init__()
        self.core = core
        self.core_types = info.core_types
        for name, value in packing_lists(info.packings).items():
            setattr(self, name, value)
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
        near = vec.detach()
        slots = pack_all(
            self.layouts,
            self.core_types,
            self.rcuts,
            self.sels,
            self.grouped,
            self.excluded,
            self.nearest,
            self.edge_rcuts,
            self.edge_sels,
            Pairs(i, j, atype, frame, near, (near * near).sum(-1)),
        )
        energies: torch.Tensor = self.core(vec, i, j, atype, frame, slots)
        return energies
