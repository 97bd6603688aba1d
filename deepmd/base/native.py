# SPDX-License-Identifier: LGPL-3.0-or-later
"""Paths of the compiled libraries, headers and programs of this package.

They are inside of the package, in wheels as well as in a checkout after ``make native``; a package
that was installed without a compiler has none.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ctypes

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIXES = (".so", ".dylib")


def library_dir() -> Path | None:
    """Return the folder of the shared libraries, or None if none were built."""
    folder = _PACKAGE / "lib"
    return folder if _shared(folder, "deepmd_c") else None


def library(name: str) -> Path | None:
    """Return the file of a library, for example of ``deepmd_c``, or None if it was not built."""
    return _shared(_PACKAGE / "lib", name)


def include_dir() -> Path | None:
    """Return the folder for ``-I`` that has ``deepmd/c_api.h``, or None."""
    folder = _PACKAGE / "include"
    return folder if (folder / "deepmd" / "c_api.h").is_file() else None


def bin_dir() -> Path | None:
    """Return the folder of the programs, ``dp_ipi`` for example, or None."""
    folder = _PACKAGE / "bin"
    return folder if folder.is_dir() else None


def load(name: str) -> "ctypes.CDLL | None":
    """Load a library into this process; None if it was not built.

    Raises
    ------
    OSError
        It was built, but the system cannot load it; the text says why.
    """
    import ctypes  # "dp --help" does without

    path = library(name)
    return None if path is None else ctypes.CDLL(str(path))


def _shared(folder: Path, name: str) -> Path | None:
    files = (folder / f"lib{name}{suffix}" for suffix in _SUFFIXES)
    return next((f for f in files if f.is_file()), None)
