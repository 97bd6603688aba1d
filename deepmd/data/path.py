# SPDX-License-Identifier: LGPL-3.0-or-later
"""One way to read and write data that lie in a directory or in a group of an HDF5 file."""

import functools
import math
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deepmd.base.errors import DataError
from deepmd.base.files import errors_name, hdf5_bytes, replacing
from deepmd.base.reading import MAX_TEXT, read_small_text, reading, reason

HDF5_SUFFIXES = (".hdf5", ".h5")


class DPPath:
    """A file or folder: ``dir/name``, or ``file.hdf5#/group/name`` inside an HDF5 file.

    Calling the class gives the fitting kind; its methods are those of :class:`pathlib.Path`.

    Parameters
    ----------
    path : str or path
        A path of the file system; an HDF5 file (by suffix) alone means its root group.
    mode : {"r", "a"}
        "r" refuses to write.
    """

    path: Any  #: A Path; inside of an HDF5 file a PurePosixPath.
    mode: str

    def __new__(cls, path: "str | os.PathLike[str]", mode: str = "r") -> "DPPath":
        """Choose the directory or the HDF5 form."""
        return object.__new__(cls if split_hdf5(str(path)) is None else DPH5Path)

    def __init__(self, path: "str | os.PathLike[str]", mode: str = "r") -> None:
        self.path, self.mode = Path(path), mode

    def __str__(self) -> str:
        return str(self.path)

    def _beside(self, path: Any) -> "DPPath":
        """Return another path of the same kind and mode."""
        other = object.__new__(type(self))
        other.__dict__ = {**self.__dict__, "path": path}
        return other

    def __truediv__(self, key: str) -> "DPPath":
        return self._beside(self.path / key)

    @property
    def name(self) -> str:
        """Last component."""
        return self.path.name

    @property
    def parent(self) -> "DPPath":
        """The folder or group this lies in."""
        return self._beside(self.path.parent)

    def is_file(self) -> bool:
        """Whether this is a file, or a dataset."""
        return self.path.is_file()

    def is_dir(self) -> bool:
        """Whether this is a folder, or a group."""
        return self.path.is_dir()

    def exists(self) -> bool:
        """Whether anything is there."""
        return self.is_file() or self.is_dir()

    def glob(self, pattern: str) -> "list[DPPath]":
        """Direct members whose name fits ``pattern``, sorted by name."""
        return [self._beside(p) for p in sorted(self.path.glob(pattern))]

    def rglob(self, pattern: str) -> "list[DPPath]":
        """Members at any depth whose path ends as ``pattern`` says, sorted."""
        members = (folder / name for folder, names in self.walk() for name in names)
        return sorted((m for m in members if m.fits(pattern, self)), key=lambda m: m.path)

    def fits(self, pattern: str, below: "DPPath") -> bool:
        """Whether the path below a folder ends as ``pattern`` says; ``**`` is any number of folders."""
        steps = ("**", *PurePosixPath(pattern).parts)
        return _fits(PurePosixPath(self.path).relative_to(below.path).parts, steps)

    def walk(
        self, enter: Callable[[str], bool] = lambda name: True
    ) -> "Iterator[tuple[DPPath, dict[str, bool]]]":
        """Iterate over this folder and all below it, through links, too, but not in circles.

        Parameters
        ----------
        enter : function
            Whether to go into a folder of that name.

        Yields
        ------
        folder : DPPath
        members : dict of str to bool
            Names, ascending, and whether each is a folder.
        """
        stack: list[tuple[DPPath, Any]] = [(self, None)]
        seen: set[Any] = set()
        again = 0
        while stack:
            folder, above = stack.pop()
            this = folder.identity()
            if _is_among(this, above):
                continue
            again += this in seen
            seen.add(this)
            if again > _MOST_AGAIN:
                raise DataError(
                    f"links lead to the same folders more than {_MOST_AGAIN} times",
                    where=str(self),
                    fix="name the systems, or remove links",
                )
            members = folder._members()
            yield folder, members
            inner = [name for name, is_folder in members.items() if is_folder and enter(name)]
            stack += [(folder / name, (this, above)) for name in reversed(inner)]

    def identity(self) -> Any:
        """Return what is the same for all paths to a folder."""
        stat = os.stat(self.path)
        return stat.st_dev, stat.st_ino

    def _members(self) -> dict[str, bool]:
        """Names in a folder, sorted, and whether they are folders."""
        try:
            with os.scandir(self.path) as entries:
                return dict(sorted((e.name, os.path.isdir(e.path)) for e in entries))
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", where=str(self)) from None

    def open_array(self) -> Any:
        """Array with ``shape``, ``dtype`` and indexing that is read from disk only when indexed."""
        with reading(str(self)):
            stat = os.stat(self.path)
            return _memory_map(str(self.path), stat.st_mtime_ns, stat.st_size)

    def read_words(self) -> list[str]:
        """Words of a text file, or the elements of a text or number dataset, as strings."""
        return read_small_text(self.path).split()

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Make a folder or group."""
        self._check_writable()
        if not exist_ok and self.path.exists():
            raise FileExistsError(str(self))
        with errors_name(self.path):
            self.path.mkdir(parents=parents, exist_ok=exist_ok)

    def save_numpy(self, array: np.ndarray) -> None:
        """Store an array under this very name (no suffix is added); the write is atomic."""
        self._check_writable()
        with replacing(self.path) as file:
            np.save(file, np.asarray(array), allow_pickle=False)

    def load_numpy(self) -> np.ndarray:
        """Read a whole array into memory."""
        return np.array(self.open_array()[...])

    def load_txt(self, dtype: Any = np.float64) -> np.ndarray:
        """Read a text of numbers or words, on one or many lines, as a one-dimensional array."""
        return np.array(self.read_words()).astype(dtype)

    def _check_writable(self) -> None:
        if self.mode == "r":
            raise DataError("opened for reading only", where=str(self), fix='open it in mode "a"')

    def __lt__(self, other: "DPPath") -> bool:
        return str(self) < str(other)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DPPath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class DPH5Path(DPPath):
    """A dataset or group inside an HDF5 file."""

    def __init__(self, path: "str | os.PathLike[str]", mode: str = "r") -> None:
        self.file, key = split_hdf5(str(path)) or (str(path), "/")
        self.path, self.mode = PurePosixPath(key), mode

    def __str__(self) -> str:
        return f"{self.file}#{self.path}"

    def _get(self) -> Any:
        """Return the h5py object, or None where there is nothing."""
        try:
            stat = os.stat(self.file)
            handle = _open_hdf5(self.file, stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DataError(
                f"is not a readable HDF5 file ({reason(error)})",
                where=self.file,
                fix="copy it again",
            ) from None
        with reading(str(self)):
            try:
                return handle.get(str(self.path))
            except RuntimeError:
                if isinstance(handle.get(str(self.path), getlink=True), _links()):
                    return None  # a link that leads nowhere, as one to a file that is not there
                raise

    def is_file(self) -> bool:
        return self._get() is not None and not self.is_dir()

    def is_dir(self) -> bool:
        return hasattr(self._get(), "keys")

    def glob(self, pattern: str) -> list[DPPath]:
        names = sorted(self._get()) if self.is_dir() else []
        return [self / n for n in names if fnmatchcase(n, pattern)]

    def identity(self) -> Any:
        import h5py

        with reading(str(self)):
            info = h5py.h5o.get_info(self._get().id)
            return info.fileno, info.addr

    def _members(self) -> dict[str, bool]:
        with reading(str(self)):
            return {name: (self / name).is_dir() for name in sorted(self._get() or ())}

    def open_array(self) -> Any:
        found = self._get()
        if found is None or hasattr(found, "keys"):
            raise DataError("dataset is missing", where=str(self))
        with reading(str(self)):
            return _Dataset(found, str(self))

    def read_words(self) -> list[str]:
        """Elements of a dataset of numbers or strings; strings are split at blanks."""
        array = self.open_array()
        with reading(str(self)):
            if math.prod(array.shape) > MAX_TEXT or array.dtype.itemsize > MAX_TEXT:
                raise DataError("is too large for a list of words", where=str(self))
            values = np.ravel(array[()]).tolist()
            words = [v.decode() if isinstance(v, bytes) else str(v) for v in values]
            return [w for word in words for w in word.split()]

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        if self.exists() and not exist_ok:
            raise FileExistsError(str(self))
        self._write(lambda handle: handle.require_group(str(self.path)))

    def save_numpy(self, array: np.ndarray) -> None:
        """Store a dataset; the file is written anew and renamed, so a crash leaves the old one."""

        def put(handle: Any) -> None:
            if str(self.path) in handle:
                del handle[str(self.path)]
            handle.create_dataset(str(self.path), data=np.asarray(array))

        self._write(put)

    def _write(self, change: Callable[[Any], object]) -> None:
        self._check_writable()
        with replacing(self.file) as file:
            start = Path(self.file).read_bytes() if os.path.exists(self.file) else b""
            file.write(hdf5_bytes(change, start))


#: Folders that may be entered once more, by other links.
_MOST_AGAIN = 10_000


def _is_among(this: Any, chain: Any) -> bool:
    """Whether something is in a chain of pairs (first, rest)."""
    while chain is not None:
        first, chain = chain
        if first == this:
            return True
    return False


def _fits(names: Sequence[str], steps: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern."""
    possible = {0}  # numbers of steps that the names so far may have used
    for name in names:
        possible = _over(steps, possible)
        stay = {k for k in possible if k < len(steps) and steps[k] == "**"}
        on = {k + 1 for k in possible - stay if k < len(steps) and fnmatchcase(name, steps[k])}
        possible = stay | on
    return len(steps) in _over(steps, possible)


def _over(steps: Sequence[str], possible: set[int]) -> set[int]:
    """Add the places that are reached when ``**`` is no folder."""
    out = set(possible)
    for k, step in enumerate(steps):
        if k in out and step == "**":
            out.add(k + 1)
    return out


def split_hdf5(path: str) -> tuple[str, str] | None:
    """Split ``file.hdf5#/group`` into file and group, or return None for an ordinary path."""
    if os.path.isdir(path):
        return None
    at = path.find("#")
    while at >= 0:
        file = path[:at]
        if os.path.isfile(file) or file.endswith(HDF5_SUFFIXES):
            return file, "/" + path[at + 1 :].strip("/")
        at = path.find("#", at + 1)
    return (path, "/") if path.endswith(HDF5_SUFFIXES) else None


class _Dataset:
    """A dataset whose errors name it, and that claims no more than its file can hold.

    Parameters
    ----------
    data : h5py.Dataset
    where : str
    """

    def __init__(self, data: Any, where: str) -> None:
        self._data, self._where = data, where
        if getattr(data, "shape", None) is None:
            raise DataError("holds no numbers", where=where, fix="write it again")
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        stored = data.id.get_storage_size()
        if not data.is_virtual and data.external is None:
            chunk = math.prod(data.chunks or ())
            for size in (math.prod(data.shape), chunk if data.chunks else 0):
                check_claim(size * data.dtype.itemsize, _MOST_PACKED * stored, where)

    def __getitem__(self, key: Any) -> Any:
        with reading(self._where):
            return self._data[key]


#: What deflate can do at most.
_MOST_PACKED = 1100
#: What any file may claim [bytes].
_FREE = 1 << 26


def check_claim(claimed: int, possible: int, where: str) -> None:
    """Raise DataError if an array is larger [bytes] than its file can hold."""
    if claimed > max(possible, _FREE):
        raise DataError(
            f"claims {claimed:,} bytes, which the file cannot hold",
            where=where,
            fix="write or copy it again",
        )


def _links() -> tuple[type, ...]:
    import h5py

    return h5py.SoftLink, h5py.ExternalLink


# Both caches are keyed by modification time and size too, so a replaced file is opened anew. They
# are small because an open file takes one of the process's few file descriptors.
@functools.lru_cache(maxsize=128)
def _memory_map(path: str, _mtime: int, size: int) -> np.ndarray:
    with open(path, "rb") as handle:
        shape, fortran, dtype = _npy_header(handle, path)
        start = handle.tell()
    if dtype.hasobject:
        raise DataError(
            "holds Python objects, numbers were expected",
            where=path,
            fix="save it with a numeric dtype",
        )
    needed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or start + needed > size:
        raise DataError(
            f"is not a complete .npy file ({size:,} bytes of {start + needed:,})",
            where=path,
            fix="write or copy it again",
        )
    order: Any = "F" if fortran else "C"
    if needed == 0:  # an array without elements cannot be mapped
        return np.empty(shape, dtype, order)
    return np.memmap(path, dtype, "r", start, shape, order)


def _npy_header(handle: Any, path: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and type of a ``.npy`` file."""
    form = np.lib.format
    readers = {(1, 0): form.read_array_header_1_0, (2, 0): form.read_array_header_2_0}
    try:
        version = form.read_magic(handle)
        if version not in readers:
            raise ValueError(f"version {version}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged headers
            return readers[version](handle)
    except Exception as error:
        raise DataError(
            f"is not a complete .npy file ({reason(error)})",
            where=path,
            fix="write or copy it again",
        ) from error


@functools.lru_cache(maxsize=16)
def _open_hdf5(path: str, _mtime: int, _size: int) -> Any:
    import h5py  # heavy, and needed for HDF5 paths only

    return h5py.File(path, "r", locking=False)
