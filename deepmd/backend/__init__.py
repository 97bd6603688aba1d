# SPDX-License-Identifier: LGPL-3.0-or-later
"""Backends: what each can do, and which one opens a file."""
