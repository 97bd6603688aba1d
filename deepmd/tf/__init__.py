# SPDX-License-Identifier: LGPL-3.0-or-later
"""The TensorFlow backend."""

import os

from deepmd.base.imports import hidden

# What TensorFlow's C++ code says on import, about CPU features and missing GPUs. Its level is read
# once, when the library is loaded; a level that somebody chose stays.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# TensorFlow imports these where they are installed, for parts that nothing here uses: a third of the
# time of the import and 150 MB. ``tf.keras`` imports Keras later, when it is asked for.
with hidden("jax", "keras"):
    import tensorflow  # noqa: F401

from deepmd.tf import ops

__all__ = ["ops"]
