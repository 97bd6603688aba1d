# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation and training of models, as far as backends share it."""
