# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models of DeePMD-kit's TensorFlow backend as neutral ones: frozen graphs and checkpoints.

TensorFlow is not needed, and nothing of a graph is executed: its constants fill the model that the
training script inside describes.
"""
