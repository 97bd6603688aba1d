# SPDX-License-Identifier: LGPL-3.0-or-later
"""One system under the name that clients import; see :mod:`deepmd.data.arrays`."""

from deepmd.data.arrays import DeepmdData

__all__ = ["DeepmdData"]
