# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp uncertainty``: fit and calibrate the uncertainty of a model, and store it in its file."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.backend.detect import backend_of, refuse_same_file, resolve_model
from deepmd.base.errors import InputError
from deepmd.data.search import open_systems
from deepmd.data.structure_file import parse_keys
from deepmd.data.system import System
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.calibration import COVERAGES, Calibration
from deepmd.dpmodel.label import Label, parameter_labels
from deepmd.dpmodel.uncertainty import SECTION, Uncertainty
from deepmd.entrypoints.change_bias import is_checkpoint
from deepmd.entrypoints.data import DataPaths, batches, data_paths
from deepmd.infer import DeepPot
from deepmd.infer.model_devi import check_models
from deepmd.infer.uncertainty import labels_found
from deepmd.infer.uncertainty_fit import fit_committee, fit_last_layer

log = logging.getLogger(__name__)

#: What calibration needs.
LABELS = (
    Label("energy", 1, atomic=False, high_precision=True),
    Label("force", 3, atomic=True),
)
_INPUTS = (".json", ".yaml", ".yml")


def uncertainty(
    *,
    MODEL: Sequence[str],
    train: Sequence[str] | None = None,
    valid: Sequence[str] | None = None,
    output: str | None = None,
    numb_frames: int = 200,
    seed: int = 0,
    keys: Sequence[str] | None = None,
    backend: str | None = None,
    **_: Any,
) -> str:
    """Write a model file with calibrated uncertainties, and return its name.

    One model gets those of its last layer, of several models the first gets those of the committee.
    The options are those of the command.
    """
    if numb_frames < 0:
        raise InputError(f"{numb_frames} frames", where="--numb-frames", fix="0 means all")
    paths = [resolve_model(m, backend) for m in MODEL]
    source = backend_of(paths[0])
    if is_checkpoint(paths[0], source):
        raise InputError(
            "is a checkpoint of a training", where=paths[0], fix="freeze it first, with dp freeze"
        )
    target = Path(output or paths[0].with_name(f"{paths[0].stem}_uncertainty{paths[0].suffix}"))
    if backend_of(target).name != source.name:
        raise InputError(
            f"a model file of {source.name} does not end so",
            where=target,
            fix=f"use {' or '.join(source.suffixes)}; dp convert-backend writes other kinds",
        )
    refuse_same_file(paths[0], target)
    opened = [DeepPot(path) for path in paths]
    check_models(opened, 1, names=paths)
    validation = [
        b for b in frames_of(opened[0], valid, "validation_data", 0, keys) if labels_found(b)
    ]
    if len(opened) > 1:
        found = fit_committee(opened, validation)
    else:
        training = frames_of(opened[0], train, "training_data", numb_frames, keys)
        found = fit_last_layer(opened[0], training, validation, seed)
    for line in describe(found, len(opened)):
        log.info("%s", line)
    data = source.serialize_hook(paths[0])
    source.deserialize_hook(target, {**data, SECTION: found.serialize()})
    log.info("model with uncertainties written to %s", target)
    return str(target)


def systems_of(
    potential: DeepPot, given: Sequence[str] | None, section: str, keys: Sequence[str] | None
) -> list[System]:
    """Return the systems of an option: data sets, or a section of the input of a training."""
    option = "--train" if section == "training_data" else "--valid"
    if not given:
        raise InputError("no data", where=option, fix=f"name systems or an input file: {option}")
    declared, found = parse_keys(keys), DataPaths(list(given))
    if len(given) == 1 and given[0].lower().endswith(_INPUTS):
        training, validation = (given[0], None) if option == "--train" else (None, given[0])
        found = data_paths(".", None, training, validation)
    names = potential.get_type_map()
    return open_systems(
        found.paths, type_map=names, patterns=found.patterns, keys=declared or found.keys
    )


def frames_of(
    potential: DeepPot,
    given: Sequence[str] | None,
    section: str,
    most: int,
    keys: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """Iterate over the frames of data sets in batches; ``most`` of each system, 0 for all."""
    labels = [*LABELS, *parameter_labels(potential.model)]
    for system in systems_of(potential, given, section, keys):
        n = system.nframes
        count = min(most, n) if most else n
        yield from batches(system, np.arange(count) * n // count, labels)


def describe(found: Uncertainty, models: int) -> Iterator[str]:
    """Lines about a fit."""
    if found.last_layer is None:
        yield f"committee of {models} models"
    else:
        about = found.about
        yield (
            f"last layer: {about['features']} features, {about['training_frames']} training "
            f"frames, regularization {about['ridge']:g}"
        )
    for name, of, unit in (("energy", found.energy, "eV"), ("force", found.force, "eV/Å")):
        yield f"{name} [{unit}]: deviations times {of.scale:.3g} ({of.frames} frames)"
        yield f"  intervals, in standard deviations: {intervals(of)}"


def intervals(of: Calibration) -> str:
    """Half widths of the intervals by their coverage, in words."""
    known = [f"{100 * c:g} %: {f:.3g}" for c, f in of.intervals]
    if len(known) < len(COVERAGES):
        missing = COVERAGES[len(known)]
        # The quantile of n frames exists where n >= c / (1 - c).
        known.append(
            f"{100 * missing:g} % needs {int(np.ceil(missing / (1 - missing) - 1e-9))} frames"
        )
    return ", ".join(known)
