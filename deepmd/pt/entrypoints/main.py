# SPDX-License-Identifier: LGPL-3.0-or-later
"""Commands under the names that clients import; see :mod:`deepmd.entrypoints`."""

from deepmd.entrypoints.change_bias import change_bias
from deepmd.entrypoints.freeze import freeze
from deepmd.entrypoints.train import train
from deepmd.main import main

__all__ = ["change_bias", "freeze", "main", "train"]
