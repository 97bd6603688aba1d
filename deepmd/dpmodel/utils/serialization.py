# SPDX-License-Identifier: LGPL-3.0-or-later
"""Portable files under the names that clients import; see :mod:`deepmd.io.files`."""

from deepmd.io.files import load_model as load_dp_model
from deepmd.io.files import save_model as save_dp_model

__all__ = ["load_dp_model", "save_dp_model"]
