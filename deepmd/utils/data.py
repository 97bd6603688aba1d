# SPDX-License-Identifier: LGPL-3.0-or-later
"""One system under the names that clients import; see :mod:`deepmd.data.arrays`."""

from deepmd.data.arrays import DataRequirementItem, DeepmdData

__all__ = ["DataRequirementItem", "DeepmdData"]
