# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp doctor``: say what of this installation works."""

import argparse
from typing import Any

from deepmd.utils.errors import NotAvailableError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command: none."""


def doctor(**_: Any) -> None:
    """Print what was found.

    Raises
    ------
    NotAvailableError
        Something was built, but does not work.
    """
    from deepmd.entrypoints.installation import findings

    broken = []
    for finding in findings():
        print(finding, flush=True)  # noqa: T201
        if finding.mark == "!!":
            broken.append(finding.what)
    if broken:
        raise NotAvailableError(f"built, but not working: {', '.join(broken)}", where="dp doctor")
