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

__all__ = [
    "DataError",
    "InputError",
    "ModelFileError",
    "NotAvailableError",
    "OutputError",
    "TrainingDivergedError",
]
