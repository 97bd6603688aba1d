# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files that ASE reads (extended XYZ and others) as systems, by way of a cache in HDF5."""

import atexit
import contextlib
import functools
import hashlib
import json
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, InputError, NotAvailableError, OutputError, located
from deepmd.base.files import hdf5_bytes, replacing
from deepmd.base.reading import reading, shown
from deepmd.data.frames import Frame, Frames
from deepmd.data.keys import PBC, STANDARD, Values, check_keys, choose, described, labels_in
from deepmd.data.path import HDF5_SUFFIXES
from deepmd.data.quantities import is_atomic
from deepmd.data.system import System
from deepmd.dpmodel.label import Label

log = logging.getLogger(__name__)

#: Folder of the caches, in that of the run.
CACHE = "data_cache"
#: Size that the folder may have [bytes], and seconds for which a file stays after its last use.
_MOST_BYTES, _KEPT = 8 << 30, 86400.0
#: Changes when files of the cache are written otherwise.
_VERSION = 1
#: Files in a searched folder that are systems.
SUFFIX = ".extxyz"
#: Formats of ASE that would run code of a file, or leave it.
_REFUSED = ("bundletrajectory", "db", "json", "postgresql", "mysql", "mariadb", "html", "py")
#: Labels whose standard names never stand for a text.
_ALWAYS_NUMBERS = ("energy", "force", "virial", "stress")
#: Quantities of calculators that are never labels.
_NO_LABELS = {"positions", "numbers", "species", "pbc", "cell", "Lattice", "Properties"}


def is_structure_file(path: str) -> bool:
    """Whether a path is a file that neither holds HDF5 nor LMDB: ASE is asked to read it."""
    return os.path.isfile(path) and not path.endswith((*HDF5_SUFFIXES, ".lmdb", ".mdb", ".npy"))


def open_structures(
    path: str,
    *,
    type_map: Sequence[str] | None = None,
    keys: Mapping[str, str | None] | None = None,
    cache: str | os.PathLike[str] = CACHE,
    quiet: bool = False,
) -> list[System]:
    """Open a file as systems of frames of one size, with the same labels, each.

    What labels were found under which names is logged.

    Parameters
    ----------
    path : str
    type_map : sequence of str, optional
        The model's types.
    keys : mapping, optional
        Names of labels in the file; see :func:`deepmd.data.keys.choose`.
    cache : path
        Folder for what was read, which the next run takes.
    quiet : bool
        Log at the level DEBUG only.
    """
    keys = check_keys(keys or {}, "training_data/keys")
    file = Path(cache) / f"{Path(path).stem[:80]}-{_digest(path, keys)}.hdf5"
    systems = _from_cache(file, path, type_map, quiet)
    if systems is None:
        frames, about = read_structures(path, keys)
        file = _write_cache(file, frames, about)
        systems = _from_cache(file, path, type_map, quiet)
    if systems is None:
        raise DataError("what was just written cannot be read", where=file, fix="check the disk")
    return systems


def _digest(path: str, keys: Mapping[str, str | None]) -> str:
    """Digest of the contents of a file and of what decides how they are read."""
    with reading(path), open(path, "rb") as handle:
        digest = hashlib.file_digest(handle, functools.partial(hashlib.blake2b, digest_size=12))
    # What ASE makes of a name, it makes of it again.
    digest.update(json.dumps([_VERSION, Path(path).suffix, sorted(keys.items())]).encode())
    return digest.hexdigest()


def _from_cache(
    file: Path, path: str, type_map: Sequence[str] | None, quiet: bool
) -> list[System] | None:
    """Open the systems of a cache; None where there is none, or none that can be used."""
    import h5py

    if not file.is_file():
        return None
    try:
        with h5py.File(file, "r", locking=False) as handle:
            about = json.loads(handle.attrs["about"])
            groups = list(about["groups"])
    except (OSError, KeyError, ValueError, RuntimeError):
        log.debug("%s cannot be used", file, exc_info=True)
        return None
    out = []
    for name in groups:
        with located(path):  # the user's file, not the cache
            system = System(f"{file}#/{name}", type_map=type_map)
        system.path = path if len(groups) == 1 else f"{path} ({name} atoms)"
        out.append(system)
    with contextlib.suppress(OSError):  # of somebody else
        os.utime(file)
    for line in about["lines"]:
        log.log(logging.DEBUG if quiet else logging.INFO, "%s: %s", path, line)
    return out


def _write_cache(file: Path, frames: Frames, about: list[str]) -> Path:
    """Write the cache; where that cannot be, a file that lives as long as the process."""
    groups = frames.systems(mixed=True)

    def fill(handle: Any) -> None:
        for name, group in groups.items():
            write_group(handle.create_group(name), group.arrays(mixed=not group.one_order))
            handle[name].create_dataset("number", data=[f.number for f in group.frames])
        handle.attrs["about"] = json.dumps({"groups": list(groups), "lines": about})

    data = hdf5_bytes(fill)
    try:
        with replacing(file) as out:
            out.write(data)
        clean(file.parent)
        return file
    except OutputError as error:
        log.warning("%s; the file will be read again by the next run", error)
    with tempfile.NamedTemporaryFile(suffix=".hdf5", delete=False) as temporary:
        temporary.write(data)
    atexit.register(Path(temporary.name).unlink, missing_ok=True)
    return Path(temporary.name)


def clean(folder: Path) -> None:
    """Remove the files of a cache that were not used for the longest time, if it is too large.

    Those that were used within a day stay: another run may read them.
    """
    found = []
    for file in folder.glob("*.hdf5"):
        with contextlib.suppress(OSError):
            about = file.stat()
            found.append((about.st_mtime, about.st_size, file))
    total = sum(size for _, size, _ in found)
    for used, size, file in sorted(found, key=lambda one: one[0]):
        if total <= _MOST_BYTES or time.time() - used < _KEPT:
            return
        with contextlib.suppress(OSError):
            file.unlink()
            total -= size
            log.info("%s removed: the cache is larger than %d GiB", file, _MOST_BYTES >> 30)


def write_group(group: Any, arrays: Mapping[str, np.ndarray | str]) -> None:
    """Store a system in a group of an HDF5 file."""
    for name, value in arrays.items():
        if isinstance(value, str):
            words = value.split()
            # numbers as such: dpdata, and with it dpgen, reads no others
            kind = "int64" if name == "type.raw" else "S"
            group.create_dataset(name, data=np.array(words, dtype=kind) if words else 0)
        else:
            group.create_dataset(name, data=value)


def read_structures(path: str, keys: Mapping[str, str | None]) -> tuple[Frames, list[str]]:
    """Read a file with ASE; return its frames and lines about them.

    Raises
    ------
    DataError
        If it cannot be read, or it is not clear what a name means.
    NotAvailableError
        Without ASE.
    """
    atoms = _read(path)
    every = [_values(a) for a in atoms]
    chosen = choose(every, keys, path)
    _refuse_texts(atoms, keys, chosen, path)
    numbers = sorted({int(z) for a in atoms for z in np.unique(a.numbers)})
    from ase.data import chemical_symbols

    if numbers[:1] == [0]:
        first = next(k for k, a in enumerate(atoms) if (a.numbers == 0).any())
        raise DataError(
            f"frame {first} has an atom of no element", where=path, fix="write chemical symbols"
        )
    place = np.full(len(chemical_symbols) + 1, -1, dtype=np.int64)
    place[numbers] = np.arange(len(numbers))
    out = Frames([chemical_symbols[z] for z in numbers], {}, [])
    for number, (one, values) in enumerate(zip(atoms, every, strict=True)):
        cell = _cell(one, keys.get(PBC), path, number)
        volume = 0.0 if cell is None else float(abs(np.linalg.det(cell)))
        labels, wrong = labels_in(values, chosen, len(one), volume)
        if wrong is not None:
            raise DataError(
                f"{wrong} (frame {number})",
                where=path,
                fix="correct it, or declare training_data/keys",
            )
        out.frames.append(
            Frame(place[one.numbers], one.positions.copy(), cell, labels, number, path)
        )
    _add_others(out, every, set(chosen.values()))
    out.labels = _kinds(out, path)
    return out, _lines(out, every, chosen, keys)


def _read(path: str) -> list[Any]:
    """Return the structures of a file."""
    try:
        import ase.io
        from ase.io.formats import filetype
    except ImportError:
        raise NotAvailableError(
            "the package ase, which reads this file, is not installed",
            where=path,
            fix='pip install "deepmd-kit[ase]"',
        ) from None
    with reading(path, fix="check the file, or convert it to extxyz"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of readers, about parts that are not used here
        kind = filetype(path)
        if kind in _REFUSED:
            raise DataError(
                f"files of the kind {kind} are not read", where=path, fix="write extxyz"
            )
        atoms = ase.io.read(path, index=":", format=kind)
    if not isinstance(atoms, list) or not atoms:
        raise DataError("holds no frame", where=path, fix="check the file")
    empty = next((k for k, a in enumerate(atoms) if len(a) == 0), None)
    if empty is not None:
        raise DataError(f"frame {empty} has no atom", where=path, fix="remove it")
    return atoms


def _refuse_texts(
    atoms: Sequence[Any],
    keys: Mapping[str, str | None],
    chosen: Mapping[str, str],
    path: str,
) -> None:
    """Raise DataError where a label is a text: its frame would be one without that label."""
    standard = {n for k in _ALWAYS_NUMBERS if k not in keys for n in STANDARD[k]}
    names = standard | set(chosen.values())
    for number, one in enumerate(atoms):
        values = one.info | (getattr(one.calc, "results", None) or {})
        for name in names & values.keys():
            if isinstance(values[name], str):
                raise DataError(
                    f'{name} of frame {number} is "{shown(values[name])}", expected numbers',
                    where=path,
                    fix="correct it, or remove the frame",
                )


def _values(atoms: Any) -> Values:
    """Return what a structure has beside positions: results, texts left out."""
    results = dict(getattr(atoms.calc, "results", None) or {})
    natoms = len(atoms)
    of_frame = {k: v for k, v in atoms.info.items() if not isinstance(v, str | dict | bool)}
    of_atoms = {
        k: v for k, v in atoms.arrays.items() if k not in _NO_LABELS and v.dtype.kind in "fiu"
    }
    for name, value in results.items():
        if value is None or isinstance(value, str | dict):
            continue
        shape = np.shape(value)
        per_atom = (
            len(shape) > 0 and shape[0] == natoms and name not in ("stress", "dipole", "virial")
        )
        (of_atoms if per_atom else of_frame)[name] = value
    if atoms.pbc.any():
        of_frame["_volume"] = abs(float(np.linalg.det(atoms.cell.array)))
    return Values(of_frame, of_atoms)


def _cell(atoms: Any, declared: str | None, path: str, number: int) -> np.ndarray | None:
    """Return the cell of a structure, None for open boundaries."""
    pbc = atoms.pbc if declared is None else np.array([w == "T" for w in declared.split()])
    if not pbc.any():
        return None
    if not pbc.all():
        flags = " ".join("T" if p else "F" for p in pbc)
        raise DataError(
            f"frame {number} is periodic in some directions only (pbc {flags})",
            where=path,
            fix='with a vacuum wider than the cutoff declare "keys": {"pbc": "T T T"} in training_data',
        )
    cell = np.array(atoms.cell.array, dtype=np.float64)
    if not abs(np.linalg.det(cell)) > 0:
        raise DataError(
            f"frame {number} is periodic, but its cell has no volume",
            where=path,
            fix='give the cell, or pbc="F F F"',
        )
    return cell


def _add_others(frames: Frames, every: Sequence[Values], used: set[str]) -> None:
    """Keep numbers that all frames have under a name of their own, such as a property to fit."""
    common = set.intersection(*(set(v.of_frame) | set(v.of_atoms) for v in every))
    for name in sorted(common - used - _NO_LABELS):
        if (
            not name.isidentifier()
            or name.startswith("_")
            or any(name in f.labels for f in frames.frames[:1])
        ):
            continue
        arrays = [np.asarray(v.get(name)) for v in every]
        if any(a.dtype.kind not in "fiu" or a.size == 0 for a in arrays):
            continue
        atomic = is_atomic(name)
        lengths = {len(f.types) if atomic else 1 for f in frames.frames}
        widths = {
            a.size / (len(f.types) if atomic else 1)
            for a, f in zip(arrays, frames.frames, strict=True)
        }
        if len(widths) == 1 and lengths and (atomic or name in every[0].of_frame):
            for frame, array in zip(frames.frames, arrays, strict=True):
                frame.labels[name] = array.astype(np.float64).reshape(-1)


def _kinds(frames: Frames, path: str) -> dict[str, Label]:
    """Return the labels of the frames by name; sizes must agree."""
    out: dict[str, Label] = {}
    for frame in frames.frames:
        for name, values in frame.labels.items():
            if name == "hessian":
                out.setdefault(name, Label(name, 1, False, pairwise=True))
                continue
            atomic = is_atomic(name)
            size = values.size // (len(frame.types) if atomic else 1)
            known = out.setdefault(name, Label(name, size, atomic))
            if known.size != size:
                raise DataError(
                    f"{name} has {size} numbers in frame {frame.number}, {known.size} before",
                    where=path,
                    fix="make the frames alike",
                )
    return out


def _lines(
    frames: Frames, every: Sequence[Values], chosen: Mapping[str, str], keys: Mapping[str, Any]
) -> list[str]:
    """Return what is logged about a file."""
    sizes = [len(f.types) for f in frames.frames]
    size = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    names = {n for v in every for n in (*v.of_frame, *v.of_atoms)}
    lines = [
        f"{len(sizes)} frames of {size} atoms ({', '.join(frames.names)}); {described(chosen, names)}"
    ]
    for label in ("energy", "force", "virial"):
        count = sum(label in f.labels for f in frames.frames)
        if 0 < count < len(sizes):
            lines.append(
                f"{label} is in {count} of {len(sizes)} frames; they are systems of their own"
            )
    if "free_energy" in names and "energy" in chosen and chosen["energy"] != "free_energy":
        pairs = [(v.get(chosen["energy"]), v.get("free_energy")) for v in every]
        far = max(
            (abs(float(a) - float(b)) for a, b in pairs if a is not None and b is not None),
            default=0.0,
        )
        if far > 1e-6 and "energy" not in keys:
            lines.append(
                f"free_energy differs from energy by up to {far:.3g} eV; forces belong to the free "
                'energy where it is that of smeared electrons: "keys": {"energy": "free_energy"}'
            )
    return lines


def parse_keys(words: Sequence[str] | None, where: str = "--keys") -> dict[str, str | None]:
    """Return a declaration from words like ``energy=REF_energy``; an empty name leaves a label out."""
    out: dict[str, str | None] = {}
    for word in words or ():
        label, equals, name = word.partition("=")
        if not equals or not label:
            raise InputError(f'"{word}" is not understood', where=where, fix="write LABEL=NAME")
        out[label] = name or None
    return out
