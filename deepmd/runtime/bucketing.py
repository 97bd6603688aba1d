# SPDX-License-Identifier: LGPL-3.0-or-later
"""Few shapes for many batches, for frameworks that compile one program per shape of the arguments.

Sizes are rounded up. Added atoms belong to frames after the real ones, of which there is at least
one; added edges lead from the last atom to itself, are as long as the cutoff and in no table. None
of them changes a number of the real frames. The padded sizes depend on the batch and on constants
of the run only, never on what came before, so that a restarted run does what the first one did.
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel.batch import Batch, widened
from deepmd.dpmodel.loss import Labels, Loss
from deepmd.dpmodel.model import Inputs, Model, prepare
from deepmd.dpmodel.neighbors import Overflow, Packing, slot_kinds

log = logging.getLogger(__name__)

TABLE_STEP = 4


def ladder(n: int) -> int:
    """Round up to 4, 8, 12, 16, 20, …, 32, 40, …, 64, 80, …: four rungs per doubling."""
    step = max(4, 1 << max((n - 1).bit_length() - 3, 0)) if n > 0 else 4
    return max(-(-n // step) * step, 4)


def round_width(n: int) -> int:
    """Round the width of a table up to a multiple of 4."""
    return -(-n // TABLE_STEP) * TABLE_STEP


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of the arrays of a batch, padded or not.

    Attributes
    ----------
    frames, edges : int
    types : tuple of int
        Atoms of each type; of all types together when no slot lists the atoms of a type.
    widths : tuple of int
        Columns of the neighbor tables, in the order of the slots.
    flat, angles : tuple of int
        Lengths of the lists of edges, and of positions in them.
    """

    frames: int
    edges: int
    types: tuple[int, ...]
    widths: tuple[int, ...]
    flat: tuple[int, ...] = ()
    angles: tuple[int, ...] = ()

    @property
    def atoms(self) -> int:
        """Number of atoms."""
        return sum(self.types)

    def join(self, other: "Sizes") -> "Sizes":
        """Return the larger of each size."""

        def most(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(max(pair) for pair in zip(a, b, strict=True))

        return Sizes(
            max(self.frames, other.frames),
            max(self.edges, other.edges),
            most(self.types, other.types),
            most(self.widths, other.widths),
            most(self.flat, other.flat),
            most(self.angles, other.angles),
        )


def sizes_of(inputs: Inputs, packings: Sequence[Packing], n_frames: int, ntypes: int) -> Sizes:
    """Return the sizes of a batch as it is."""
    kinds = [slot.kind for slot in slot_kinds(packings)]

    def lengths(wanted: str, axis: int) -> tuple[int, ...]:
        pairs = zip(inputs.slots, kinds, strict=True)
        return tuple(slot.shape[axis] for slot, kind in pairs if kind == wanted)

    # A descriptor may know more types than the model, see deepmd.dpmodel.type_map.
    counts = np.bincount(inputs.atype, minlength=max([ntypes, *(p.ntypes for p in packings)]))
    return Sizes(
        n_frames,
        len(inputs.i),
        tuple(counts.tolist()) if "rows" in kinds else (len(inputs.atype),),
        lengths("table", 1),
        lengths("flat", 0),
        lengths("angle", 0),
    )


def round_sizes(
    sizes: Sizes,
    packings: Sequence[Packing],
    *,
    widths: Sequence[int] | None = None,
    coarse: bool = False,
) -> Sizes:
    """Round sizes up.

    Parameters
    ----------
    sizes : Sizes
    packings : sequence of Packing
    widths : sequence of int, optional
        Constant widths of the tables; a batch that needs more falls back to rounding.
    coarse : bool
        Round widths to a power of two, instead of to a multiple of 4: SavedModels, for which
        every shape that is met in a simulation is compiled anew.
    """
    limits = [slot.sel for slot in slot_kinds(packings) if slot.kind == "table"]
    if widths is not None and len(widths) != len(limits):
        raise InputError(f"{len(widths)} widths given for {len(limits)} neighbor tables")
    rounded = []
    for k, (need, limit) in enumerate(zip(sizes.widths, limits, strict=True)):
        up = max(4, 1 << (need - 1).bit_length()) if coarse else round_width(need)
        up = max(need, min(up, limit))
        rounded.append(int(widths[k]) if widths is not None and widths[k] >= need else up)
    # One frame more, for the atoms of padding; one edge more, for lists of edges to end with; and
    # one entry more in these, for lists of angles to end with.
    return Sizes(
        ladder(sizes.frames + 1),
        ladder(sizes.edges + 1),
        tuple(map(ladder, sizes.types)),
        tuple(rounded),
        tuple(ladder(n + 1) for n in sizes.flat),
        tuple(map(ladder, sizes.angles)),
    )


def _rows(x: np.ndarray, n: int, value: float = 0) -> np.ndarray:
    """Add rows of ``value`` until there are ``n``."""
    out = np.full((n, *x.shape[1:]), value, dtype=x.dtype)
    out[: len(x)] = x
    return out


def pad_inputs(
    inputs: Inputs, packings: Sequence[Packing], n_frames: int, to: Sizes, rcut: float
) -> Inputs:
    """Add atoms, edges, frames and empty slots until the sizes are ``to``.

    Parameters
    ----------
    inputs : Inputs
    packings : sequence of Packing
    n_frames : int
        Frames there are; the added atoms go to the next one.
    to : Sizes
    rcut : float
        Length [Å] of the added edges.
    """
    n, n_edges = len(inputs.atype), len(inputs.i)
    if len(to.types) == 1:
        added = np.zeros(to.atoms - n, np.int64)
    else:
        counts = np.bincount(inputs.atype, minlength=len(to.types))
        added = np.repeat(np.arange(len(to.types)), np.asarray(to.types) - counts)
    atype = np.concatenate([inputs.atype, added])
    vec = _rows(inputs.vec, to.edges)
    vec[n_edges:, 0] = rcut
    widths, flat, angles = iter(to.widths), iter(to.flat), iter(to.angles)
    slots: list[Any] = []
    for have, (kind, t, _, source) in zip(inputs.slots, slot_kinds(packings), strict=True):
        if kind == "rows":
            slots.append(np.flatnonzero(atype == t))
        elif kind == "atoms":
            slots.append(_rows(have, to.atoms))
        elif kind == "flat":
            slots.append(_rows(have, next(flat), to.edges - 1))
        elif kind == "angle":
            slots.append(_rows(have, next(angles), to.flat[source] - 1))
        else:
            table = np.full((to.types[t] if t >= 0 else to.atoms, next(widths)), -1, np.int64)
            table[: have.shape[0], : have.shape[1]] = have
            slots.append(table)
    return Inputs(
        vec,
        _rows(inputs.i, to.edges, to.atoms - 1),
        _rows(inputs.j, to.edges, to.atoms - 1),
        atype,
        np.concatenate([inputs.frame, np.full(len(atype) - n, n_frames, np.int64)]),
        {k: _rows(v, to.frames) for k, v in inputs.frame_inputs.items()},
        {k: _rows(v, to.atoms) for k, v in inputs.atom_inputs.items()},
        slots,
    )


def pad_labels(batch: Batch, loss: Loss, to: Sizes) -> Labels:
    """Return the labels a loss asks for, padded; frames of padding have weight 0."""
    n = batch.n_frames
    values, find = {}, {}
    for label in loss.label_requirements():
        # Ones keep relative errors of the padding finite.
        rows, value = to.atoms if label.atomic else to.frames, batch.labels[label.name]
        if label.pairwise:
            value = widened(value, 9 * ladder(value.shape[1] // 9))
        values[label.name] = _rows(value, rows, 1.0)
        find[label.name] = np.float64(batch.find.get(label.name, 1.0))
    frame = np.concatenate([batch.frame, np.full(to.atoms - batch.n_atoms, n, np.int64)])
    return Labels(
        values,
        find,
        _rows(batch.natoms.astype(np.float64), to.frames, 1.0),
        frame,
        _rows(np.ones(n) if batch.weight is None else batch.weight, to.frames),
    )


class Bucketing:
    """Pads the batches of one model and counts the shapes it has made.

    Parameters
    ----------
    model : Model
    widths : sequence of int, optional
        See :func:`round_sizes`.
    name : str
        What the log calls it.
    before_program : function, optional
        Called before each compilation.
    common : function, optional
        Gives the sizes that serve the batches of all processes of a training.
    """

    def __init__(
        self,
        model: Model,
        widths: Sequence[int] | None = None,
        *,
        name: str = "model",
        before_program: Callable[[], object] | None = None,
        common: Callable[[Sizes], Sizes] | None = None,
    ) -> None:
        self.packings, self.rcut = model.packings(), model.rcut
        self.ntypes, self.expand = model.atomic_model.ntypes, model.expand
        self.widths, self.name, self.before_program = widths, name, before_program
        self.names, self.common = model.predict_names(), common
        self.seen: set[Any] = set()

    def prepare(self, batch: Batch, overflow: Overflow | None = None) -> tuple[Inputs, Sizes]:
        """Compute vectors and slots of a batch, and pad them."""
        inputs = prepare(self.expand(batch), self.packings, overflow).only(self.names)
        sizes = sizes_of(inputs, self.packings, batch.n_frames, self.ntypes)
        to = round_sizes(sizes, self.packings, widths=self.widths)
        if self.common is not None:
            to = self.common(to)
        return pad_inputs(inputs, self.packings, batch.n_frames, to, self.rcut), to

    def count(self, *key: Any) -> None:
        """Note the shape of a call; a new one is a compilation, which the log shows."""
        if key not in self.seen:
            self.seen.add(key)
            if self.before_program is not None:
                self.before_program()
            log.info("%s: compiling program %d for %s", self.name, len(self.seen), key)
