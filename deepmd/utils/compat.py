# SPDX-License-Identifier: LGPL-3.0-or-later
"""Upgrade of old inputs under the name that clients import; see :mod:`deepmd.schema.legacy`."""

from deepmd.schema.legacy import update_deepmd_input

__all__ = ["update_deepmd_input"]
