# SPDX-License-Identifier: LGPL-3.0-or-later
"""Atomic models. Importing this package registers all of them."""

from deepmd.dpmodel.atomic_model.base import AtomicModel
from deepmd.dpmodel.atomic_model.linear import (
    BareTableZBLAtomicModel,
    LinearAtomicModel,
    ZBLAtomicModel,
)
from deepmd.dpmodel.atomic_model.pairtab import PairTabAtomicModel
from deepmd.dpmodel.atomic_model.pairwise import PairwiseAtomicModel
from deepmd.dpmodel.atomic_model.standard import StandardAtomicModel

__all__ = [
    "AtomicModel",
    "BareTableZBLAtomicModel",
    "LinearAtomicModel",
    "PairTabAtomicModel",
    "PairwiseAtomicModel",
    "StandardAtomicModel",
    "ZBLAtomicModel",
]
