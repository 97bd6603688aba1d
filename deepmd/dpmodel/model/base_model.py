# SPDX-License-Identifier: LGPL-3.0-or-later
"""The base class of models under the name that clients import."""

from deepmd.dpmodel.model.model import Model as BaseModel

__all__ = ["BaseModel"]
