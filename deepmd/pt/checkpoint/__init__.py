# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training checkpoints in the dialect of DeePMD-kit."""
