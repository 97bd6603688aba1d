# SPDX-License-Identifier: LGPL-3.0-or-later
"""Paths of data under the name that clients import; see :mod:`deepmd.data.path`."""

from deepmd.data.path import DPH5Path, DPPath

#: A path of the file system is what the base class stands for.
DPOSPath = DPPath

__all__ = ["DPH5Path", "DPOSPath", "DPPath"]
