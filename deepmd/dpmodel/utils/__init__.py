# SPDX-License-Identifier: LGPL-3.0-or-later
"""Helpers of the portable files, at the import paths its users know."""
