# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training: everything that backends share."""
