# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptors as ``torch.nn.Module``."""

from deepmd.dpmodel import descriptor as _neutral
from deepmd.pt.lift import lift
from deepmd.pt.native.descriptor import BaseDescriptor

DescrptDPA1 = lift(_neutral.DescrptDPA1)
DescrptDPA2 = lift(_neutral.DescrptDPA2)
DescrptDPA3 = lift(_neutral.DescrptDPA3)
DescrptHybrid = lift(_neutral.DescrptHybrid)
DescrptSeA = lift(_neutral.DescrptSeA)
DescrptSeAttenV2 = lift(_neutral.DescrptSeAttenV2)
DescrptSeR = lift(_neutral.DescrptSeR)
DescrptSeT = lift(_neutral.DescrptSeT)
DescrptSeTTebd = lift(_neutral.DescrptSeTTebd)

__all__ = [
    "BaseDescriptor",
    "DescrptDPA1",
    "DescrptDPA2",
    "DescrptDPA3",
    "DescrptHybrid",
    "DescrptSeA",
    "DescrptSeAttenV2",
    "DescrptSeR",
    "DescrptSeT",
    "DescrptSeTTebd",
]
