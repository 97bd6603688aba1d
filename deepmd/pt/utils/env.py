# SPDX-License-Identifier: LGPL-3.0-or-later
"""Device and number format of PyTorch."""

import torch

from deepmd.pt.device import default_device

DEVICE = default_device()
GLOBAL_PT_FLOAT_PRECISION = torch.float64
GLOBAL_PT_ENER_FLOAT_PRECISION = torch.float64
