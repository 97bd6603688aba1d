# SPDX-License-Identifier: LGPL-3.0-or-later
"""Core of a TorchScript file for whole models of plugins: their code, compiled.

It is the scripted form of :meth:`deepmd.pt.native.atomic_model.NativeModel.forward_edges`.
"""

from typing import Any

import torch

Tensor = torch.Tensor
#: Methods that a file of ours does not call; what they need may not compile.
_UNUSED = (
    "forward",
    "fitting_output_def",
    "atomic_output_def",
    "model_output_def",
    "translated_output_def",
)


class WholeCore(torch.nn.Module):
    """Energies of atoms, and gradients by the edge vectors, of a module with ``forward_lower``.

    Parameters
    ----------
    inner : torch.nn.Module
    sel : list of int
        Width of the neighbor list, or of its part of each type.
    out_bias : (ntypes, 1)
        Bias that is added.
    kept : (ntypes, 1)
        0 for the types whose atoms contribute nothing.
    """

    sel: list[int]

    def __init__(self, inner: Any, sel: list[int], out_bias: Tensor, kept: Tensor) -> None:
        super().__init__()
        self.inner = without_unused(inner)
        self.sel = sel
        self.register_buffer("out_bias", out_bias)
        self.register_buffer("kept", kept)

    def forward(
        self,
        vec: Tensor,
        i: Tensor,
        j: Tensor,
        atype: Tensor,
        frame: Tensor,
        frame_inputs: dict[str, Tensor],
        atom_inputs: dict[str, Tensor],
        slots: list[Tensor],
    ) -> dict[str, Tensor]:
        """Evaluate; see :meth:`deepmd.dpmodel.model.Model.forward_edges`."""
        n = atype.shape[0]
        coord = torch.cat([vec.new_zeros((n, 3)), vec.detach()])[None]
        kinds = torch.cat([atype, atype[j]])[None]
        mapping = torch.cat([torch.arange(n, device=atype.device), j])[None]
        parts: list[Tensor] = []
        for k, width in enumerate(self.sel):
            table = slots[k]
            empty = torch.full((n, width), -1, dtype=table.dtype, device=table.device)
            wide = torch.cat([table, empty], dim=1)[:, :width]
            parts.append(torch.where(wide < 0, wide, wide + n))
        with torch.enable_grad():
            found = self.inner.forward_lower(coord, kinds, torch.cat(parts, dim=1)[None], mapping)
        energy = found["atom_energy"][0].reshape(-1, 1).to(torch.float64).detach()
        gradient = -found["extended_force"][0][n:].to(torch.float64).detach()
        kept = self.kept[atype]
        return {
            "energy": (energy + self.out_bias[atype]) * kept,
            "energy_grad": gradient[:, None, :],
        }


def without_unused(module: Any) -> Any:
    """Mark methods of a module that are not to be compiled, and return it."""
    code = type(module)
    body = {name: torch.jit.unused(getattr(code, name)) for name in _UNUSED if hasattr(code, name)}
    module.__class__ = type(code.__name__, (code,), {**body, "__module__": code.__module__})
    return module
