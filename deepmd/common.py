# SPDX-License-Identifier: LGPL-3.0-or-later
"""Two helpers under the names that clients import."""

import os
from typing import Any


def j_loader(filename: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an input file; see :func:`deepmd.schema.load_input`."""
    from deepmd.schema import load_input

    return load_input(filename)


def expand_sys_str(root_dir: str | os.PathLike[str]) -> list[str]:
    """Find the systems below a folder; see :func:`deepmd.data.search.expand_systems`."""
    from deepmd.data.search import expand_systems

    return expand_systems([str(root_dir)])
