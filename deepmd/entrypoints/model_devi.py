# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp model-devi``: how much several models disagree about the frames of systems."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.backend.detect import resolve_model
from deepmd.base.errors import DataError, InputError, NotAvailableError
from deepmd.data.search import open_systems
from deepmd.data.system import System
from deepmd.dpmodel.label import Label, parameter_labels
from deepmd.entrypoints.commands import GRAPHS
from deepmd.infer import DeepPot
from deepmd.infer.model_devi import (
    batch_model_devi,
    check_levels,
    check_models,
    rows_of_batch,
    write_model_devi_out,
)
from deepmd.infer.uncertainty import Estimator, as_models
from deepmd.io.files import check_head

log = logging.getLogger(__name__)

#: Labels that models are compared with, and the columns of the result that come from each.
_REAL = {
    Label("virial", 9, atomic=False): slice(1, 4),
    Label("force", 3, atomic=True): slice(4, 7),
    Label("energy", 1, atomic=False, high_precision=True): slice(7, 8),
}


def model_devi(
    *,
    models: Sequence[str] = GRAPHS,
    system: str = ".",
    output: str = "model_devi.out",
    frequency: int = 1,
    real_error: bool = False,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
    calibrated: bool = False,
    head: str | None = None,
    backend: str | None = None,
    **_: Any,
) -> list[np.ndarray]:
    """Append the deviations of models on systems to a file; return them, one array per system.

    With ``real_error`` there are NaN in the place of what has no label. The options are those of
    ``dp model-devi``.
    """
    check_levels(("--relative", relative), ("--relative_v", relative_v))
    paths = [resolve_model(m, backend) for m in models]
    opened = [DeepPot(path, head=head) for path in paths]
    for potential in opened:
        check_head(potential.evaluator.branch, head)
    check_models(opened, 1 if real_error or calibrated else 2, names=paths)
    if real_error and calibrated:
        raise InputError("not allowed with --real_error", where="--calibrated", fix="give one")
    for path, potential in zip(paths, opened, strict=True):
        if potential.has_spin:
            raise NotAvailableError("deviations of models with spins are not built yet", where=path)
    options = {"atomic": atomic, "relative": relative, "relative_v": relative_v}
    estimator = Estimator(opened[0], opened[1:]) if calibrated else None
    results = []
    for one in open_systems(system, type_map=opened[0].get_type_map()):
        devi = deviations(opened, one, real_error, estimator, **options)
        devi[:, 0] *= frequency
        write_model_devi_out(devi, output, header=one.path, atomic=atomic)
        log.info("%s: %d frames written to %s", one.path, len(devi), output)
        results.append(devi)
    return results


def deviations(
    models: Sequence[DeepPot],
    system: System,
    real_error: bool,
    estimator: Estimator | None = None,
    **options: Any,
) -> np.ndarray:
    """Deviations of all frames of a system; the options are of :func:`batch_model_devi`.

    With an ``estimator`` they are its calibrated standard deviations.
    """
    labels = [*(_REAL if real_error else ()), *parameter_labels(models[0].model)]
    batch = system.load(np.arange(system.nframes), labels)
    if estimator is not None:
        return rows_of_batch(batch, as_models(estimator, batch), **options)
    known = {la.name: batch.labels[la.name] for la in _REAL if batch.find.get(la.name)}
    if real_error and not known:
        raise DataError(
            "has no label to compare with",
            where=system.path,
            fix="add energy.npy, force.npy or virial.npy, or leave out --real_error",
        )
    devi = batch_model_devi(batch, models, real_data=known, **options)
    for label, columns in _REAL.items():
        if real_error and label.name not in known:
            log.warning("%s: no %s.npy, its columns are nan", system.path, label.name)
            devi[:, columns] = np.nan
            if label.name == "force":
                devi[:, 8:] = np.nan
    return devi
