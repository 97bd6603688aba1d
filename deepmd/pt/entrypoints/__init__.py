# SPDX-License-Identifier: LGPL-3.0-or-later
"""Commands of the PyTorch backend, at the import paths its users know."""
