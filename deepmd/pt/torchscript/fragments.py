# SPDX-License-Identifier: LGPL-3.0-or-later
"""QM regions and fragments in TorchScript files, as frames of their own.

The groups are those of :mod:`deepmd.dpmodel.fragments`: here each is a copy of its frame in which
all other atoms are virtual. Everything is compiled by ``torch.jit.script``.
"""

from typing import NamedTuple

import torch


class Groups(NamedTuple):
    """QM regions of all frames, then fragments with the QM atoms of their frames.

    Attributes
    ----------
    frame : (n_groups,)
        Frame of every group.
    types : (n_groups, n_all)
        -1 for atoms that are not in the group.
    role : (n_groups, n_local, 1)
        As of :mod:`deepmd.dpmodel.fragments`.
    """

    frame: torch.Tensor
    types: torch.Tensor
    role: torch.Tensor


def groups_of(
    aparam: torch.Tensor | None, types: torch.Tensor, nloc: int, mapping: torch.Tensor | None
) -> Groups:
    """Groups of atoms (n_frames, n_all) with the regions (n_frames, n_local) of local ones.

    ``mapping`` (n_frames, n_all) names the local atom of every one; ghosts need it.
    """
    nf, nall = types.shape[0], types.shape[1]
    if aparam is None or aparam.numel() == 0:
        raise ValueError("the model needs aparam, which was not given")
    given = aparam.to(torch.float64).reshape(nf, nloc)
    region = torch.round(given).to(torch.int64)
    if bool(((given - region).abs() > 1e-6).any()) or bool((region < -1).any()):
        raise ValueError("aparam is 0 for QM atoms, 1, 2, ... for fragments, -1 for atoms left out")
    if nall > nloc:
        if mapping is None:
            raise ValueError(
                "the mapping of ghosts is needed, which have the regions of their atoms"
            )
        region = torch.gather(region, 1, mapping.to(torch.int64).clamp_min(0))
    region = torch.where(types < 0, torch.full_like(region, -1), region)
    frames = torch.arange(nf, device=types.device)
    inside = torch.stack([frames[:, None].expand(nf, nall), region], 2)[region > 0]
    # One number per fragment: no dimension of unique is needed, which some devices lack.
    width = int(region.max().item()) + 1 if region.numel() > 0 else 1
    number = torch.unique(inside[:, 0] * width + inside[:, 1])
    frame = torch.cat([frames, torch.div(number, width, rounding_mode="floor")])
    fragment = torch.cat([torch.zeros_like(frames), number % width])
    mine = region[frame]
    chosen = (mine == 0) | (mine == fragment[:, None])
    role = torch.where(mine == 0, 2, 1)
    role[:nf] = 0
    left_out = torch.full_like(mine, -1)
    return Groups(
        frame,
        torch.where(chosen, types[frame], left_out),
        role[:, :nloc, None].to(torch.float64),
    )


def joined(
    parts: dict[str, torch.Tensor], groups: Groups, types: torch.Tensor, nloc: int
) -> dict[str, torch.Tensor]:
    """Sum the results of the groups of a frame; ``types`` are those of the frames."""
    out: dict[str, torch.Tensor] = {}
    for name, value in parts.items():
        if name == "mask":
            out[name] = (types[:, :nloc] >= 0).to(value.dtype)
        else:
            sums = list(value.shape)
            sums[0] = types.shape[0]
            out[name] = torch.zeros(sums, dtype=value.dtype, device=value.device).index_add(
                0, groups.frame, value
            )
    return out
