# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp test``: compare a model with labeled data."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.backend.detect import resolve_model
from deepmd.base.errors import DataError, InputError
from deepmd.base.files import appending, replacing
from deepmd.base.log import with_progress
from deepmd.data.search import open_systems
from deepmd.data.structure_file import parse_keys
from deepmd.data.system import System
from deepmd.dpmodel.batch import Batch
from deepmd.entrypoints.compared_quantities import Form, Kind, Quantity, Rows, kind_of
from deepmd.entrypoints.data import batches, data_paths
from deepmd.entrypoints.test_output import Outcome, check_plot
from deepmd.entrypoints.test_uncertainty import Trust
from deepmd.infer import DeepEval
from deepmd.io.files import check_head

log = logging.getLogger(__name__)

#: Systems whose errors are shown one by one, at most.
_LISTED = 50

#: Name of an error -> value, and the number of values it was taken over.
Metrics = dict[str, tuple[float, float]]


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
    detail_hdf5: str | None = None,
    json_file: str | None = None,
    plot: str | None = None,
    atomic: bool = False,
    keys: Sequence[str] | None = None,
    head: str | None = None,
    uncertainty: bool = False,
    backend: str | None = None,
    set_prefix: str | None = None,
    **_: Any,
) -> dict[str, float]:
    """Log the errors of a model on every system, and their average; return the average.

    The options are those of ``dp test``.
    """
    if numb_test < 0:
        raise InputError(f"{numb_test} frames", where="--numb-test", fix="0 means all")
    if set_prefix is not None:
        log.warning("--set-prefix has no meaning any more and is ignored")
    check_plot(plot)
    path = resolve_model(model, backend)
    paths, patterns, declared = data_paths(system, datafile, train_data, valid_data)
    declared = parse_keys(keys) if keys else declared
    predictor = DeepEval(path, head=head)
    check_head(predictor.evaluator.branch, head)
    kind = kind_of(predictor, path, atomic=atomic)
    types = predictor.get_type_map()
    systems = open_systems(paths, type_map=types, patterns=patterns, keys=declared)
    trust = Trust(predictor, path) if uncertainty else None
    all_metrics = []
    outcome = Outcome(str(model), kind, json_file, detail_hdf5, plot)
    # Of many systems the errors of each would bury their average.
    level = logging.INFO if len(systems) <= _LISTED else logging.DEBUG
    for count, one in enumerate(with_progress(systems, "tested %d of %d systems")):
        frames = choose_frames(one.nframes, numb_test, shuffle_test, rand_seed)
        log.log(level, "# ---------------output of dp test--------------- ")
        log.log(level, "# testing system : %s", one.path)
        found = compare(predictor, kind, one, frames)
        metrics = errors(kind, found)
        if not metrics:
            names = ", ".join(f"{q.label.name}.npy" for q in kind.quantities)
            raise DataError("has no label to compare with", where=one.path, fix=f"add {names}")
        if detail_file is not None:
            write_details(kind, found, detail_file, one.path, group=count)
        log.log(level, "# number of test data : %d ", len(frames))
        for line in lines(kind, metrics):
            log.log(level, "%s", line)
        log.log(level, "# ----------------------------------------------- ")
        if trust is not None:
            trust.add(one, frames)
        all_metrics.append(metrics)
        outcome.add(one.path, len(frames), metrics, found)
    average = log_average(kind, [s.path for s in systems], all_metrics)
    if trust is not None:
        outcome.uncertainty = trust.summary()
        for line in trust.lines():
            log.info("%s", line)
    outcome.write(average)
    return {name: value for name, (value, _) in average.items()}


def log_average(kind: Kind, paths: Sequence[str], all_metrics: list[Metrics]) -> Metrics:
    """Log the average over systems, and of many systems the worst; return the average."""
    if len(paths) > _LISTED:
        log.info("# errors of every system: dp test -v DEBUG")
        for line in worst(kind, paths, all_metrics):
            log.info("%s", line)
    average = weighted_average(all_metrics)
    log.info("# ----------weighted average of errors----------- ")
    log.info("# number of systems : %d", len(paths))
    for line in lines(kind, average, average=True):
        log.info("%s", line)
    log.info("# ----------------------------------------------- ")
    return average


def choose_frames(nframes: int, wanted: int, shuffle: bool, seed: int | None) -> np.ndarray:
    """Return the numbers of the frames to test."""
    count = min(wanted, nframes) if wanted else nframes
    if shuffle:
        return np.random.default_rng(seed).permutation(nframes)[:count]
    return np.arange(count)


def compare(predictor: DeepEval, kind: Kind, system: System, frames: np.ndarray) -> dict[str, Rows]:
    """Evaluate frames of a system; return what has a label, by its name."""
    parts: dict[str, list[Rows]] = {}
    first = 0
    for batch in batches(system, frames, [*(q.label for q in kind.quantities), *kind.labels]):
        found = [
            q
            for q in kind.quantities
            if batch.find.get(q.label.name) and (batch.periodic.all() or not q.periodic)
        ]
        derivatives = list(dict.fromkeys(d for q in found for d in q.derivatives))
        out = predictor.evaluate_batch(batch, derivatives=derivatives) if found else {}
        for q in found:
            rows = rows_of(q, batch, out[q.result])
            rows = rows._replace(frame=rows.frame + first)
            parts.setdefault(q.label.name, []).append(rows)
        first += batch.n_frames
    return {k: Rows(*map(np.concatenate, zip(*v, strict=True))) for k, v in parts.items()}


def rows_of(quantity: Quantity, batch: Batch, pred: np.ndarray) -> Rows:
    """Put label and prediction beside each other, without unwanted types.

    Parameters
    ----------
    quantity : Quantity
    batch : Batch
    pred : (n_frames, ...), or (n_atoms, ...) for a quantity of atoms
    """
    label, types = quantity.label, quantity.types
    chosen = np.full(batch.n_atoms, True) if types is None else np.isin(batch.atype, types)
    data = batch.labels[label.name]
    frame = np.arange(batch.n_frames)
    weight = np.zeros((1, 1))
    if label.pairwise:  # such frames are of one size
        frame = np.repeat(frame, data.size // batch.n_frames)
    elif label.atomic:
        data, pred, frame = data[chosen], pred[chosen], batch.frame[chosen]
        weight = batch.labels.get("atom_pref", np.zeros((batch.n_atoms, 1)))[chosen]
    natoms = np.bincount(batch.frame[chosen], minlength=batch.n_frames).clip(1)
    volume = np.abs(np.linalg.det(batch.cell))
    return Rows(
        data.reshape(-1, label.size),
        pred.reshape(-1, label.size),
        frame,
        natoms[frame, None].astype(np.float64),
        volume[frame, None],
        np.broadcast_to(weight, (len(frame), 1)),
    )


def forms_of(kind: Kind, found: Mapping[str, Rows]) -> Iterator[tuple[Form, Rows]]:
    """Iterate over the forms of what has a label."""
    for quantity in kind.quantities:
        if quantity.label.name in found:
            for form in quantity.forms:
                yield form, found[quantity.label.name]


def errors(kind: Kind, found: Mapping[str, Rows]) -> Metrics:
    """Errors of one system."""
    metrics: Metrics = {}
    for form, rows in forms_of(kind, found):
        error = form.of(rows.pred - rows.data, rows)
        weights = np.broadcast_to(rows.weight, error.shape) if form.weighted else None
        count = error.size if weights is None else float(weights.sum())
        if count > 0:
            mean_square = np.average(np.square(error), weights=weights)
            metrics[f"mae_{form.name}"] = float(np.average(np.abs(error), weights=weights)), count
            metrics[f"rmse_{form.name}"] = float(np.sqrt(mean_square)), count
    return metrics


def lines(kind: Kind, metrics: Metrics, *, average: bool = False) -> Iterator[str]:
    """Lines of the report of errors."""
    for form in (f for q in kind.quantities for f in q.forms if f.averaged or not average):
        for measure in kind.measures:
            key = f"{measure.lower()}_{form.name}"
            if key in metrics:
                title = form.title.replace("?", measure)
                yield f"{title:<{kind.width}}: {metrics[key][0]:e} {form.unit}".rstrip()
    if kind.footer:
        yield kind.footer


def worst(
    kind: Kind, paths: Sequence[str], all_metrics: Sequence[Metrics], count: int = 5
) -> Iterator[str]:
    """Lines about the systems with the largest errors, per quantity."""
    for form in (f for q in kind.quantities for f in q.forms if f.averaged):
        key = f"rmse_{form.name}"
        found = [(m[key][0], path) for m, path in zip(all_metrics, paths, strict=True) if key in m]
        if found:
            yield f"# largest errors, {form.title.replace('?', 'RMSE').strip()} [{form.unit}]"
        for value, path in sorted(found, reverse=True)[:count]:
            yield f"#   {value:e}  {path}"


def write_details(
    kind: Kind, found: Mapping[str, Rows], prefix: str, system: str, *, group: int
) -> None:
    """Write all values; ``group`` is the number of the system."""
    for form, rows in forms_of(kind, found):
        if not form.file:
            continue
        pair = form.of(rows.data, rows), form.of(rows.pred, rows)
        if kind.line_per_frame:
            pair, form = side_by_side(pair, form, rows.frame)
        if not kind.file_per_frame:
            write_columns(prefix, form.file, system, form, pair, append=group > 0)
            continue
        later = f".{group}" if group else ""
        for k in np.unique(rows.frame):
            of_frame = [v[rows.frame == k].reshape(-1, 1) for v in pair]
            suffix = f"{form.file}{later}.{k}"
            write_columns(prefix, suffix, f"{system} - {k}", form, of_frame, append=False)


def side_by_side(
    pair: tuple[np.ndarray, np.ndarray], form: Form, frame: np.ndarray
) -> tuple[tuple[np.ndarray, np.ndarray], Form]:
    """Put the rows (n_rows, size) of every frame into one, NaN where a frame has fewer.

    ``frame`` (n_rows,) is ascending. The names of the columns get the numbers of the rows.
    """
    number = np.arange(len(frame)) - np.searchsorted(frame, frame)
    filled = np.full((2, frame[-1] + 1, number.max() + 1, len(form.columns)), np.nan)
    filled[:, frame, number] = pair
    data, pred = filled.reshape(*filled.shape[:2], -1)
    columns = [f"{c}{k + 1}" for k in range(filled.shape[2]) for c in form.columns]
    return (data, pred), form._replace(columns=columns)


def write_columns(
    prefix: str,
    suffix: str,
    title: str,
    form: Form,
    pair: Sequence[np.ndarray],
    *,
    append: bool,
) -> None:
    """Write labels and predictions side by side, one row per frame or atom.

    The suffix is added to the whole prefix: ``run0.5`` and ``run0.6`` have files of their own.
    """
    path = f"{prefix}{suffix}"
    names = " ".join(f"{side}_{c}" for side in ("data", "pred") for c in form.columns)
    with appending(path) if append else replacing(path) as file, file.text() as handle:
        np.savetxt(handle, np.hstack(pair), header=f"{title}: {names}{form.note}")


def weighted_average(all_metrics: list[Metrics]) -> Metrics:
    """Average over systems: means by weight, root mean squares by weighted mean of squares.

    A metric that some systems lack is averaged over the others.
    """
    average = {}
    for name in dict.fromkeys(n for metrics in all_metrics for n in metrics):
        values, weights = np.array([m[name] for m in all_metrics if name in m]).T
        power = 1 if name.startswith("mae") else 2
        mean = np.average(values**power, weights=weights) ** (1 / power)
        average[name] = (float(mean), float(weights.sum()))
    return average
