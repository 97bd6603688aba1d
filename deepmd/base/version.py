# SPDX-License-Identifier: LGPL-3.0-or-later
"""Versions of serialized objects."""


def check_version_compatibility(current: int, maximum: int, minimal: int = 1) -> None:
    """Check that the version of stored data can be read.

    Raises
    ------
    ValueError
        If ``current`` lies outside of ``minimal`` … ``maximum``.
    """
    if not minimal <= current <= maximum:
        raise ValueError(f"version {current} cannot be read, {minimal} to {maximum} can")
