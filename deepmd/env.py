# SPDX-License-Identifier: LGPL-3.0-or-later
"""Number formats and folders under the names that clients import."""

import numpy as np

from deepmd.base.native import library_dir

GLOBAL_NP_FLOAT_PRECISION = np.float64
GLOBAL_ENER_FLOAT_PRECISION = np.float64
global_float_prec = "double"

#: Folder of the C++ libraries, or None if they were not built.
SHARED_LIB_DIR = library_dir()
