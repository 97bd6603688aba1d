# SPDX-License-Identifier: LGPL-3.0-or-later
"""Ghosts and neighbor lists in PyTorch under the name that plugins import.

All pairs of atoms and images are compared: plugins use this for small systems only. Everything
compiles with ``torch.jit.script``.
"""

import torch

Tensor = torch.Tensor


def extend_input_and_build_neighbor_list(
    coord: Tensor,
    atype: Tensor,
    rcut: float,
    sel: list[int],
    mixed_types: bool = False,
    box: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return atoms with their periodic images, and the list of the nearest neighbors.

    Parameters
    ----------
    coord : (n_frames, n_atoms, 3) [Å]
    atype : (n_frames, n_atoms) int64, -1 for virtual atoms
    rcut : float
        Cutoff [Å].
    sel : list of int
        Numbers of neighbors: of each type, or, with ``mixed_types``, their sum.
    mixed_types : bool
    box : (n_frames, 9) or (n_frames, 3, 3), optional [Å]

    Returns
    -------
    extended_coord : (n_frames, n_all, 3)
    extended_atype : (n_frames, n_all)
    mapping : (n_frames, n_all)
        The atom that an atom or image is.
    nlist : (n_frames, n_atoms, Σ sel)
        -1 where a slot is empty.
    """
    nf, nloc = atype.shape[0], atype.shape[1]
    coord = coord.reshape(nf, nloc, 3)
    numbers = torch.arange(nloc, device=coord.device)
    if box is None or box.numel() == 0:
        extended, mapping = coord, numbers[None].expand(nf, nloc)
    else:
        shifts = lattice_shifts(coord, box.reshape(nf, 3, 3), rcut)
        n = shifts.shape[0]
        moved = torch.einsum("sa,fab->fsb", shifts, box.reshape(nf, 3, 3))
        extended = (coord[:, None] + moved[:, :, None]).reshape(nf, n * nloc, 3)
        mapping = numbers[None].expand(n, nloc).reshape(1, n * nloc).expand(nf, n * nloc)
    types = torch.gather(atype, 1, mapping)
    return (
        extended,
        types,
        mapping,
        nearest_neighbors(extended, types, nloc, rcut, sel, mixed_types),
    )


def lattice_shifts(coord: Tensor, cell: Tensor, rcut: float) -> Tensor:
    """Return the lattice translations of images within reach, (n, 3), the atoms themselves first."""
    widths = 1.0 / torch.linalg.norm(torch.linalg.inv(cell), dim=1)
    fractions = torch.linalg.solve(cell, coord, left=False)
    spread = (fractions.amax(1) - fractions.amin(1)).amax(0)
    most = torch.ceil(rcut / widths.amin(0) + spread).to(torch.int64)
    a, b, c = int(most[0].item()), int(most[1].item()), int(most[2].item())
    device, dtype = coord.device, coord.dtype
    grid = torch.cartesian_prod(
        torch.arange(-a, a + 1, device=device),
        torch.arange(-b, b + 1, device=device),
        torch.arange(-c, c + 1, device=device),
    ).to(dtype)
    order = torch.argsort((grid != 0).any(1).to(torch.int64), stable=True)
    return grid[order]


def nearest_neighbors(
    extended: Tensor, types: Tensor, nloc: int, rcut: float, sel: list[int], mixed_types: bool
) -> Tensor:
    """Return the nearest neighbors of the first ``nloc`` atoms, (n_frames, nloc, Σ sel)."""
    nall = extended.shape[1]
    d = extended[:, None, :, :] - extended[:, :nloc, None, :]
    r = torch.linalg.norm(d.detach(), dim=-1)
    own = torch.eye(nloc, nall, device=r.device, dtype=torch.bool)[None]
    out = (r > rcut) | own | (types[:, None, :] < 0) | (types[:, :nloc, None] < 0)
    r = torch.where(out, torch.full_like(r, float("inf")), r)
    parts: list[Tensor] = []
    kinds = [-1] if mixed_types else list(range(len(sel)))
    for t in kinds:
        limit = sum(sel) if t < 0 else sel[t]
        own_kind = r
        if t >= 0:
            own_kind = torch.where(types[:, None, :] == t, r, torch.full_like(r, float("inf")))
        found, index = torch.sort(own_kind, dim=-1, stable=True)
        index = torch.where(torch.isinf(found), torch.full_like(index, -1), index)[:, :, :limit]
        missing = limit - index.shape[2]
        if missing > 0:
            index = torch.nn.functional.pad(index, [0, missing], value=-1.0)
        parts.append(index)
    return torch.cat(parts, dim=-1)
