# SPDX-License-Identifier: LGPL-3.0-or-later
"""Import path of client programs."""

from deepmd.infer.deep_tensor import DeepWFC

__all__ = ["DeepWFC"]
