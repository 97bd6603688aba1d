# SPDX-License-Identifier: LGPL-3.0-or-later
"""Run mutants of data and input files in a process of their own."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

PROGRAM = Path(__file__).with_name("mutants_data.py")


def run_mutants(kind: str, count: int, folder: Path, first: int = 0) -> Counter[str]:
    """Open mutants; return how many were opened and refused. Anything else fails, with the number."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), kind, str(first), str(count), str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.split()
    assert done.returncode == 0, (
        f"mutant {next((x for x in reversed(lines) if x.isdecimal()), None)} of {kind}: "
        f"status {done.returncode}\n{done.stderr[-3000:]}"
    )
    return Counter(line for line in lines if not line.isdecimal())
