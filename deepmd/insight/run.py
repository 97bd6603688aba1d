# SPDX-License-Identifier: LGPL-3.0-or-later
"""The folder of a training, as it lies on disk."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.base.reading import read_small_text
from deepmd.data.search import open_systems
from deepmd.data.system import System
from deepmd.io.files import SINGLE, branch_of
from deepmd.schema import load_input
from deepmd.train.plan import branches
from deepmd.train.run_record import RUN_FILE


@dataclasses.dataclass
class Run:
    """What a training left.

    Attributes
    ----------
    folder : path
    config : dict
        Complete input, ``out.json``.
    record : dict
        ``run.json``; empty where there is none.
    columns : list of str
        Names of the columns of the learning curve.
    curve : (n_rows, n_columns) float64
    model : path or None
        Newest checkpoint.
    head : str or None
        Branch of a training of several that this is, see :meth:`branch`.
    """

    folder: Path
    config: dict[str, Any]
    record: dict[str, Any]
    columns: list[str]
    curve: np.ndarray
    model: Path | None
    head: str | None = None

    @property
    def branches(self) -> list[str]:
        """Names of the branches; empty for a training of one model."""
        return list(self.config["model"].get("model_dict", {}))

    def branch(self, head: str | None = None) -> "Run":
        """Return what concerns one branch, as if it had been trained alone.

        Without several branches it is the run itself.

        Raises
        ------
        InputError
            If there are several and none is named, or none has the name.
        """
        if not self.branches:
            return self
        tasks = {task.name: task for task in branches(self.config)}
        name = branch_of(list(tasks), head, self.folder, self.config["model"])
        whole, task = self.config["training"], tasks[name]
        config = {**self.config, "model": task.model, "loss": task.loss}
        config["training"] = {**whole, **task.data}
        given = whole.get("model_prob") or {}
        shares = {task: given.get(task, 1.0 / len(tasks)) for task in tasks}
        record = {**self.record, "data": {SINGLE: (self.record.get("data") or {}).get(name, {})}}
        if self.record.get("step"):
            record["step"] = round(self.record["step"] * shares[name] / sum(shares.values()))
        columns = [c.removesuffix(f"_{name}") for c in self.columns]
        return dataclasses.replace(self, config=config, record=record, columns=columns, head=name)

    def column(self, name: str) -> np.ndarray | None:
        """Return a column of the learning curve, None if it is not there or has no number."""
        if name not in self.columns or len(self.curve) == 0:
            return None
        values = self.curve[:, self.columns.index(name)]
        return values if np.isfinite(values).any() else None

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Make the folder that of the process, to which the paths of its input refer."""
        before = os.getcwd()
        os.chdir(self.folder)
        try:
            yield
        finally:
            os.chdir(before)

    def systems(self, kind: str) -> list[System]:
        """Open ``training_data`` or ``validation_data``, :meth:`inside`; nothing if there is none."""
        section = self.config["training"].get(kind)
        if not section:
            return []
        return open_systems(
            section["systems"],
            type_map=self.config["model"]["type_map"],
            patterns=section.get("rglob_patterns"),
            keys=section.get("keys"),
        )


def read_run(folder: str | os.PathLike[str]) -> Run:
    """Read the folder of a training.

    Raises
    ------
    InputError
        If it is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(
            "there is no such folder", where=folder, fix="name the folder of a training"
        )
    if not (folder / "out.json").is_file():
        raise InputError(
            "no out.json here", where=folder, fix="name the folder in which dp train was started"
        )
    config = load_input(folder / "out.json")
    training = config.get("training", {})
    columns, curve = _read_curve(folder / training.get("disp_file", "lcurve.out"))
    record = {}
    store = folder / Path(training.get("save_ckpt", "model.ckpt")).parent
    if (store / RUN_FILE).is_file():
        record = json.loads(read_small_text(store / RUN_FILE))
    model = _newest(folder, training)
    return Run(folder.resolve(), config, record, columns, curve, model and model.resolve())


def _read_curve(path: Path) -> tuple[list[str], np.ndarray]:
    if not path.is_file():
        return [], np.zeros((0, 0))
    lines = read_small_text(path).splitlines()
    columns = lines[0].lstrip("# ").split() if lines else []
    rows = []
    for line in lines:
        words = line.split()
        if line.startswith("#") or len(words) != len(columns):
            continue
        with contextlib.suppress(ValueError):  # a row cut off
            rows.append([float(w) for w in words])
    return columns, np.array(rows, dtype=np.float64).reshape(-1, len(columns))


def _newest(folder: Path, training: dict[str, Any]) -> Path | None:
    """Return the checkpoint that the pointer names, or the one with the highest step."""
    prefix = folder / training.get("save_ckpt", "model.ckpt")
    pointer = prefix.parent / "checkpoint"
    if pointer.is_file():
        words = read_small_text(pointer).replace('"', " ").split()
        for word in reversed(words):
            for found in (prefix.parent / word, folder / word):
                if found.exists():
                    return found
    found = sorted(prefix.parent.glob(f"{prefix.name}-*"), key=lambda p: p.stat().st_mtime)
    return found[-1] if found else None
