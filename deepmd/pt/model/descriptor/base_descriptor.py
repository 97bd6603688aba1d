# SPDX-License-Identifier: LGPL-3.0-or-later
"""Base class of descriptors of plugins, under the name that they import."""

from deepmd.pt.native.descriptor import BaseDescriptor

__all__ = ["BaseDescriptor"]
