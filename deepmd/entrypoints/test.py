# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp test``: compare a model with labelled data."""

import argparse
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmd.entrypoints import options
from deepmd.utils.errors import DataError, InputError, NotAvailableError

if TYPE_CHECKING:
    import numpy as np

    from deepmd.data.system import System
    from deepmd.dpmodel.batch import Batch
    from deepmd.entrypoints.test_kinds import Kind, Metrics

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    options.add_model(parser)
    data = options.add_data(parser)
    data.add_argument("--train-data", metavar="INPUT", help="training data of an input file")
    data.add_argument("--valid-data", metavar="INPUT", help="validation data of an input file")
    parser.add_argument("-S", "--set-prefix", help=argparse.SUPPRESS)
    parser.add_argument(
        "-n", "--numb-test", type=int, default=0, help="frames per system, 0 for all (0)"
    )
    parser.add_argument("-r", "--rand-seed", type=int, help="seed of --shuffle-test")
    parser.add_argument("--shuffle-test", action="store_true", help="take frames at random")
    parser.add_argument("-d", "--detail-file", metavar="PREFIX", help="write every value")
    parser.add_argument(
        "-a",
        "--atomic",
        action="store_true",
        help="compare atomic values, too; of dipoles and polarizabilities in place of the frames'",
    )
    options.add_head(parser)


def test(
    *,
    model: str = "frozen_model",
    system: str = ".",
    datafile: str | None = None,
    train_data: str | None = None,
    valid_data: str | None = None,
    numb_test: int = 0,
    rand_seed: int | None = None,
    shuffle_test: bool = False,
    detail_file: str | None = None,
    atomic: bool = False,
    head: str | None = None,
    backend: str | None = None,
    set_prefix: str | None = None,
    **_: Any,
) -> dict[str, float]:
    """Log the errors of a model on every system, and their average; return the average.

    Parameters
    ----------
    model : str
        Model file or checkpoint.
    system, datafile, train_data, valid_data : str
        Where the data are: a system or folder, a list of them, or the data of an input file.
    numb_test : int
        Frames per system, 0 for all.
    rand_seed, shuffle_test
        Whether frames are drawn at random, and the seed.
    detail_file : str, optional
        Prefix of files with all values.
    atomic : bool
        Whether atomic values are compared, too.
    head : str, optional
        Branch of a multi-task model.
    backend : str, optional
        Its suffix is tried first where ``model`` has none.
    set_prefix
        Has no meaning any more.
    """
    from deepmd.backend.detect import resolve_model
    from deepmd.data.search import open_systems

    if numb_test < 0:
        raise InputError(f"{numb_test} frames", where="--numb-test", fix="0 means all")
    if set_prefix is not None:
        log.warning("--set-prefix has no meaning any more and is ignored")
    path = resolve_model(model, backend)
    paths, patterns = data_paths(system, datafile, train_data, valid_data)
    kind = open_kind(path, head=head, atomic=atomic)
    systems = open_systems(paths, type_map=kind.type_map, patterns=patterns)
    all_metrics = []
    for count, one in enumerate(systems):
        frames = choose_frames(one.nframes, numb_test, shuffle_test, rand_seed)
        log.info("# ---------------output of dp test--------------- ")
        log.info("# testing system : %s", one.path)
        metrics = test_system(kind, one, frames, detail_file, group=count)
        log.info("# number of test data : %d ", len(frames))
        for line in kind.lines(metrics):
            log.info("%s", line)
        log.info("# ----------------------------------------------- ")
        all_metrics.append(metrics)
    average = weighted_average(all_metrics)
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", len(systems))
    for line in kind.lines(average, average=True):
        log.info("%s", line)
    log.info("# ----------------------------------------------- ")
    return {name: value for name, (value, _) in average.items()}


def open_kind(path: str | os.PathLike[str], *, head: str | None, atomic: bool) -> "Kind":
    """Open a model and return what it is compared with."""
    from deepmd.entrypoints.test_kinds import EnergyKind, SpinKind
    from deepmd.entrypoints.test_kinds_other import DOSKind, PropertyKind, TensorKind
    from deepmd.infer import DeepDOS, DeepEval, DeepPot, DeepProperty
    from deepmd.infer.deep_tensor import DeepTensor

    predictor = DeepEval(path, head=head)
    kinds: tuple[tuple[type, type["Kind"]], ...] = (
        (DeepPot, EnergyKind),
        (DeepTensor, TensorKind),
        (DeepDOS, DOSKind),
        (DeepProperty, PropertyKind),
    )
    if isinstance(predictor, DeepPot) and predictor.has_spin:
        return SpinKind(predictor, atomic=atomic)
    for known, kind in kinds:
        if isinstance(predictor, known):
            return kind(predictor, atomic=atomic)
    raise NotAvailableError(
        f"it predicts {', '.join(predictor.model.kinds())}, which cannot be compared here",
        where=path,
    )


def data_paths(
    system: str, datafile: str | None, train_data: str | None, valid_data: str | None
) -> tuple[list[str], list[str] | None]:
    """Return the systems that the options name, and patterns for their search."""
    if datafile is not None:
        from deepmd.schema.load import read_text

        paths = [line.strip() for line in read_text(datafile).splitlines() if line.strip()]
        if not paths:
            raise InputError("names no system", where=datafile)
        return paths, None
    for file, section in ((train_data, "training_data"), (valid_data, "validation_data")):
        if file is not None:
            return _paths_of_input(file, section)
    return [system], None


def _paths_of_input(file: str, section: str) -> tuple[list[str], list[str] | None]:
    from deepmd.schema import load_input, upgrade

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
    return [str(folder / s) for s in systems], data.get("rglob_patterns")


def choose_frames(nframes: int, wanted: int, shuffle: bool, seed: int | None) -> "np.ndarray":
    """Return the numbers of the frames to test."""
    import numpy as np

    count = min(wanted, nframes) if wanted else nframes
    if shuffle:
        return np.random.default_rng(seed).permutation(nframes)[:count]
    return np.arange(count)


def test_system(
    kind: "Kind", system: "System", frames: "np.ndarray", detail_file: str | None, *, group: int
) -> "Metrics":
    """Errors of a model on frames of one system; the values go to the detail files."""
    parts = []
    for batch in batches(system, frames, kind.labels()):
        parts.append(kind.compare(batch))
    result = kind.join(parts)
    metrics = kind.metrics(result)
    if not metrics:
        names = ", ".join(f"{label.name}.npy" for label in kind.labels() if not label.required)
        raise DataError("has no label to compare with", where=system.path, fix=f"add {names}")
    if detail_file is not None:
        kind.write_details(result, detail_file, system.path, group=group)
    return metrics


def batches(system: "System", frames: "np.ndarray", labels: Any) -> Iterator["Batch"]:
    """Read frames in chunks of at most DP_TEST_CHUNK_ATOMS atoms."""
    text = os.environ.get("DP_TEST_CHUNK_ATOMS", "1000000")
    if not text.isdecimal() or int(text) == 0:
        raise InputError(f'"{text}" is not a positive number', where="DP_TEST_CHUNK_ATOMS")
    size = max(1, int(text) // max(system.natoms, 1))
    for start in range(0, len(frames), size):
        yield system.load(frames[start : start + size], labels)


def weighted_average(all_metrics: "list[Metrics]") -> "Metrics":
    """Average over systems: means by weight, root mean squares by weighted mean of squares.

    A metric that some systems lack is averaged over the others.
    """
    average = {}
    for name in dict.fromkeys(n for metrics in all_metrics for n in metrics):
        pairs = [m[name] for m in all_metrics if name in m]
        weight = sum(w for _, w in pairs)
        if name.startswith("mae"):
            value = sum(v * w for v, w in pairs) / weight
        else:
            value = (sum(v * v * w for v, w in pairs) / weight) ** 0.5
        average[name] = (float(value), weight)
    return average
