# SPDX-License-Identifier: LGPL-3.0-or-later
"""Base class of fittings of plugins, under the name that they import."""

from deepmd.pt.native.fitting import BaseFitting

__all__ = ["BaseFitting"]
