# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models of the PyTorch backend, at the import paths its users know."""
