# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compiled model files: traced cores in scripted wrappers."""
