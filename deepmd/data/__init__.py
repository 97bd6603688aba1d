# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training and test data: systems, labels, sampling, neighbor cache, statistics."""
