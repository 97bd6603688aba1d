# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pairs of neighbors and their packing in TorchScript, as :mod:`deepmd.dpmodel.neighbors`."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from deepmd.dpmodel import neighbors


class Packing(NamedTuple):
    """As :class:`deepmd.dpmodel.neighbors.Packing`; excluded pairs in a row."""

    layout: str
    ntypes: int
    rcut: float
    sel: list[int]
    by_centre: bool
    exclude: list[int]
    nearest: int
    edge_rcut: float
    edge_sel: int


class Pairs(NamedTuple):
    """Edges, sorted by center, with vectors [Å] and squared lengths [Å²]; at least one atom, by frame."""

    i: torch.Tensor
    j: torch.Tensor
    atype: torch.Tensor
    frame: torch.Tensor
    vec: torch.Tensor
    r2: torch.Tensor


def frame_pairs(
    xyz: torch.Tensor,
    types: torch.Tensor,
    box: torch.Tensor | None,
    reach: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Places of centers and neighbors, and vectors, of all pairs of real atoms.

    Parameters
    ----------
    xyz : (n_frames, n_atoms, 3) [Å]
    types : (n_frames, n_atoms)
    box : (n_frames, 9), optional [Å]
    reach : float [Å]
    """
    i_parts: list[torch.Tensor] = []
    j_parts: list[torch.Tensor] = []
    vec_parts: list[torch.Tensor] = []
    for f in range(xyz.shape[0]):
        cell = torch.zeros((3, 3), dtype=torch.float64, device=xyz.device)
        if box is not None and box.numel() > 0:
            cell = box[f].to(torch.float64).reshape(3, 3)
        here = torch.nonzero(types[f] >= 0)[:, 0]
        i, j, vec = find_pairs(xyz[f][here], cell, reach)
        i_parts.append(here[i] + f * xyz.shape[1])
        j_parts.append(here[j] + f * xyz.shape[1])
        vec_parts.append(vec)
    return torch.cat(i_parts), torch.cat(j_parts), torch.cat(vec_parts)


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


def among_nearest(
    key: torch.Tensor, limit: torch.Tensor, edges: torch.Tensor, e: Pairs
) -> torch.Tensor:
    """Mark those of some edges, one ``limit`` per key, that are among the nearest of their key.

    Of equally far ones as :func:`deepmd.dpmodel.neighbors.pack` chooses.
    """
    tie, y, z = 1e-10, 0.7548776662466927, 0.5698402909980532  # TIE, TIE_DIRECTION
    r2 = e.r2[edges]
    order = torch.argsort(r2, stable=True)
    order = order[torch.argsort(key[order], stable=True)]
    ordered, most, r2 = key[order], limit[order], r2[order]
    first = torch.searchsorted(ordered, ordered)
    end = torch.searchsorted(ordered, ordered, right=True)
    last = torch.minimum((first + most - 1).clamp(min=0), end - 1)
    beyond = r2[torch.minimum(first + most, end - 1)]
    low, high = beyond * (1.0 - tie), beyond * (1.0 + tie)
    tied = (end - first > most) & (most > 0) & (r2[last] >= low) & (r2 >= low) & (r2 <= high)
    if bool(tied.any()):
        some, _ = torch.sort(order[tied])
        d = e.vec[edges[some]]
        some = some[torch.argsort(d[:, 0] + d[:, 1] * y + d[:, 2] * z, stable=True)]
        order[tied] = some[torch.argsort(key[some], stable=True)]
    marks = torch.zeros_like(order, dtype=torch.bool)
    marks[order] = torch.arange(order.shape[0], device=key.device) - first < most
    return marks


def _kept(p: Packing, e: Pairs) -> torch.Tensor:
    """Numbers of the edges within the cutoff and ``sel`` that are not excluded."""
    most = p.nearest
    if most == 0:
        for s in p.sel:
            most += s
    kept = torch.nonzero((e.r2 <= p.rcut * p.rcut) & (e.r2 > 0.0)).reshape(-1)
    n = e.atype.shape[0]
    center = e.i[kept]
    if bool((torch.bincount(center, minlength=n) > most).any()):
        kept = kept[among_nearest(center, torch.full_like(center, most), kept, e)]
    types = e.atype[e.j[kept]]
    if p.layout == "typed":
        limit = torch.tensor(p.sel, dtype=torch.int64, device=kept.device)
        key = e.i[kept] * p.ntypes + types
        counts = torch.bincount(key, minlength=n * p.ntypes).reshape(n, p.ntypes)
        if bool((counts > limit).any()):
            kept = kept[among_nearest(key, limit[types], kept, e)]
            types = e.atype[e.j[kept]]
    if len(p.exclude) > 0:
        allowed = torch.ones((p.ntypes, p.ntypes), dtype=torch.bool, device=kept.device)
        for k in range(0, len(p.exclude), 2):
            allowed[p.exclude[k], p.exclude[k + 1]] = False
            allowed[p.exclude[k + 1], p.exclude[k]] = False
        kept = kept[allowed[e.atype[e.i[kept]], types]]
    return kept


def _table(kept: torch.Tensor, center: torch.Tensor, n: int) -> torch.Tensor:
    """Lay edges, sorted by center, out in rows (n, K), -1 where a row is short."""
    rows = center[kept]
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


def _angles(p: Packing, e: Pairs) -> list[torch.Tensor]:
    """All ordered pairs of edges of one center, as positions in the flat list of the edges."""
    flat = Packing("flat", p.ntypes, p.edge_rcut, [p.edge_sel], False, p.exclude, 0, 0.0, 0)
    kept = _kept(flat, e)
    position = torch.full_like(e.i, -1)
    position[kept] = torch.arange(kept.shape[0], device=kept.device)
    inner = _kept(p, e)
    inner = inner[e.r2[inner] < p.rcut * p.rcut]
    center, where = e.i[inner], position[inner]
    counts = torch.bincount(center, minlength=e.atype.shape[0])
    starts = counts.cumsum(0) - counts
    per_edge = counts[center]
    first = torch.repeat_interleave(where, per_edge)
    begin = per_edge.cumsum(0) - per_edge
    offset = torch.arange(first.shape[0], device=first.device)
    offset = offset - torch.repeat_interleave(begin, per_edge)
    second = where[torch.repeat_interleave(starts[center], per_edge) + offset]
    return [first, second]


def pack(p: Packing, e: Pairs) -> list[torch.Tensor]:
    """Make the slots of one packing; see :func:`deepmd.dpmodel.neighbors.pack`."""
    slots: list[torch.Tensor] = []
    if p.layout == "centres":
        for t in range(p.ntypes):
            slots.append(torch.nonzero(e.atype == t).reshape(-1))
        return slots
    if p.layout == "first_type":
        return [e.atype[torch.searchsorted(e.frame, e.frame)]]
    if p.layout == "angles":
        return _angles(p, e)
    kept = _kept(p, e)
    if p.layout == "flat":
        return [kept]
    tables: list[torch.Tensor] = []
    if p.layout == "typed":
        types = e.atype[e.j[kept]]
        for t in range(p.ntypes):
            tables.append(_table(kept[types == t], e.i, e.atype.shape[0]))
    else:
        tables.append(_table(kept, e.i, e.atype.shape[0]))
    if not p.by_centre:
        return tables
    for t in range(p.ntypes):
        rows = torch.nonzero(e.atype == t).reshape(-1)
        slots.append(rows)
        for table in tables:
            slots.append(_trim(table[rows]))
    return slots


def pack_all(
    layouts: list[str],
    ntypes: int,
    rcuts: list[float],
    sels: list[list[int]],
    grouped: list[bool],
    excluded: list[list[int]],
    nearest: list[int],
    edge_rcuts: list[float],
    edge_sels: list[int],
    pairs: Pairs,
) -> list[torch.Tensor]:
    """Make the slots of all packings, whose settings are :func:`packing_lists`."""
    slots: list[torch.Tensor] = []
    for k in range(len(layouts)):
        packing = Packing(
            layouts[k],
            ntypes,
            rcuts[k],
            sels[k],
            grouped[k],
            excluded[k],
            nearest[k],
            edge_rcuts[k],
            edge_sels[k],
        )
        slots += pack(packing, pairs)
    return slots


def packing_lists(packings: Sequence[neighbors.Packing]) -> dict[str, list[Any]]:
    """Return the settings of packings as lists, which modules of TorchScript hold as attributes."""
    return {
        "layouts": [p.layout for p in packings],
        "rcuts": [float(p.rcut) for p in packings],
        "sels": [[int(n) for n in p.sel] for p in packings],
        "grouped": [bool(p.by_centre) for p in packings],
        "nearest": [int(p.nearest) for p in packings],
        "excluded": [[int(t) for pair in p.exclude for t in pair] for p in packings],
        "edge_rcuts": [float(p.edge_rcut) for p in packings],
        "edge_sels": [int(p.edge_sel) for p in packings],
    }
