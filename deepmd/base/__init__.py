# SPDX-License-Identifier: LGPL-3.0-or-later
"""Errors, registries, files and logging: used by all rooms, and using none."""
