# SPDX-License-Identifier: LGPL-3.0-or-later
"""The TensorFlow backend."""

import os

# What TensorFlow's C++ code says on import, about CPU features and missing GPUs. Its level is read
# once, when the library is loaded; a level that somebody chose stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from deepmd.tf import ops

__all__ = ["ops"]
