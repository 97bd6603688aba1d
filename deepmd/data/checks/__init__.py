# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checks of data before a model is trained on them."""
