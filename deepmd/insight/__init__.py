# SPDX-License-Identifier: LGPL-3.0-or-later
"""A training seen from outside: reports, diagnoses, comparisons."""
