# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation under the names of DeePMD-kit's PyTorch backend."""
