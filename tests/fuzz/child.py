# SPDX-License-Identifier: LGPL-3.0-or-later
"""python child.py FIRST LAST FILE FOLDER [signed]: open mutants of a model file, print their rows.

A mutant that was edited on purpose may give other results: it is ``edited``. With ``signed`` all are
edited, and have right checksums.
"""

import logging
import os
import resource
import shutil
import sys
import time
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from fuzz import mutants, signing, sources
from fuzz.rows import Row, begin, end

from deepmd.backend.detect import backend_of
from deepmd.base.errors import InputError
from deepmd.infer import DeepEval
from deepmd.io.saved_model import has_model, is_saved_model, load_saved
from deepmd.io.tree import difference
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.checkpoint import Checkpoint

COORD = np.array([[[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0], [1.5, 1.6, 1.7]]])


def peak() -> float:
    """Largest resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def opened(path: Path) -> DeepEval:
    """Open a file; files of TensorFlow by the readers that do without it."""
    warnings.simplefilter("ignore")
    if path.suffix in (".pb", ".meta"):
        from deepmd.graphs.models import open_model

        return DeepEval.from_evaluator(open_model(path))
    if is_saved_model(path):
        if has_model(path):
            return DeepEval.from_evaluator(NumPyEvaluator.of_tree(load_saved(path), path))
        from deepmd.tf.saved.foreign import open_foreign

        return DeepEval.from_evaluator(open_foreign(path))
    return DeepEval(str(path))


def restarted(path: Path) -> Checkpoint | None:
    """Read a checkpoint as trainings do."""
    return backend_of(path).read_checkpoint(path) if "ckpt" in path.name else None


def evaluate(potential: DeepEval) -> dict[str, np.ndarray]:
    """Return results for four atoms."""
    return potential.evaluate(COORD, None, [0, 1, 1, 0], derivatives=())


class Original:
    """Results of a file, to which those of mutants are compared."""

    def __init__(self, path: Path) -> None:
        self.values, self.state = evaluate(opened(path)), self.state_of(path)

    @staticmethod
    def state_of(path: Path) -> dict[str, Any] | None:
        """Return what a restart starts from."""
        read = restarted(path)
        if read is None:
            return None
        return {"step": read.step, "optimizer": read.optimizer, "trainer": read.trainer}

    def outcome(self, path: Path, edited: bool) -> tuple[str, str]:
        """Open a file; return the outcome, and what was raised."""
        potential = None
        try:
            state = self.state_of(path)
            potential = opened(path)
            values = evaluate(potential)
        except InputError as error:
            text = str(error)
            clean = "\n" not in text and len(text) < 1000
            stem = str(path.with_suffix(""))  # a message may name another file of a checkpoint
            if clean and (stem if path.suffix == ".meta" else str(path)) in text:
                return "refused", text
            # A model of other types, for example.
            return ("edited" if clean and edited and potential is not None else "raised"), text
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported
            return "raised", f"{type(error).__name__}: {error}"[:500]
        same = set(values) == set(self.values) and all(
            values[k].shape == right.shape and np.abs(values[k] - right).max() <= 1e-10
            for k, right in self.values.items()
        )
        same = same and difference(state, self.state) is None
        return ("right" if same else "edited" if edited else "wrong"), ""


def write(path: Path, parts: mutants.Parts) -> None:
    """Write a mutant: a folder, files beside each other, or one file."""
    if is_saved_model(path):
        shutil.rmtree(path, ignore_errors=True)
    for name, data in parts.items():
        file = path / name if is_saved_model(path) else path.with_name(path.stem + name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def main(first: int, last: int, source: Path, folder: Path, *, signed: bool = False) -> None:
    """Open the mutants from first to last."""
    logging.disable(logging.CRITICAL)
    files, original = sources.parts(source), Original(source)
    stem = f"mutant{'_ckpt' * ('ckpt' in source.name)}"
    for number in range(first, last):
        mutator, changed = mutants.mutant(files, source.suffix, number, edit=signed)
        path = folder / f"{stem}{source.suffix}"
        write(path, changed)
        if signed:
            signing.sign(path)
        before, start = peak(), time.process_time()
        begin(number)
        found, what = original.outcome(path, mutator.startswith("edit"))
        seconds, grown = time.process_time() - start, peak() - before
        end(Row(number, mutator, found, what, round(seconds, 3), round(grown)))


if __name__ == "__main__":
    # Far above what is allowed: a mutant that takes it ends this process, and not the machine.
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["OMP_NUM_THREADS"] = "1"
    main(
        int(sys.argv[1]),
        int(sys.argv[2]),
        Path(sys.argv[3]),
        Path(sys.argv[4]),
        signed="signed" in sys.argv[5:],
    )
