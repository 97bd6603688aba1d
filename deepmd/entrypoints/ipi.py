# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp_ipi``: start the compiled i-PI driver with the arguments of the command line."""

import os
import sys
from pathlib import Path
from typing import Any

from deepmd.base.native import bin_dir


def driver() -> Path | None:
    """Return the compiled driver, if it was built."""
    folder = bin_dir()
    program = None if folder is None else folder / "dp_ipi"
    return program if program is not None and program.is_file() else None


def dp_ipi(*, args: list[str] | None = None, **_: Any) -> int:
    """Run the i-PI driver in place of this process.

    Parameters
    ----------
    args : list of str, optional
        Arguments of the driver; those of the command line by default.

    Returns
    -------
    int
        1, if there is no driver; otherwise this function does not return.
    """
    program = driver()
    if program is None:
        print(  # noqa: T201
            "dp_ipi: the driver was not built; install a C++ compiler, then this package again "
            "(see dp doctor)",
            file=sys.stderr,
        )
        return 1
    sys.stdout.flush()
    os.execv(program, ["dp_ipi", *(sys.argv[1:] if args is None else args)])
