# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model dictionaries in files: the neutral formats ``.dp`` and ``.yaml``."""

from deepmd.io.files import load_model, save_model

__all__ = ["load_model", "save_model"]
