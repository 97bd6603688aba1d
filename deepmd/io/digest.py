# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checksums of the contents of model files, by which damage is noticed.

In HDF5 files the checksum is the attribute ``digest``, in YAML the comment on the last line. Files
without one, of DeePMD-kit and of earlier versions, are read unchecked. Zip archives (``.pth``,
``.pt``) have checksums of their own.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from deepmd.base.errors import ModelFileError

#: Name of the attribute, and first words of the line of a YAML file.
DIGEST, DIGEST_LINE = "digest", "# digest: "


def digest_of(text: str, arrays: Iterable[np.ndarray]) -> str:
    """Return the checksum of a text and arrays.

    Axes of length 1 make no difference: a row (1, n) holds what an array (n,) does, and programs
    change one into the other.
    """
    total = hashlib.sha256(text.encode())
    for array in arrays:
        axes = [n for n in array.shape if n != 1]
        total.update(f"{array.dtype.str}{axes}".encode())
        # As bytes: a buffer of a void array has no plain format.
        total.update(array.tobytes())
    return f"sha256:{total.hexdigest()}"


def content_key(array: np.ndarray) -> str:
    """Return a text that two arrays have in common if they hold the same, in the same shape."""
    return f"{array.dtype.str}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}"


def digest_of_lines(text: str) -> str:
    """Return the checksum of a text, whatever its line ends are."""
    return f"sha256:{hashlib.sha256(text.replace(chr(13), '').encode()).hexdigest()}"


def check_digest(stored: object, found: str, remedy: str) -> None:
    """Raise ModelFileError if the checksum in a file is not that of its contents.

    Parameters
    ----------
    stored : str or None
        From the file.
    found : str
        Of the contents.
    remedy : str
        Makes a file readable that was edited on purpose.
    """
    if stored is None or stored == found:
        return
    raise ModelFileError(
        "does not hold what was written: its checksum differs, it is damaged or was edited",
        fix=f"copy or freeze it again; after an edit on purpose, {remedy}",
    )
