# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptor of the neighbors' positions in a frame that two neighbors span.

Zhang et al., "Deep potential molecular dynamics: a scalable model with the accuracy of quantum
mechanics", Phys. Rev. Lett. 120, 143001 (2018).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.construction import claim
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.descriptor.environment import moments
from deepmd.dpmodel.descriptor.typed import TypedNeighbors
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import pack
from deepmd.dpmodel.nn.random import Seed
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.common import POSITIVE, Rule
from deepmd.schema.settings import setting

#: A second axis with a cosine this close to -1 is replaced by the next one.
ANTIPARALLEL = 1e-4
#: How many neighbors of each type compete for an axis of "any type but one".
CANDIDATES = 3
#: Distance [Å] by which empty slots are sorted: behind everything.
FAR = 1e30
COUNTS = Rule(
    lambda v: bool(v) and all(isinstance(n, int) and n >= 0 for n in v),
    "must be a list of numbers, 0 or more, one per type",
)


@Descriptor.register("loc_frame")
class DescrptLocFrame(TypedNeighbors):
    r"""Neighbors sorted by type and distance, ``(1/r, z'/r², x'/r², y'/r²)`` or ``1/r`` of each.

    The axes of an atom's frame point to two of its neighbors: ``e1 ∥ d_a``, ``e2`` along the part
    of ``d_b`` across ``e1``, ``e3 = e1 × e2``; ``x' = d·e1``, and so on. Where a neighbor that
    spans the frame is missing, components along the axes that it defines are 0.

    There is no switch, and the order of the neighbors matters: the energy jumps when a neighbor
    crosses the cutoff, and when two of them change places.
    """

    serial = Serial(
        layout="@class type @version sel_a sel_r rcut axis_rule @variables type_map",
        name="Descriptor",
        type="loc_frame",
        buffers=("davg", "dstd"),
    )

    sel_a: list[int] = setting(
        ..., "Nearest neighbors of each type that give distance and direction.", rule=COUNTS
    )
    sel_r: list[int] = setting(
        ..., "Further neighbors of each type, which give their distance only.", rule=COUNTS
    )
    axis_rule: list[int] = setting(
        ...,
        "Six numbers per type: list (0: sel_a, 1: sel_r), type and place of the neighbor the "
        "first axis points to, and the same of the second. Type -(k + 1): any but k.",
    )
    rcut: float = setting(6.0, "Cutoff radius, Å.", rule=POSITIVE)
    seed: Seed = setting(None, "No numbers are drawn here.", key=False)
    sorts_neighbors = True

    def build(self) -> None:
        self.rcut_smth = self.rcut  # no switch
        check_lengths(self.sel_a, self.sel_r, self.axis_rule)
        claim(self.ntypes, self.dim_out)
        self.davg = np.zeros((self.ntypes, self.dim_out))
        self.dstd = np.ones((self.ntypes, self.dim_out))

    @property
    def sel(self) -> list[int]:  # type: ignore[override]
        """Neighbors of each type, those with and without direction together."""
        return [a + r for a, r in zip(self.sel_a, self.sel_r, strict=True)]

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return len(self.sel_a)

    @property
    def dim_out(self) -> int:
        """Width of the descriptor."""
        return 4 * sum(self.sel_a) + sum(self.sel_r)

    def call(self, atoms: Atoms, slots: Slots) -> DescriptorOutput:
        """Evaluate the descriptor of every atom: value (n_atoms, dim_out)."""
        parts = []
        for a, rows, tables in self.groups(atoms, slots):
            mean, std = self.davg[a : a + 1], self.dstd[a : a + 1]
            value = (self.rows(a, atoms, tables) - mean) / std
            parts.append((rows, DescriptorOutput(value)))
        return self.assemble(atoms, parts)

    def rows(self, a: int, atoms: Atoms, tables: Sequence[Any]) -> Any:
        """Descriptor (n, dim_out) of centers of type a before it is normalized."""
        space = ops.xp(atoms.padded)
        nearest = [self.ordered(atoms, table, n) for table, n in zip(tables, self.sel, strict=True)]
        full = [table[:, :n] for table, n in zip(nearest, self.sel_a, strict=True)]
        radial = [table[:, n:] for table, n in zip(nearest, self.sel_a, strict=True)]
        e1, e2, e3 = self.axes(a, atoms, (full, radial))
        d, inverse, there = self.vectors(atoms, space.concat(full, axis=1))
        along = [space.sum(d * e[:, None, :], axis=-1, keepdims=True) for e in (e3, e1, e2)]
        weight = there * inverse * inverse
        four = space.concat([there * inverse, *(weight * x for x in along)], axis=-1)
        four = space.reshape(four, (ops.shape(four)[0], 4 * sum(self.sel_a)))
        _, inverse, there = self.vectors(atoms, space.concat(radial, axis=1))
        return space.concat([four, (there * inverse)[:, :, 0]], axis=1)

    @staticmethod
    def vectors(atoms: Atoms, table: Any) -> tuple[Any, Any, Any]:
        """Vectors (n, k, 3) [Å] of a table, inverse lengths and whether they exist (n, k, 1)."""
        space = ops.xp(atoms.padded)
        d = ops.take(atoms.padded, table)
        inverse = 1.0 / space.sqrt(space.sum(d * d, axis=-1, keepdims=True))
        return d, inverse, ops.cast(table >= 0, "float64")[:, :, None]

    @staticmethod
    def ordered(atoms: Atoms, table: Any, n: int) -> Any:
        """Return the n nearest of a table (m, k) in the order of their distance, -1 where empty."""
        space = ops.xp(atoms.padded)
        none = space.broadcast_to(0 * table[:, :1] - 1, (ops.shape(table)[0], n))
        table = space.concat([table, none], axis=1)
        d = ops.take(ops.stop_gradient(atoms.padded), table)
        r2 = space.sum(d * d, axis=-1)
        return ops.sorted_rows(space.where(table < 0, 0.0 * r2 + FAR, r2), table)[:, :n]

    # -- the frame ----------------------------------------------------------------------------

    def axes(self, a: int, atoms: Atoms, lists: tuple[list[Any], list[Any]]) -> tuple[Any, ...]:
        """Unit vectors e1, e2, e3 of the frame, (n, 3) each; 0 where a neighbor is missing."""
        space = ops.xp(atoms.padded)
        rule = self.axis_rule[6 * a : 6 * a + 6]
        d1, inverse, there = self.vectors(atoms, self.candidates(atoms, lists, rule[:3])[:, :1])
        e1 = (d1 * inverse * there)[:, 0, :]

        chosen = self.candidates(atoms, lists, rule[3:])
        d, inverse, _ = self.vectors(atoms, chosen[:, :1])
        cosine = space.sum(d * e1[:, None, :] * inverse, axis=-1)
        opposite = space.abs(cosine + 1.0) < ANTIPARALLEL
        chosen = space.where(opposite, chosen[:, 1:], chosen[:, :1])
        d2, _, there2 = self.vectors(atoms, chosen)
        d2 = d2[:, 0, :]
        across = d2 - space.sum(d2 * e1, axis=-1, keepdims=True) * e1
        squared = space.sum(across * across, axis=-1, keepdims=True)
        # On one line with the first axis there is no direction to take.
        spans = squared > 1e-20
        length = space.sqrt(space.where(spans, squared, 0.0 * squared + 1.0))
        both = there[:, 0, :] * there2[:, 0, :] * ops.cast(spans, "float64")
        e2 = across / length * both
        return e1, e2, cross(e1, e2)

    def candidates(
        self, atoms: Atoms, lists: tuple[list[Any], list[Any]], rule: Sequence[int]
    ) -> Any:
        """Neighbor (n, 2) that a rule (list, type, place) names, and the one after it."""
        space = ops.xp(atoms.padded)
        kind, t, place = rule
        if t >= 0:
            table = lists[kind][t]
            if kind == 0:  # the nearest without direction follow
                table = space.concat([table, lists[1][t]], axis=1)
        else:
            others = [x[:, :CANDIDATES] for k, x in enumerate(lists[kind]) if k != -t - 1]
            table = space.concat(others, axis=1)
        return self.ordered(atoms, table, place + 2)[:, place:]

    def change_types(self, change: TypeChange) -> np.ndarray:
        """Reorder types and components; see :class:`Descriptor`."""
        change = self.adopt(change)
        index = change.index.tolist()
        parts = np.split(
            np.arange(self.dim_out),
            np.cumsum([*(4 * n for n in self.sel_a), *self.sel_r])[:-1],
        )
        order = np.concatenate([parts[t + k] for k in (0, len(index)) for t in index])
        rules = np.reshape(self.axis_rule, (-1, 2, 3))[index]  # (types, axes, list type place)
        named = rules[:, :, 1]
        place = np.argsort(index)
        rules[:, :, 1] = np.where(named < 0, -1 - place[-1 - named], place[named])
        self.axis_rule = rules.reshape(-1).tolist()
        for name in ("sel_a", "sel_r"):
            setattr(self, name, [getattr(self, name)[t] for t in index])
        for name in ("davg", "dstd"):
            setattr(self, name, getattr(self, name)[index][:, order])
        return order

    # -- statistics: mean and deviation of every component -------------------------------------

    def statistics_key(self) -> dict[str, Any]:
        """Return what the statistics depend on."""
        return {
            "type": f"loc_frame {self.sel_a} {self.axis_rule}",
            "ntypes": self.ntypes,
            "rcut": round(self.rcut, 2),
            "rcut_smth": round(self.rcut_smth, 2),
            "nsel": sum(self.sel),
            "sel": self.sel,
            "mixed_types": False,
        }

    def environment_sums(self, batch: Batch) -> dict[str, np.ndarray]:
        """Sum descriptors by center type: number, sum and sum of squares, (dim_out, 3) each."""
        vec = batch.vectors()
        padded = np.concatenate([vec, [[self.rcut, 0.0, 0.0]]])
        atoms = Atoms(padded, batch.edges.i, batch.edges.j, batch.atype, batch.frame)
        tables = pack(self.packings(), batch.edges, batch.atype, vec)
        sums = {}
        for a, _, part in self.groups(atoms, {self.packing: tables}):
            raw = self.rows(a, atoms, part)
            count = np.full(self.dim_out, float(len(raw)))
            sums[f"frame_{a}"] = np.stack([count, raw.sum(axis=0), (raw * raw).sum(axis=0)], axis=1)
        return sums

    def set_statistics(self, sums: Mapping[str, np.ndarray]) -> None:
        """Set ``davg`` and ``dstd`` from the sums of all sampled frames."""
        for t in range(self.ntypes):
            found = [moments(row) for row in sums[f"frame_{t}"]]
            self.davg[t], self.dstd[t] = np.array(found).T


def cross(a: Any, b: Any) -> Any:
    """Vector product of (n, 3) and (n, 3)."""
    x, y = ([v[:, k : k + 1] for k in range(3)] for v in (a, b))
    parts = [x[k - 2] * y[k - 1] - x[k - 1] * y[k - 2] for k in range(3)]
    return ops.xp(a).concat(parts, axis=1)


def check_lengths(sel_a: list[int], sel_r: list[int], rules: list[int]) -> None:
    """Raise InputError if the lists do not fit each other, or an axis does not exist."""
    where = "model/descriptor"
    n = len(sel_a)
    if len(sel_r) != n or len(rules) != 6 * n:
        raise InputError(
            f"{n} types in sel_a, {len(sel_r)} in sel_r and {len(rules)} numbers in axis_rule",
            where=where,
            fix="give one number per type, and six per type in axis_rule",
        )
    for k in range(0, len(rules), 3):
        kind, t, place = rules[k : k + 3]
        slots = (sel_a, sel_r)[kind] if kind in (0, 1) else []
        allowed = slots[t] if 0 <= t < len(slots) else 0
        if -n <= t < 0 and slots:
            allowed = sum(min(m, CANDIDATES) for u, m in enumerate(slots) if u != -t - 1)
        if not 0 <= place < allowed:
            raise InputError(
                f"axis {1 + k // 3 % 2} of type {k // 6}, {[kind, t, place]}, is no neighbor",
                where=f"{where}/axis_rule",
                fix="list 0 or 1, a type, and a place below its number in sel_a or sel_r",
            )
