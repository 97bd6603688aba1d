# SPDX-License-Identifier: LGPL-3.0-or-later
"""Imports without the optional parts of a package."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Make packages look as if they were not installed; those that are imported already stay.

    Parameters
    ----------
    *names : str
        Top-level packages.
    """
    modules: dict[str, Any] = sys.modules
    some = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(some))
    try:
        yield
    finally:
        for name in some:
            del modules[name]
