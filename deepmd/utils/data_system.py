# SPDX-License-Identifier: LGPL-3.0-or-later
"""Several systems under the name that clients import; see :mod:`deepmd.data.arrays`."""

from deepmd.data.arrays import DeepmdDataSystem

__all__ = ["DeepmdDataSystem"]
