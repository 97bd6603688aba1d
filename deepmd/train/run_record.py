# SPDX-License-Identifier: LGPL-3.0-or-later
"""``run.json``: what a training was, so that its folder explains itself."""

import contextlib
import hashlib
import json
import math
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepmd import __version__
from deepmd.base.banner import usable_cpus
from deepmd.base.files import write_text
from deepmd.data.lmdb import LmdbSystem
from deepmd.data.system import System
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.train.checkpoints import remove_fragments_of
from deepmd.train.extras import Extra
from deepmd.train.plan import Plan

if TYPE_CHECKING:
    from deepmd.train.trainer import Trainer

#: Name of the file.
RUN_FILE = "run.json"
#: Arrays that digests cover whole [bytes]; of larger ones the first and the last frames count.
_WHOLE, _ENDS = 1 << 22, 1 << 17
#: Entries of the record of speeds; it is thinned out beyond.
_MOST_ROWS = 500
#: Packages that numbers of every training depend on; those of its backend are named there.
_PACKAGES = ("numpy", "h5py", "vesin")


class RunRecord(Extra):
    """Writes ``run.json`` with every checkpoint: command, versions, data, machine, seeds, speed.

    Parameters
    ----------
    facts : dict
        What is known at the start; see :func:`facts_of`.
    folder : path
    """

    name = "run"

    def __init__(self, facts: dict[str, Any], folder: Path) -> None:
        self.facts, self.path = facts, folder / RUN_FILE
        remove_fragments_of(self.path)  # of a training that was killed
        self._rows: list[tuple[int, float]] = []
        self._every, self._last = 1, time.monotonic()
        self._seen = 0

    def files(self, step: int) -> list[Path]:
        """Return the record of an earlier run, where this one begins anew."""
        return [] if step else [self.path]

    def after_step(self, trainer: "Trainer") -> None:
        """Note the time of a step, or of several."""
        self._seen += 1
        if self._seen % self._every:
            return
        now = time.monotonic()
        self._rows.append((trainer.step, (now - self._last) / self._every))
        self._last = now
        if len(self._rows) >= 2 * _MOST_ROWS:
            pairs = zip(self._rows[::2], self._rows[1::2], strict=False)
            self._rows = [(b[0], 0.5 * (a[1] + b[1])) for a, b in pairs]
            self._every *= 2

    def save(self, trainer: "Trainer", checkpoint: Checkpoint) -> None:
        """Write the file as it stands."""
        waited = getattr(trainer.clock, "waited_in_all", 0.0) if trainer.clock else 0.0
        seconds = trainer.clock.seconds() if trainer.clock else 0.0
        speed = {
            "steps": [s for s, _ in self._rows],
            "seconds_per_step": [float(f"{t:.4g}") for _, t in self._rows],
            "data_wait": waited / seconds if seconds > 0 else 0.0,
        }
        out = self.facts | {"step": trainer.step, "speed": speed}
        write_text(self.path, json.dumps(out, indent=1, ensure_ascii=False) + "\n")


def facts_of(plan: Plan, backend: Any, given: Mapping[str, Any], ranks: int) -> dict[str, Any]:
    """Return what is known of a training before its first step."""
    training = plan.config["training"]
    versions = {"deepmd-kit": __version__, "python": platform.python_version()}
    # Installed ones, not loaded ones: some are loaded later, others were by the process before.
    for name in dict.fromkeys((*_PACKAGES, *getattr(backend, "packages", ()))):
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "backend": getattr(backend, "name", ""),
        "versions": versions,
        "machine": {
            "cpu": _cpu(),
            "architecture": platform.machine(),
            "cpus": usable_cpus(),
            "processes": ranks,
        },
        "seed": plan.seed,
        "start": None if plan.start is None else str(plan.start.path),
        "numb_steps": training.get("numb_steps"),
        "min_nbor_dist": plan.min_nbor_dist,
        "input": given,
        "data": {
            name: {
                kind: [_about(s) for s in systems or ()]
                for kind, systems in zip(("training", "validation"), both, strict=True)
            }
            for name, both in plan.systems.items()
        },
    }


def _about(system: System) -> dict[str, Any]:
    return {
        "path": system.path,
        "frames": system.nframes,
        "atoms": system.natoms,
        "digest": digest([system]),
    }


def digest(systems: Sequence[System]) -> str:
    """Digest of the arrays of systems: their names, shapes and bytes."""
    out = hashlib.blake2b(digest_size=16)
    for system in systems:
        if isinstance(system, LmdbSystem):
            batch = system.load(np.arange(min(system.nframes, 1000)))
            out.update(batch.coord.tobytes() + batch.atype.tobytes())
            continue
        out.update(system.atype.tobytes())
        for folder in system.sets:
            for file in folder.glob("*.npy"):
                array = file.open_array()
                out.update(f"{file.name}{tuple(array.shape)}{array.dtype}".encode())
                size = math.prod(array.shape) * array.dtype.itemsize
                few = 1 + _ENDS * array.shape[0] // size if size > _WHOLE else 0
                parts = [array[...]] if size <= _WHOLE else [array[:few], array[-few:]]
                for part in parts:
                    out.update(np.ascontiguousarray(part).tobytes())
    return out.hexdigest()


def _cpu() -> str:
    """Return the kind of processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()
