# SPDX-License-Identifier: LGPL-3.0-or-later
"""One system on disk: frames by number, whatever the storage and the layout."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, InputError, did_you_mean
from deepmd.base.reading import shown
from deepmd.data.path import DPPath
from deepmd.data.storage import FrameArray, count_frames
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import Label, check_charge_spin

COORD = Label("coord", 3, True, required=True)
BOX = Label("box", 9, False, required=True)
#: Types of the atoms of every frame; the layout with them is called mixed.
TYPES = Label("real_atom_types", 1, True, required=True)
MIXED_FILE = f"{TYPES.name}.npy"
#: Labels that are fields of a batch of their own.
FIELDS = ("fparam", "aparam", "spin", "charge_spin")
#: Beyond this [Å] a number has less than a digit left after the point.
_FARTHEST = 1e15
#: Numbers that are read at once where all frames are looked at.
_PORTION = 1 << 17


def _are_types(raw: np.ndarray) -> bool:
    """Return whether numbers can be types, or -1; NaN and what no integer holds are neither."""
    return bool(((raw >= -1) & (raw < 1 << 31)).all())


class System:
    """Frames that lie in one NumPy folder or HDF5 group.

    Opening reads ``type.raw``, ``type_map.raw`` and the headers of the coordinates. Everything else
    is read, and checked, when frames are asked for.

    Parameters
    ----------
    path : str or DPPath
        Folder, or ``file.hdf5#/group``.
    type_map : sequence of str, optional
        The model's types. With a ``type_map.raw`` types are renumbered by name.

    Attributes
    ----------
    path : str
    natoms : int
        Atoms per frame; in the mixed layout with the virtual ones.
    nframes : int
    type_map : list of str or None
        What the types mean: the model's list, else the data's own.
    periodic : bool
    mixed : bool
        Whether frames have their own types (``real_atom_types.npy``).
    atype : (natoms,) int64
        Types in the model's numbering; all zero in the mixed layout.
    numbers : (int, int)
        First and last of the systems of the input that the frames belong to, as ``auto_prob`` counts
        them; set by :func:`deepmd.data.search.open_systems`.
    """

    numbers = (0, 0)
    #: What has the types of a mixed system.
    types_name = MIXED_FILE

    def __init__(self, path: str | DPPath, *, type_map: Sequence[str] | None = None) -> None:
        self.root = path if isinstance(path, DPPath) else DPPath(path)
        self.path = str(self.root)
        if not (self.root / "type.raw").is_file():
            raise DataError(
                "no type.raw here", where=self.path, fix="give the folder of a system (data format)"
            )
        self.sets = self._find_sets()
        self.periodic = not (self.root / "nopbc").exists()
        marks = [(s / MIXED_FILE).is_file() for s in self.sets]
        self.mixed = all(marks)
        if any(marks) and not self.mixed:
            raise DataError(
                f"{MIXED_FILE} is in some sets only",
                where=self.sets[marks.index(False)],
                fix="every set of a mixed-type system needs it",
            )
        raw = self._read_types()
        self.natoms = len(raw)
        self._remap, self.type_map = self._read_type_map(type_map)
        self.atype = raw if self.mixed else self._map_types(raw, self.root / "type.raw")
        self.counts = [count_frames(s / "coord.npy", self.natoms) for s in self.sets]
        self._frames = np.arange(sum(self.counts))  # those in use, as they are counted on disk
        self._arrays: dict[Label, FrameArray | None] = {}

    def __repr__(self) -> str:
        return f"System({self.path!r}, {self.nframes} frames, {self.natoms} atoms)"

    @property
    def nframes(self) -> int:
        """Number of frames in use."""
        return len(self._frames)

    def keep(self, frames: Sequence[int] | np.ndarray) -> None:
        """Leave all other frames out; those that are left get new numbers."""
        self._frames = self._frames[np.asarray(frames)]

    # What is there

    def _find_sets(self) -> list[DPPath]:
        sets = [s for s in self.root.glob("set.*") if s.is_dir()]
        if not sets:
            raise DataError(
                "no set.* folder here", where=self.path, fix="put the frames into set.000"
            )
        for s in sets:
            if not (s / "coord.npy").is_file():
                raise DataError(
                    "coord.npy is missing",
                    where=s,
                    fix="every set needs one; complete or remove it",
                )
        return sets

    def _read_types(self) -> np.ndarray:
        where = self.root / "type.raw"
        words = where.read_words()
        bad = next((w for w in words if not w.isdecimal() or len(w) > 9), None)
        if bad is not None or not words:
            found = f'"{shown(bad or "")}"' if words else "nothing"
            raise DataError(
                f"found {found}, expected one integer >= 0 per atom",
                where=where,
                fix="write type numbers; names belong in type_map.raw",
            )
        return np.array(words, dtype=np.int64)

    def _read_type_map(self, wanted: Sequence[str] | None) -> tuple[np.ndarray, list[str] | None]:
        """Return the number in the model of each type of the data, and the names."""
        where = self.root / "type_map.raw"
        if where.is_file():
            return match_types(where.read_words(), wanted, where)
        if self.mixed:
            raise DataError(
                "missing; a mixed-type system needs it",
                where=where,
                fix="write the names of the types",
            )
        known = None if wanted is None else list(wanted)
        return np.arange(1 << 16 if known is None else len(known)), known

    def _map_types(self, raw: np.ndarray, where: DPPath | str) -> np.ndarray:
        """Renumber types; -1 stays."""
        if raw.max(initial=-1) >= len(self._remap):
            raise DataError(
                f"found type {raw.max()}, but there are {len(self._remap)} names in the type map",
                where=where,
                fix="complete type_map.raw, or the model's type_map",
            )
        return np.where(raw < 0, -1, self._remap[np.maximum(raw, 0)]).astype(np.int64)

    # Types

    def frame_types(self, frames: Sequence[int] | np.ndarray) -> np.ndarray:
        """Types of frames, (len(frames), natoms), virtual atoms -1."""
        return self._types(self._frames[np.asarray(frames, dtype=np.int64)])

    def _types(self, frames: np.ndarray) -> np.ndarray:
        """Types of frames as they are counted on disk."""
        if not self.mixed:
            return np.broadcast_to(self.atype, (len(frames), self.natoms))
        raw, where = self._read(TYPES, frames), f"{self.path}: {self.types_name}"
        if raw is None or (raw != np.round(raw)).any() or not _are_types(raw):
            raise DataError(
                "expected integers >= -1 (-1: no atom)",
                where=where,
                fix="write type numbers",
            )
        types = self._map_types(raw.astype(np.int64), where)
        empty = (types < 0).all(axis=1)
        if empty.any():
            raise DataError(
                f"frame {frames[empty][0]} has no real atom", where=self.path, fix="remove it"
            )
        return types

    def count_types(self, ntypes: int) -> np.ndarray:
        """Atoms of each type: (nframes, ntypes) in the mixed layout, else (1, ntypes)."""
        parts = [np.zeros((0, ntypes), dtype=np.int64)]
        for frames in _ranges(self.nframes if self.mixed else 1):
            types = self.frame_types(frames)
            if types.max() >= ntypes:
                raise DataError(
                    f"type {types.max()} found, but the model has {ntypes} types",
                    where=self.path,
                    fix="complete the model's type_map",
                )
            parts.append(np.stack([(types == t).sum(axis=1) for t in range(ntypes)], axis=1))
        return np.concatenate(parts)

    # Frames

    def check(self, labels: Sequence[Label]) -> dict[str, bool]:
        """Look at every file's presence, type and shape without reading it; say what is there."""
        for label in (COORD, *[BOX] * self.periodic, *[TYPES] * self.mixed):
            self._array(label)
        return {label.name: self._array(label) is not None for label in labels}

    def scan(self, labels: Sequence[Label]) -> None:
        """Read every frame once, so that none can fail later; see :meth:`load` for the errors."""
        for frames in self._portions(labels):
            self.load(frames, labels)

    def _portions(self, labels: Sequence[Label]) -> list[np.ndarray]:
        """Cut the frames into pieces that fit into the caches of a processor, about."""
        n = self.natoms
        width = 3 * n + 9
        for label in labels:
            width += (3 * n) ** 2 if label.pairwise else label.size * (n if label.atomic else 1)
        return _ranges(self.nframes, max(1, _PORTION // width))

    def load(self, frames: Sequence[int] | np.ndarray, labels: Sequence[Label] = ()) -> Batch:
        """Read frames, virtual atoms dropped, in the order of ``frames``; edges are left out.

        Raises
        ------
        DataError
            If a file is missing, short, of a wrong shape or type, or has a NaN.
        """
        wanted = np.asarray(frames, dtype=np.int64)
        if len(wanted) == 0 or wanted.min() < 0 or wanted.max() >= self.nframes:
            raise InputError(
                f"frames {wanted.tolist()[:5]} asked for, there are {self.nframes}", where=self.path
            )
        frames = self._frames[wanted]
        types = self._types(frames)
        real = types >= 0
        natoms = real.sum(axis=1)
        coord: Any = self._read(COORD, frames)
        cell = self._read_cells(frames)
        self._check_cells(cell, frames)
        self._check_places(coord, frames)
        batch = Batch(
            coord=coord.reshape(*real.shape, 3)[real],
            cell=cell,
            periodic=np.abs(cell).max(axis=(1, 2)) > 0,
            atype=types[real],
            frame=np.repeat(np.arange(len(frames)), natoms),
            natoms=natoms.astype(np.int64),
        )
        for label in labels:
            values, found = self._load_label(label, frames, types)
            if label.name == "charge_spin":
                check_charge_spin(values, f"{self.path}: charge_spin", frames)
            if label.name in FIELDS:
                setattr(batch, label.name, values)
            else:
                batch.labels[label.name] = values
            batch.find[label.name] = found
        return batch

    def _read_cells(self, frames: np.ndarray) -> np.ndarray:
        """Cells (len(frames), 3, 3), zero for open boundaries."""
        cell = self._read(BOX, frames) if self.periodic else None
        return np.zeros((len(frames), 3, 3)) if cell is None else cell.reshape(-1, 3, 3)

    def _check_places(self, coord: np.ndarray, frames: np.ndarray) -> None:
        far = np.abs(coord).reshape(len(frames), -1).max(axis=1) > _FARTHEST
        if far.any():
            raise DataError(
                f"a coordinate of frame {frames[far][0]} is absurdly large",
                where=self.path,
                fix="remove or recompute the frame",
            )

    def _check_cells(self, cell: np.ndarray, frames: np.ndarray) -> None:
        far = np.abs(cell).max(axis=(1, 2)) > _FARTHEST
        if far.any():
            raise DataError(
                f"the cell of frame {frames[far][0]} is absurdly large",
                where=self.path,
                fix="remove or recompute the frame",
            )
        length = np.linalg.norm(cell, axis=2).prod(axis=1)
        with np.errstate(all="ignore"):  # subnormal numbers, which damaged files hold
            flat = (length > 0) & ~(np.abs(np.linalg.det(cell)) >= 1e-8 * length)
        flat |= (length == 0) & (np.abs(cell).max(axis=(1, 2)) > 0)
        if flat.any():
            raise DataError(
                f"the cell of frame {frames[flat][0]} has no volume",
                where=self.path,
                fix="box.npy holds xx xy xz yx yy yz zx zy zz",
            )

    # Labels

    def _array(self, label: Label) -> FrameArray | None:
        if label not in self._arrays:
            self._arrays[label] = self._open_label(label)
        return self._arrays[label]

    def _open_label(self, label: Label) -> FrameArray | None:
        """Find the files of a label, checking that all sets or none have it."""
        names, advice = label.file_names(), None
        if label is BOX:
            advice = "add it, or for open boundaries an empty file nopbc beside type.raw"
        found = [
            next((s / f"{n}.npy" for n in names if (s / f"{n}.npy").is_file()), None)
            for s in self.sets
        ]
        files = [f for f in found if f is not None]
        if not files:
            if label.required:
                raise DataError(
                    f"{' or '.join(n + '.npy' for n in names)} is missing",
                    where=self.sets[0],
                    fix=advice or "add it, or leave out the term that needs it",
                )
            return None
        if len(files) < len(found):
            raise DataError(
                f"{files[0].name} is missing here but present in {files[0].parent.name}",
                where=self.sets[found.index(None)],
                fix=advice or "complete it, or make a system of its own of this set",
            )
        n, size, hint = self.natoms, label.size, None
        if label.pairwise:
            widths, meaning = [(3 * n) ** 2], f"(3 x {n} atoms)²"
        elif label.atomic:
            widths, meaning = [n * size], f"{n} atoms x {size}"
            hint = (
                "one value per atom is needed; a file of values per frame belongs to another name"
            )
            if label.sel_type is not None and not self.mixed:
                nsel = int(np.isin(self.atype, label.sel_type).sum())
                widths.append(nsel * size)
                meaning += f" (or {nsel} selected atoms x {size})"
        else:
            widths, meaning = [size], str(size)
            hint = "one value per frame is needed; for values per atom use the atomic_ name"
        return FrameArray(files, self.counts, widths, meaning=meaning, hint=hint)

    def _read(self, label: Label, frames: np.ndarray) -> np.ndarray | None:
        """Values of frames, (len(frames), any), or None where they are missing."""
        array = self._array(label)
        if array is None:
            return None
        values = array.rows(frames)
        if label.sel_type is not None:
            values = self._spread(values, label, self._types(frames))
        return values

    def _spread(self, values: np.ndarray, label: Label, types: np.ndarray) -> np.ndarray:
        """Put values of selected atoms in their places among all; the others get zero."""
        if values.shape[1] == self.natoms * label.size:
            return values
        full = np.zeros((*types.shape, label.size))
        full[np.isin(types, label.sel_type or ())] = values.reshape(-1, label.size)
        return full.reshape(len(types), -1)

    def _load_label(
        self, label: Label, frames: np.ndarray, types: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Values of the real atoms or of the frames, and the find flag."""
        values, real = self._read(label, frames), types >= 0
        if values is None:
            rows = int(real.sum()) if label.atomic or label.pairwise else len(frames)
            size = 9 * int(real.sum(axis=1).max()) if label.pairwise else label.size
            return np.tile(np.broadcast_to(label.default, size), (rows, 1)), 0.0
        if label.pairwise:
            if not real.all():
                raise DataError(
                    f"{label.name} with virtual atoms cannot be read",
                    where=self.path,
                    fix="store molecules of equal size together, without padding",
                )
            values = values.reshape(real.size, 9 * self.natoms)
        elif label.atomic:
            values = values.reshape(*real.shape, label.size)[real]
        return values, 1.0


def _ranges(n: int, step: int = 1000) -> list[np.ndarray]:
    """Cut 0 … n - 1 into pieces, for what would not fit into the memory at once."""
    return [np.arange(k, min(k + step, n)) for k in range(0, n, step)]


def match_types(
    names: Sequence[str], wanted: Sequence[str] | None, where: DPPath | str
) -> tuple[np.ndarray, list[str]]:
    """Return the number in the model of each type of the data, and the model's names.

    Parameters
    ----------
    names : sequence of str
        Of the data.
    wanted : sequence of str or None
        Of the model; None means those of the data.
    where : path
        What holds the names of the data.
    """
    odd = next((n for n in names if len(n) > 64 or not n.isprintable()), None)
    if odd is not None:
        raise DataError(
            f'"{shown(odd)}" is no name', where=where, fix="write one name per type, as O or H"
        )
    if len(set(names)) < len(names):
        raise DataError("a name occurs twice", where=where, fix="give every type its own name")
    known = list(names) if wanted is None else list(wanted)
    if len(set(known)) < len(known):
        raise DataError("a name occurs twice", where="type_map", fix="give every type its own name")
    place = {name: k for k, name in reversed(list(enumerate(known)))}
    for name in names:
        if name not in place:
            raise DataError(
                f'type "{name}" is not in the model\'s type map {known}',
                where=where,
                fix=did_you_mean(name, known) or "add it to type_map",
            )
    return np.array([place[n] for n in names], dtype=np.int64), known
