# SPDX-License-Identifier: LGPL-3.0-or-later
"""One way to read and write data that lie in a directory or in a group of an HDF5 file."""

import functools
import io
import os
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from deepmd.utils.errors import DataError
from deepmd.utils.files import errors_name, hdf5_bytes, replacing

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
        return [self._beside(p) for p in sorted(self.path.rglob(pattern))]

    def open_array(self) -> Any:
        """Array with ``shape``, ``dtype`` and indexing that is read from disk only when indexed."""
        try:
            stat = os.stat(self.path)
            return _memory_map(str(self.path), stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            raise DataError("file is missing", where=str(self)) from None
        except (ValueError, EOFError, OSError) as error:
            raise _bad_npy(self.path, error) from None

    def read_words(self) -> list[str]:
        """Words of a text file, or the elements of a text or number dataset, as strings."""
        try:
            return self.path.read_text(encoding="utf-8").split()
        except FileNotFoundError:
            raise DataError("file is missing", where=str(self)) from None
        except UnicodeDecodeError:
            raise DataError(
                "is not a text file", where=str(self), fix="write it as plain text"
            ) from None

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
                f"is not a readable HDF5 file ({error})", where=self.file, fix="copy it again"
            ) from None
        return handle.get(str(self.path))

    def is_file(self) -> bool:
        return self._get() is not None and not self.is_dir()

    def is_dir(self) -> bool:
        return hasattr(self._get(), "keys")

    def glob(self, pattern: str) -> list[DPPath]:
        names = sorted(self._get()) if self.is_dir() else []
        return [self / n for n in names if fnmatchcase(n, pattern)]

    def rglob(self, pattern: str) -> list[DPPath]:
        keys: list[str] = []
        if self.is_dir():
            self._get().visit(keys.append)
        return [self / k for k in sorted(keys) if PurePosixPath(k).match(pattern)]

    def open_array(self) -> Any:
        if not self.is_file():
            raise DataError("dataset is missing", where=str(self))
        return self._get()

    def read_words(self) -> list[str]:
        """Elements of a dataset of numbers or strings; strings are split at blanks."""
        values = np.ravel(self.open_array()[()]).tolist()
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


# Both caches are keyed by modification time and size too, so a replaced file is opened anew. They
# are small because an open file takes one of the process's few file descriptors.
@functools.lru_cache(maxsize=128)
def _memory_map(path: str, _mtime: int, _size: int) -> np.ndarray:
    with open(path, "rb") as handle:
        if handle.read(6) != b"\x93NUMPY":
            raise ValueError("it does not begin as a NumPy file")
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        # An array without elements cannot be mapped.
        with open(path, "rb") as handle:
            array = np.load(io.BytesIO(handle.read(4096)), allow_pickle=False)
        if array.size == 0:
            return array
        raise


@functools.lru_cache(maxsize=16)
def _open_hdf5(path: str, _mtime: int, _size: int) -> Any:
    import h5py  # heavy, and needed for HDF5 paths only

    return h5py.File(path, "r", locking=False)


def _bad_npy(path: Path, error: Exception) -> DataError:
    """Say what is wrong with a ``.npy`` file."""
    text = str(error)
    if "object" in text.lower():
        what, fix = "holds Python objects, numbers were expected", "save it with a numeric dtype"
    elif path.is_dir():
        what, fix = "is a folder, a .npy file was expected", None
    else:
        what, fix = f"is not a complete .npy file ({text})", "write or copy it again"
    return DataError(what, where=str(path), fix=fix)
