# SPDX-License-Identifier: LGPL-3.0-or-later
"""Registries of plugins under the name that clients import; see :mod:`deepmd.base.plugin`."""

from deepmd.base.plugin import make_plugin_registry

__all__ = ["make_plugin_registry"]
