# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models around atomic models of plugins, under the name that they import."""

from deepmd.pt.native.model import make_model

__all__ = ["make_model"]
