# SPDX-License-Identifier: LGPL-3.0-or-later
"""SavedModels of TensorFlow (``.savedmodel``, ``.savedmodeltf``) with a neutral model beside.

A SavedModel is a folder. TensorFlow leaves ``assets.extra`` to others; ours has the model there as
a ``.dp`` file, read without TensorFlow. The checksum of the program in it binds the two.
"""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from deepmd.base.errors import ModelFileError, NotAvailableError
from deepmd.io.files import load_model
from deepmd.io.guard import AGAIN, opening, regular_size

#: Files of the folder: program, neutral model, and for programs in C++ its description and probes.
PROGRAM, MODEL = "saved_model.pb", "assets.extra/model.dp"
METADATA_FILE, PROBES_FILE = "assets.extra/metadata.json", "assets.extra/probes.json"
#: Key of the description of the program in the tree of the model.
ABOUT = "program"
SUFFIXES = (".savedmodel", ".savedmodeltf")


def is_saved_model(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix of a path is that of SavedModels."""
    return os.fspath(path).lower().rstrip("/").endswith(SUFFIXES)


def has_model(path: str | os.PathLike[str]) -> bool:
    """Whether there is a neutral model in a SavedModel."""
    return (Path(path) / MODEL).exists()


def load_saved(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary in a SavedModel, the description of the program left out.

    Raises
    ------
    ModelFileError
        If the folder is incomplete, or holds no neutral model.
    """
    path = Path(path)
    with opening(path):
        data = program_bytes(path)
        if not has_model(path):
            raise ModelFileError(
                "holds a program and no neutral model: its parameters cannot be taken out",
                fix="files made by DeePMD-kit: convert the .dp, .pt or .jax they were made from",
            )
        tree = load_model(path / MODEL)
        about = tree.pop(ABOUT, None)
        if not isinstance(about, dict) or about.get("digest") != program_digest(data):
            raise ModelFileError(f"{PROGRAM} does not belong to the model beside it", fix=AGAIN)
    return tree


def program_bytes(path: Path) -> bytes:
    """``saved_model.pb`` of a SavedModel."""
    if not path.exists():
        raise FileNotFoundError(path)
    if not path.is_dir():
        raise ModelFileError("is a file, the folder of a SavedModel was expected")
    if not (path / PROGRAM).exists():
        raise ModelFileError(f"{PROGRAM} is missing in the folder", fix=AGAIN)
    regular_size(path / PROGRAM)
    return (path / PROGRAM).read_bytes()


def program_digest(data: bytes) -> str:
    """Checksum of a program, as the model beside it has it."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def require_tensorflow(path: str | os.PathLike[str]) -> None:
    """Raise NotAvailableError if TensorFlow is not installed."""
    if find_spec("tensorflow") is None:
        raise NotAvailableError(
            "programs of SavedModels need TensorFlow, which is not installed",
            where=path,
            fix='pip install "deepmd-kit[tensorflow]"',
        )
