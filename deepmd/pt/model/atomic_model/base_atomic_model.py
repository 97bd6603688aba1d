# SPDX-License-Identifier: LGPL-3.0-or-later
"""Base class of atomic models of plugins, under the name that they import."""

from deepmd.pt.native.model import BaseAtomicModel

__all__ = ["BaseAtomicModel"]
