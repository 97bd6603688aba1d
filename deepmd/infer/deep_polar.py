# SPDX-License-Identifier: LGPL-3.0-or-later
"""Import path of client programs."""

from deepmd.infer.deep_tensor import DeepGlobalPolar, DeepPolar

__all__ = ["DeepGlobalPolar", "DeepPolar"]
