# SPDX-License-Identifier: LGPL-3.0-or-later
"""The systems that the options of a command name, and their frames in chunks."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from deepmd.base.errors import InputError
from deepmd.data.system import System
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import Label
from deepmd.infer.batch_size import atoms_per_call
from deepmd.schema import load_input, upgrade
from deepmd.schema.load import read_text


class DataPaths(NamedTuple):
    """Systems that options name, patterns for their search, and declared names of labels."""

    paths: list[str]
    patterns: list[str] | None = None
    keys: dict[str, str | None] | None = None


def data_paths(
    system: str,
    datafile: str | None,
    train_data: str | None = None,
    valid_data: str | None = None,
) -> DataPaths:
    """Return the systems that the options name, and how they are searched and read."""
    options = {"--datafile": datafile, "--train-data": train_data, "--valid-data": valid_data}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise InputError(f"not allowed with {given[0]}", where=given[1], fix="give one of them")
    if datafile is not None:
        paths = [line.strip() for line in read_text(datafile).splitlines() if line.strip()]
        if not paths:
            raise InputError("names no system", where=datafile)
        return DataPaths(paths)
    for file, section in ((train_data, "training_data"), (valid_data, "validation_data")):
        if file is not None:
            return _paths_of_input(file, section)
    return DataPaths([system])


def _paths_of_input(file: str, section: str) -> DataPaths:
    training = upgrade(load_input(file)).get("training")
    data = training.get(section) if isinstance(training, dict) else None
    data = data if isinstance(data, dict) else {}
    systems = data.get("systems")
    where = f"{file}: training/{section}"
    if not systems:
        raise InputError("names no system", where=where)
    systems = [systems] if isinstance(systems, str) else systems
    if not isinstance(systems, list) or not all(isinstance(s, str) for s in systems):
        raise InputError("a list of paths is expected", where=f"{where}/systems")
    folder = Path(file).parent
    paths = [str(folder / s) for s in systems]
    return DataPaths(paths, data.get("rglob_patterns"), data.get("keys"))


def batches(system: System, frames: np.ndarray, labels: Sequence[Label]) -> Iterator[Batch]:
    """Read frames in chunks of at most DP_TEST_CHUNK_ATOMS atoms."""
    size = max(1, atoms_per_call("DP_TEST_CHUNK_ATOMS", 1_000_000) // max(system.natoms, 1))
    for start in range(0, len(frames), size):
        yield system.load(frames[start : start + size], labels)
