# SPDX-License-Identifier: LGPL-3.0-or-later
"""Atoms with spins and their virtual partners in TorchScript files.

As in :mod:`deepmd.dpmodel.model.spin`, atom k is number 2k of the core and its partner 2k + 1; here
this holds for places, too. Everything is compiled by ``torch.jit.script``.
"""

from typing import NamedTuple

import torch


class Atoms(NamedTuple):
    """The atoms of all frames, in their places.

    Attributes
    ----------
    types : (n_frames, n_all)
        -1 for virtual atoms.
    nloc : int
        The first atoms of a frame are centers, the others ghosts.
    owner : (n_frames * n_all,)
        Place of the atom of which the one in a place is an image.
    frame_inputs : dict of str to (n_frames, d)
    atom_inputs : dict of str to (n_frames, n_local, d)
    """

    types: torch.Tensor
    nloc: int
    owner: torch.Tensor
    frame_inputs: dict[str, torch.Tensor]
    atom_inputs: dict[str, torch.Tensor]


def shifts(spin: torch.Tensor | None, types: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Vectors (n_atoms of all frames, 3) [Å] from atoms to partners; 0 for virtual atoms."""
    if spin is None:
        return torch.zeros((0, 3), dtype=torch.float64, device=types.device)
    length = torch.where(types < 0, torch.zeros_like(scale[:1]), scale[types.clamp(min=0)])
    return spin.to(torch.float64).reshape(-1, 3) * length.reshape(-1, 1)


def doubled(atoms: Atoms, shift: torch.Tensor, ntypes: int) -> Atoms:
    """Atoms and partners, with the shifts (2 n_places, 3) [Å] as further inputs of atoms."""
    nf, nall, nloc = atoms.types.shape[0], atoms.types.shape[1], 2 * atoms.nloc
    partners = torch.where(atoms.types < 0, atoms.types, atoms.types + ntypes)
    twice: dict[str, torch.Tensor] = {}
    for name, value in atoms.atom_inputs.items():
        twice[name] = value.repeat_interleave(2, 1)
    twice["displacement"] = shift.reshape(nf, 2 * nall, 3)[:, :nloc]
    return Atoms(
        torch.stack([atoms.types, partners], 2).reshape(nf, 2 * nall),
        nloc,
        torch.stack([2 * atoms.owner, 2 * atoms.owner + 1], 1).reshape(-1),
        atoms.frame_inputs,
        twice,
    )


def with_partners(
    i: torch.Tensor,
    j: torch.Tensor,
    vec: torch.Tensor,
    centers: torch.Tensor,
    shift: torch.Tensor,
    rcut: float,
    message_passing: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs of atoms and partners within the cutoff, sorted by center.

    Partners are centers in models that exchange messages only. They come before the atoms, as
    in :meth:`deepmd.dpmodel.model.SpinModel.expand`.

    Parameters
    ----------
    i, j : (n_pairs,)
        Places of atoms.
    vec : (n_pairs, 3) [Å]
    centers : (n_centers,)
        Places of atoms.
    shift : (2 n_places, 3) [Å]
        From the atom to itself or its partner.

    Returns
    -------
    i, j : (n,)
        Places of atoms, 2 place, and partners, 2 place + 1.
    vec, between : (n, 3) [Å]
        Between these, and between the atoms that they belong to.
    """
    i_parts: list[torch.Tensor] = []
    j_parts: list[torch.Tensor] = []
    parts: list[torch.Tensor] = []
    for b in (1, 0):
        for a in range(2 if message_passing else 1):
            i_parts.append(2 * i + a)
            j_parts.append(2 * j + b)
            parts.append(vec)
            if a != b:
                i_parts.append(2 * centers + a)
                j_parts.append(2 * centers + b)
                parts.append(vec.new_zeros((centers.shape[0], 3)))
    i, j, between = torch.cat(i_parts), torch.cat(j_parts), torch.cat(parts)
    order = torch.argsort(i, stable=True)
    i, j, between = i[order], j[order], between[order]
    vec = between + shift[j] - shift[i]
    r2 = (vec * vec).sum(-1)
    same = torch.div(i, 2, rounding_mode="floor") == torch.div(j, 2, rounding_mode="floor")
    near = (r2 <= rcut * rcut) & ((r2 > 0.0) | same)
    return i[near], j[near], vec[near], between[near]


def folded(
    both: dict[str, torch.Tensor],
    names: list[str],
    types: torch.Tensor,
    use_spin: list[bool],
    scale: torch.Tensor,
    prefix: str,
) -> dict[str, torch.Tensor]:
    """Results of atoms from those of atoms and partners; ``names`` are the outputs."""
    per_atom = ["atom_" + name for name in names]
    out: dict[str, torch.Tensor] = {}
    for name, value in both.items():
        if name in ("force", "extended_force", "atom_virial", "extended_virial"):
            out[name] = value[:, 0::2] + value[:, 1::2]
        elif name in per_atom:
            out[name] = value[:, 0::2]
        else:
            out[name] = value
    inner = types.clamp(min=0)
    magnetic = torch.tensor(use_spin, device=types.device)[inner] & (types >= 0)
    out[prefix + "force_mag"] = both[prefix + "force"][:, 1::2] * scale[inner][:, :, None]
    out[prefix + "mask_mag"] = magnetic[:, :, None]
    return out
