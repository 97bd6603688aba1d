# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors under the name that clients import; see :mod:`deepmd.base.errors`."""

from deepmd.base.errors import (
    DataError,
    InputError,
    ModelFileError,
    NotAvailableError,
    OutputError,
    TrainingDivergedError,
)

#: What is raised when memory ran out, whatever the framework calls it.
OutOfMemoryError = MemoryError

__all__ = [
    "DataError",
    "InputError",
    "ModelFileError",
    "NotAvailableError",
    "OutOfMemoryError",
    "OutputError",
    "TrainingDivergedError",
]
