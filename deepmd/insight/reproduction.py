# SPDX-License-Identifier: LGPL-3.0-or-later
"""A training done again, from what its folder says."""

import copy
import json
import logging
import os
from pathlib import Path
from typing import Any

from deepmd.base.errors import InputError
from deepmd.base.files import write_text
from deepmd.insight.run import Run
from deepmd.train.run_record import digest

log = logging.getLogger(__name__)


def prepare(run: Run, target: str | os.PathLike[str]) -> Path:
    """Write the input of a training into a new folder, after a look at its data.

    Raises
    ------
    InputError
        If the run cannot be repeated from its folder, or its data are others now.
    """
    record, folder = run.record, Path(target)
    if not record:
        raise InputError(
            "no run.json here", where=run.folder, fix="train again; it is written with checkpoints"
        )
    if record.get("start") is not None:
        raise InputError(
            f"started from {record['start']}; only trainings from the beginning are repeated",
            where=run.folder,
        )
    if folder.exists() and any(folder.iterdir()):
        raise InputError("is not empty", where=folder, fix="name another folder")
    check_data(run)
    config = copy.deepcopy(record["input"])
    training = config["training"]
    training["seed"] = record["seed"]
    for task in training.get("data_dict", {"": training}).values():
        for kind in ("training_data", "validation_data"):
            section = task.get(kind)
            if section:
                given = section["systems"]
                given = [given] if isinstance(given, str) else given
                section["systems"] = [os.path.join(run.folder, s) for s in given]
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "input.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    return folder


def check_data(run: Run) -> None:
    """Raise InputError if the data are not those of the training."""
    for name, known in run.record["data"].items():
        task = run.branch(name)
        with run.inside():
            for kind in ("training", "validation"):
                for before, now in zip(known[kind], task.systems(f"{kind}_data"), strict=False):
                    if before["digest"] != digest([now]):
                        raise InputError(
                            "the data have changed since the training",
                            where=before["path"],
                            fix="restore them",
                        )


def changes(run: Run, versions: dict[str, str], machine: dict[str, Any]) -> list[str]:
    """Return what is not as it was: versions of packages, kind of processor."""
    before = run.record["versions"]
    out = [f"{k} {v} now, {before[k]} then" for k, v in versions.items() if before.get(k, v) != v]
    if machine["cpu"] != run.record["machine"]["cpu"]:
        out.append(f"{machine['cpu']} now, {run.record['machine']['cpu']} then")
    return out
