# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies of atoms from their edges, as modules of programs that take derivatives themselves."""

from typing import Any

import torch

from deepmd.dpmodel.model import Inputs, Model
from deepmd.pt.lift import convert
from deepmd.pt.torchscript.example import example_inputs, widths
from deepmd.pt.torchscript.export import graph_of


class LiftedCore(torch.nn.Module):
    """Evaluation of a lifted model; derivatives of any order, by its parameters, too."""

    def __init__(self, lifted: torch.nn.Module) -> None:
        super().__init__()
        self.lifted = lifted

    def forward(self, *given: Any) -> torch.Tensor:
        """Energies (n_atoms, 1); the arguments are those of :class:`TracedCore`."""
        return atom_energies(self.lifted, *given)


def atom_energies(lifted: Any, *given: Any) -> torch.Tensor:
    """Energies (n_atoms, 1) of a lifted model; the arguments are those of :class:`TracedCore`."""
    *arrays, slots = given
    found: torch.Tensor = lifted.atomic(Inputs(*arrays, {}, {}, slots), order=3)["energy"]
    return found


class TracedCore(torch.nn.Module):
    """Evaluation by a graph of plain operations, which TorchScript compiles."""

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
