# SPDX-License-Identifier: LGPL-3.0-or-later
"""Check of versions under the name that clients import; see :mod:`deepmd.base.version`."""

from deepmd.base.version import check_version_compatibility

__all__ = ["check_version_compatibility"]
