# SPDX-License-Identifier: LGPL-3.0-or-later
"""What training needs below the trainer: steps, optimizers, schedules, checkpoints."""
