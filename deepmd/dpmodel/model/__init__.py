# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models, and how they are built and evaluated."""

from deepmd.dpmodel.model.build import build_model
from deepmd.dpmodel.model.dipole_charge import DipoleChargeModifier
from deepmd.dpmodel.model.hessian import frame_hessian
from deepmd.dpmodel.model.inputs import Inputs, prepare
from deepmd.dpmodel.model.model import Model
from deepmd.dpmodel.model.pairwise import PairwiseModel
from deepmd.dpmodel.model.spin import SpinModel

__all__ = [
    "DipoleChargeModifier",
    "Inputs",
    "Model",
    "PairwiseModel",
    "SpinModel",
    "build_model",
    "frame_hessian",
    "prepare",
]
