# SPDX-License-Identifier: LGPL-3.0-or-later
"""The commands of ``dp``: one module each, with its arguments and a function of the same name."""
