# SPDX-License-Identifier: LGPL-3.0-or-later
"""Base class of fittings with networks, under the name that plugins import."""

from deepmd.pt.native.networks import GeneralFitting

Fitting = GeneralFitting

__all__ = ["Fitting", "GeneralFitting"]
