# SPDX-License-Identifier: LGPL-3.0-or-later
"""Import path of the Ewald sum for other programs."""

from deepmd.dpmodel.ewald import COULOMB, EwaldRecp

__all__ = ["COULOMB", "EwaldRecp"]
