# SPDX-License-Identifier: LGPL-3.0-or-later
"""python child.py FILE FIRST LAST: open mutants of a file, and say what came of each.

Prints one line of JSON per mutant: number, mutator, outcome, what was raised, seconds, and MiB by
which the memory of the process had grown at most. Outcomes: ``right`` (opens, and gives the results
of the original), ``refused`` (one line, which names the file), ``wrong`` (other results),
``raised`` (anything else). A mutant that was edited on purpose may give other results: it is
``edited``.
"""

import json
import logging
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import mutants  # beside this file
import numpy as np

from deepmd.base.errors import InputError
from deepmd.infer import DeepEval

COORD = np.array([[[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0], [1.5, 1.6, 1.7]]])


def peak() -> float:
    """Largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def opened(path: Path) -> DeepEval:
    """Open a file."""
    warnings.simplefilter("ignore")
    return DeepEval(str(path))


def evaluate(potential: DeepEval) -> dict[str, np.ndarray]:
    """Return results for four atoms."""
    return potential.evaluate(COORD, None, [0, 1, 1, 0], derivatives=())


def outcome(path: Path, right: dict[str, np.ndarray], edited: bool) -> tuple[str, str]:
    """Open a file; return the outcome, and what was raised."""
    potential = None
    try:
        potential = opened(path)
        got = evaluate(potential)
    except InputError as error:
        text = str(error)
        clean = "\n" not in text and len(text) < 1000
        if potential is not None:  # a model of other types, for example
            return ("edited" if clean and edited else "raised"), text
        clean = clean and str(path) in text
        return ("refused" if clean else "raised"), text
    except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
        return "raised", f"{type(error).__name__}: {error}"[:500]
    same = set(got) == set(right) and all(
        got[k].shape == right[k].shape and np.abs(got[k] - right[k]).max() <= 1e-10 for k in right
    )
    return ("right" if same else "edited" if edited else "wrong"), ""


def main(source: Path, first: int, last: int, folder: Path) -> None:
    """Open the mutants from first to last."""
    logging.disable(logging.CRITICAL)
    data = source.read_bytes()
    right = evaluate(opened(source))
    path = folder / f"mutant{source.suffix}"
    for number in range(first, last):
        kind, bytes_ = mutants.mutant(data, source.suffix, number)
        path.write_bytes(bytes_)
        before, start = peak(), time.monotonic()
        print(json.dumps({"begins": number}), flush=True)
        found, what = outcome(path, right, kind.startswith("edit"))
        seconds, grown = time.monotonic() - start, peak() - before
        print(json.dumps([number, kind, found, what, round(seconds, 3), round(grown)]), flush=True)


if __name__ == "__main__":
    # Far above what is allowed: a mutant that takes it ends this process, and not the machine.
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (12 << 30, 12 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["OMP_NUM_THREADS"] = "1"
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
