# SPDX-License-Identifier: LGPL-3.0-or-later
"""Components that are written for PyTorch: classes of plugins, as nodes of the neutral tree."""
