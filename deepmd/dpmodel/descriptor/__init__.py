# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptors. Importing this package registers all of them."""

from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput
from deepmd.dpmodel.descriptor.dpa1 import DescrptDPA1, DescrptSeAttenV2
from deepmd.dpmodel.descriptor.dpa2 import DescrptDPA2
from deepmd.dpmodel.descriptor.dpa3 import DescrptDPA3
from deepmd.dpmodel.descriptor.hybrid import DescrptHybrid
from deepmd.dpmodel.descriptor.loc_frame import DescrptLocFrame
from deepmd.dpmodel.descriptor.se_a_ebd import DescrptSeAEbdV2, DescrptSeATebd
from deepmd.dpmodel.descriptor.se_a_mask import DescrptSeAMask
from deepmd.dpmodel.descriptor.se_e2_a import DescrptSeA
from deepmd.dpmodel.descriptor.se_e2_r import DescrptSeR
from deepmd.dpmodel.descriptor.se_e3 import DescrptSeT
from deepmd.dpmodel.descriptor.se_e3_tebd import DescrptSeTTebd

__all__ = [
    "Atoms",
    "Descriptor",
    "DescriptorOutput",
    "DescrptDPA1",
    "DescrptDPA2",
    "DescrptDPA3",
    "DescrptHybrid",
    "DescrptLocFrame",
    "DescrptSeA",
    "DescrptSeAEbdV2",
    "DescrptSeAMask",
    "DescrptSeATebd",
    "DescrptSeAttenV2",
    "DescrptSeR",
    "DescrptSeT",
    "DescrptSeTTebd",
]
