# SPDX-License-Identifier: LGPL-3.0-or-later
"""Neutral dictionaries of PyTorch's model files under the names that clients import."""

from deepmd.pt.files import read_model as serialize_from_file
from deepmd.pt.torchscript.export import write_pth as deserialize_to_file

__all__ = ["deserialize_to_file", "serialize_from_file"]
