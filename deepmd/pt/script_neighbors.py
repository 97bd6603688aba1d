# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pairs of neighbours and their packing in TorchScript, as :mod:`deepmd.dpmodel.neighbors`."""

import torch


def find_pairs(
    coord: torch.Tensor, cell: torch.Tensor, rcut: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Find all pairs of one frame by comparing every atom with every image near the cell.

    Parameters
    ----------
    coord : (n_atoms, 3) [Å]
    cell : (3, 3) [Å]
        Zero for an open system.
    rcut : float
        Cutoff [Å].

    Returns
    -------
    i, j : (n_edges,) int64
        Sorted by i.
    vec : (n_edges, 3) [Å]
    """
    n = coord.shape[0]
    owner = torch.arange(n, device=coord.device)
    shift = torch.zeros((n, 3), dtype=torch.float64, device=coord.device)
    fold = shift
    folded = coord
    image = coord
    if bool((cell != 0.0).any()):
        fold = torch.floor(coord @ torch.linalg.inv(cell))
        folded = coord - fold @ cell
        owner, shift = _images(folded, cell, rcut)
        image = folded[owner] + shift @ cell
        shift = shift - fold[owner]
    i_parts = [torch.zeros(0, dtype=torch.int64, device=coord.device)]
    k_parts = [torch.zeros(0, dtype=torch.int64, device=coord.device)]
    # At most about a million distances at a time.
    step = max(1, (1 << 20) // max(int(owner.shape[0]), 1))
    for start in range(0, n, step):
        d = image[None, :, :] - folded[start : start + step, None, :]
        r2 = (d * d).sum(-1)
        pairs = torch.nonzero((r2 <= rcut * rcut) & (r2 > 0.0))
        i_parts.append(pairs[:, 0] + start)
        k_parts.append(pairs[:, 1])
    i, k = torch.cat(i_parts), torch.cat(k_parts)
    j = owner[k]
    # From the positions as they were given: folding must not cost digits.
    vec = coord[j] - coord[i] + (shift[k] + fold[i]) @ cell
    return i, j, vec


def _images(
    folded: torch.Tensor, cell: torch.Tensor, rcut: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Atoms and lattice translations (n, 3) of all images within the cutoff of the cell."""
    a, b, c = cell[0], cell[1], cell[2]
    volume = torch.abs(torch.dot(a, torch.linalg.cross(b, c)))
    normals = torch.stack(
        [torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)]
    )
    margin = rcut * torch.linalg.vector_norm(normals, dim=1) / volume
    ranges: list[torch.Tensor] = []
    for k in range(3):
        reach = int(torch.ceil(margin[k]).item())
        ranges.append(torch.arange(-reach, reach + 1, dtype=torch.float64, device=cell.device))
    grid = torch.cartesian_prod(ranges[0], ranges[1], ranges[2])
    inside = (folded @ torch.linalg.inv(cell))[:, None, :] + grid[None, :, :]
    slack = 1e-6
    near = ((inside >= -margin - slack) & (inside <= 1.0 + margin + slack)).all(-1)
    found = torch.nonzero(near)
    return found[:, 0], grid[found[:, 1]]


def ranks(key: torch.Tensor, r2: torch.Tensor) -> torch.Tensor:
    """Rank by distance of every edge among those with the same key, from 0."""
    order = torch.argsort(r2, stable=True)
    order = order[torch.argsort(key[order], stable=True)]
    ordered = key[order]
    first = torch.searchsorted(ordered, ordered)
    out = torch.zeros_like(order)
    out[order] = torch.arange(order.shape[0], device=key.device) - first
    return out


def _kept(
    layout: str,
    ntypes: int,
    rcut: float,
    sel: list[int],
    nearest: int,
    excluded: list[int],
    i: torch.Tensor,
    j: torch.Tensor,
    atype: torch.Tensor,
    r2: torch.Tensor,
) -> torch.Tensor:
    """Numbers of the edges within the cutoff and ``sel`` that are not excluded."""
    most = nearest
    if most == 0:
        for s in sel:
            most += s
    kept = torch.nonzero((r2 <= rcut * rcut) & (r2 > 0.0)).reshape(-1)
    n = atype.shape[0]
    centre = i[kept]
    if bool((torch.bincount(centre, minlength=n) > most).any()):
        kept = kept[ranks(centre, r2[kept]) < most]
    types = atype[j[kept]]
    if layout == "typed":
        limit = torch.tensor(sel, dtype=torch.int64, device=i.device)
        key = i[kept] * ntypes + types
        counts = torch.bincount(key, minlength=n * ntypes).reshape(n, ntypes)
        if bool((counts > limit).any()):
            kept = kept[ranks(key, r2[kept]) < limit[types]]
            types = atype[j[kept]]
    if len(excluded) > 0:
        allowed = torch.ones((ntypes, ntypes), dtype=torch.bool, device=i.device)
        for k in range(len(excluded) // 2):
            allowed[excluded[2 * k], excluded[2 * k + 1]] = False
            allowed[excluded[2 * k + 1], excluded[2 * k]] = False
        kept = kept[allowed[atype[i[kept]], types]]
    return kept


def _table(kept: torch.Tensor, centre: torch.Tensor, n: int) -> torch.Tensor:
    """Lay edges, sorted by centre, out in rows (n, K), -1 where a row is short."""
    rows = centre[kept]
    counts = torch.bincount(rows, minlength=n)
    width = max(int(counts.max().item()), 1)
    table = torch.full((n * width,), -1, dtype=torch.int64, device=kept.device)
    column = torch.arange(kept.shape[0], device=kept.device) - (counts.cumsum(0) - counts)[rows]
    table[rows * width + column] = kept
    return table.reshape(n, width)


def _trim(table: torch.Tensor) -> torch.Tensor:
    """Drop the columns on the right that are empty, keeping at least one."""
    used = 1
    if table.shape[0] > 0:
        used = max(int((table >= 0).sum(1).max().item()), 1)
    return table[:, :used].contiguous()


def _angles(
    ntypes: int,
    rcut: float,
    sel: list[int],
    excluded: list[int],
    edge_rcut: float,
    edge_sel: int,
    i: torch.Tensor,
    j: torch.Tensor,
    atype: torch.Tensor,
    r2: torch.Tensor,
) -> list[torch.Tensor]:
    """All ordered pairs of edges of one centre, as positions in the flat list of the edges."""
    kept = _kept("flat", ntypes, edge_rcut, [edge_sel], 0, excluded, i, j, atype, r2)
    position = torch.full_like(i, -1)
    position[kept] = torch.arange(kept.shape[0], device=i.device)
    inner = _kept("angles", ntypes, rcut, sel, 0, excluded, i, j, atype, r2)
    inner = inner[r2[inner] < rcut * rcut]
    centre, where = i[inner], position[inner]
    counts = torch.bincount(centre, minlength=atype.shape[0])
    starts = counts.cumsum(0) - counts
    per_edge = counts[centre]
    first = torch.repeat_interleave(where, per_edge)
    begin = per_edge.cumsum(0) - per_edge
    offset = torch.arange(first.shape[0], device=i.device)
    offset = offset - torch.repeat_interleave(begin, per_edge)
    second = where[torch.repeat_interleave(starts[centre], per_edge) + offset]
    return [first, second]


def pack(
    layout: str,
    ntypes: int,
    rcut: float,
    sel: list[int],
    by_centre: bool,
    nearest: int,
    excluded: list[int],
    edge_rcut: float,
    edge_sel: int,
    i: torch.Tensor,
    j: torch.Tensor,
    atype: torch.Tensor,
    r2: torch.Tensor,
    frame: torch.Tensor,
) -> list[torch.Tensor]:
    """Make the slots of one packing; see :func:`deepmd.dpmodel.neighbors.pack`.

    Edges are sorted by centre, atoms by frame; there is at least one atom.
    """
    slots: list[torch.Tensor] = []
    if layout == "centres":
        for t in range(ntypes):
            slots.append(torch.nonzero(atype == t).reshape(-1))
        return slots
    if layout == "first_type":
        slots.append(atype[torch.searchsorted(frame, frame)])
        return slots
    if layout == "angles":
        return _angles(ntypes, rcut, sel, excluded, edge_rcut, edge_sel, i, j, atype, r2)
    kept = _kept(layout, ntypes, rcut, sel, nearest, excluded, i, j, atype, r2)
    if layout == "flat":
        slots.append(kept)
        return slots
    tables: list[torch.Tensor] = []
    if layout == "typed":
        types = atype[j[kept]]
        for t in range(ntypes):
            tables.append(_table(kept[types == t], i, atype.shape[0]))
    else:
        tables.append(_table(kept, i, atype.shape[0]))
    if not by_centre:
        return tables
    for t in range(ntypes):
        rows = torch.nonzero(atype == t).reshape(-1)
        slots.append(rows)
        for table in tables:
            slots.append(_trim(table[rows]))
    return slots
