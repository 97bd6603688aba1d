# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whatever a library raises while a file is read becomes one line, for data and for models."""

import pickle
import zipfile

import pytest

from deepmd.base.errors import DataError, InputError, ModelFileError
from deepmd.base.reading import reading, reason
from deepmd.io.guard import opening

DAMAGED = "cannot be read, it is incomplete, damaged or of another kind"
#: What is raised, and the message; {noun} and {absent} depend on the door.
CASES = [
    (FileNotFoundError(2, "No such file"), "{noun} {absent}"),
    (IsADirectoryError(21, "Is a directory"), "is a folder, a {noun} was expected"),
    (PermissionError(13, "Permission denied"), "may not be read; change its permissions"),
    (MemoryError(), "takes more memory than there is: it is large, or damaged; mend"),
    (RecursionError(), "is nested too deeply; mend"),
    (OSError(5, "Input/output error"), DAMAGED + " (Input/output error); mend"),
    (KeyError("x"), DAMAGED + " (KeyError: x); mend"),
    (ValueError("no number\nin line 3"), DAMAGED + " (no number); mend"),
]
DOORS = {
    "file": (DataError, "is missing", lambda: reading("some/file", DataError, fix="mend")),
    "model file": (ModelFileError, "not found", lambda: opening("some/file", "mend")),
}


@pytest.mark.parametrize("noun", DOORS)
@pytest.mark.parametrize(("error", "message"), CASES, ids=[type(e).__name__ for e, _ in CASES])
def test_one_line_that_names_the_file(noun, error, message):
    kind, absent, door = DOORS[noun]
    with pytest.raises(kind) as caught, door():
        raise error
    assert str(caught.value) == f"some/file: {message.format(noun=noun, absent=absent)}"


def test_input_errors_pass():
    error = InputError("wrong", where="key")
    with pytest.raises(InputError) as caught, reading("some/file"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            RuntimeError("failed finding central directory\n#0 0x1234"),
            "failed finding central directory",
        ),
        (zipfile.BadZipFile("File is not a zip file"), "BadZipFile: File is not a zip file"),
        (pickle.UnpicklingError(), "UnpicklingError"),
        (ValueError("a\x00b\tc"), "a?b c"),
        (ValueError("x" * 500), "x" * 197 + "..."),
        (OSError("not HDF5"), "not HDF5"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_reasons(error, text):
    assert reason(error) == text
