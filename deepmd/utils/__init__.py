# SPDX-License-Identifier: LGPL-3.0-or-later
"""Import paths of DeePMD-kit that clients use; this package itself imports nothing from here."""
