# SPDX-License-Identifier: LGPL-3.0-or-later
"""Paths of data under the name that clients import; see :mod:`deepmd.data.path`."""

from deepmd.data.path import DPH5Path, DPPath

__all__ = ["DPH5Path", "DPPath"]
