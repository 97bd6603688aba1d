# SPDX-License-Identifier: LGPL-3.0-or-later
"""Atomic models of plugins, under the names that they import."""

from deepmd.pt.native.model import BaseAtomicModel

__all__ = ["BaseAtomicModel"]
