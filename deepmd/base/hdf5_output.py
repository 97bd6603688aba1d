# SPDX-License-Identifier: LGPL-3.0-or-later
"""HDF5 files larger than memory, which appear whole or not at all."""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from deepmd.base.files import errors_name, make_folder, replacing


class _Spill(io.RawIOBase):
    """Random-access file; after the first error, which is kept, nothing is written any more.

    The HDF5 library ends the process when the file cannot be written at its close.
    """

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.file = file
        self.error: OSError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: Any) -> int:
        """Fill the whole buffer; what was dropped reads as zero."""
        view = memoryview(buffer).cast("B")
        data = self.file.read(len(view))
        view[: len(data)] = data
        view[len(data) :] = bytes(len(view) - len(data))
        return len(view)

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        return memoryview(data).nbytes

    def truncate(self, size: int | None = None) -> int:
        if self.error is None:
            try:
                return self.file.truncate(size)
            except OSError as error:
                self.error = error
        return self.file.tell() if size is None else size


def write_hdf5(path: str | os.PathLike[str], fill: Callable[[Any], object]) -> None:
    """Write an HDF5 file by way of a temporary one beside it.

    Parameters
    ----------
    path : path
    fill : function
        Stores something in the open file.

    Raises
    ------
    OutputError
        If there is no room, or the path cannot be written.
    """
    import h5py  # heavy, and needed for HDF5 files only

    path = Path(path)
    folder = path.parent
    with contextlib.ExitStack() as stack:
        with errors_name(path):
            make_folder(folder)
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder, buffering=0))
        spill = _Spill(file)  # type: ignore[arg-type]
        try:
            with h5py.File(spill, "w") as handle:
                fill(handle)
        finally:
            with errors_name(path):
                if spill.error is not None:
                    raise spill.error
        with replacing(path) as out:
            file.seek(0)
            shutil.copyfileobj(file, out, 1 << 20)
