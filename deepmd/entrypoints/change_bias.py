# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp change-bias``: fit the bias per type of a model to data, or set it to given numbers."""

import functools
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.backend.backend import Backend
from deepmd.backend.detect import backend_of, is_folder_kind, resolve_model
from deepmd.base.errors import DataError, InputError, NotAvailableError
from deepmd.data.dataset import Dataset
from deepmd.data.sampler import Sampler
from deepmd.data.search import open_systems
from deepmd.dpmodel.label import Label, parameter_labels
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.uncertainty import SECTION
from deepmd.entrypoints.commands import check_choices
from deepmd.entrypoints.data import data_paths
from deepmd.entrypoints.freeze import checkpoint_backend
from deepmd.io.files import branch_of, check_head
from deepmd.runtime.checkpoint_file import has_training
from deepmd.runtime.probes import make_probes
from deepmd.train import statistics
from deepmd.train.checkpoints import find_checkpoints

log = logging.getLogger(__name__)


def change_bias(
    *,
    INPUT: str,
    system: str = ".",
    datafile: str | None = None,
    bias_value: Sequence[float] | None = None,
    numb_batch: int = 0,
    mode: str = "change",
    output: str | None = None,
    head: str | None = None,
    backend: str | None = None,
    **_: Any,
) -> str:
    """Write a model with other biases, and return the name of its file.

    Everything else in the file stays: of a checkpoint also the state of the training. The options
    are those of ``dp change-bias``.
    """
    check_choices("change-bias", mode=mode)
    if numb_batch < 0:
        raise InputError(f"{numb_batch} batches", where="--numb-batch", fix="0 means all")
    path, opener = find_input(INPUT, backend)
    target = output_path(path, opener, output)
    model, branch, write = open_stored(opener, path, head)
    names = model.output_def().keys()
    if "dipole" in names:
        raise NotAvailableError(
            "a dipole has no bias: a constant vector would not turn with the system", where=path
        )
    before = biases(model)
    if bias_value is not None:
        set_values(model, bias_value)
    else:
        paths = data_paths(system, datafile).paths
        sample = data_sample(model, paths, numb_batch)
        if mode == "set":
            fit_labels(model, sample)
        else:
            statistics.change_bias(model, sample.batches(), opener.deep_eval(path, head=branch))
    for name, old, new in zip(names, before, biases(model), strict=True):
        log.info("bias of %s for %s: %s -> %s", name, model.get_type_map(), _text(old), _text(new))
    write(target)
    log.info("model with the new bias written to %s", target)
    return str(target)


def _text(bias: np.ndarray) -> list[Any]:
    return (bias[:, 0] if bias.shape[1] == 1 else bias).tolist()


# -- files ----------------------------------------------------------------------------------------


def find_input(given: str, backend: str | None) -> tuple[Path, Backend]:
    """Return the file the user means, and the backend that opens it."""
    path = Path(given)
    if path.is_dir() and not is_folder_kind(path):
        source = checkpoint_backend(given, backend)
        source.require()
        return find_checkpoints(path, source.checkpoint_suffix or "")[0], source
    path = resolve_model(given, backend)
    return path, backend_of(path)


def output_path(path: Path, backend: Backend, given: str | None) -> Path:
    """Return where to write; the kind of the file must be that of the input."""
    if given is None:
        return path.with_name(f"{path.stem}_updated{path.suffix}")
    checkpoint = is_checkpoint(path, backend)
    known = (backend.checkpoint_suffix or "",) if checkpoint else backend.suffixes
    if not str(given).lower().endswith(known):
        raise InputError(
            f"a {'checkpoint' if checkpoint else 'model file'} of {backend.name} does not end so",
            where=given,
            fix=f"use {' or '.join(known)}; dp freeze and dp convert-backend write other kinds",
        )
    return Path(given)


def is_checkpoint(path: Path, backend: Backend) -> bool:
    """Whether a file holds the state of a training."""
    suffix = backend.checkpoint_suffix
    if suffix is None or not path.name.lower().endswith(suffix):
        return False
    return suffix not in backend.suffixes or has_training(path)


def open_stored(
    backend: Backend, path: Path, head: str | None
) -> tuple[Model, str | None, Callable[[Path], None]]:
    """Return the model of a file, its branch if there are several, and how to write it anew.

    The model is to be changed in place; everything beside it is written as it was.
    """
    if is_checkpoint(path, backend):
        checkpoint = backend.read_checkpoint(path)
        branch = branch_of(checkpoint.models, head, path, checkpoint.model_params)
        check_head(branch, head)
        several = branch if len(checkpoint.models) > 1 else None
        write = functools.partial(backend.write_checkpoint, checkpoint=checkpoint)
        return checkpoint.models[branch], several, write
    data = backend.serialize_hook(path)
    model = Model.deserialize(data["model"])
    if data.pop(SECTION, None) is not None:
        log.warning("the uncertainty in %s is left out: fit it again with dp uncertainty", path)

    def write_model(target: Path) -> None:
        new = {"model": model.serialize(), "probes": make_probes(model)}
        backend.deserialize_hook(target, {**data, **new})

    return model, None, write_model


# -- biases ---------------------------------------------------------------------------------------


def biases(model: Model) -> list[np.ndarray]:
    """Biases of the outputs, (ntypes, size) each, those inside of the fitting included."""
    atomic, n = model.atomic_model, model.get_ntypes()
    own = atomic.own_bias()
    return [
        atomic.out_bias[k, :n, : v.size] + own[:n]
        for k, v in enumerate(model.output_def().get_data().values())
    ]


def set_values(model: Model, values: Sequence[float]) -> None:
    """Set the biases to given numbers, in place."""
    (variable,) = model.output_def().get_data().values()
    names, size = model.get_type_map(), variable.size
    if len(values) != len(names) * size:
        raise InputError(
            f"{len(values)} given, {len(names)} types need {size} each",
            where="--bias-value",
            fix=f"give them in the order {' '.join(names)}",
        )
    if not np.isfinite(values).all():
        raise InputError("holds NaN or infinite numbers", where="--bias-value")
    model.atomic_model.clear_inner_biases()
    model.atomic_model.out_bias[0, : len(names), :size] = np.reshape(values, (len(names), size))


def fit_labels(model: Model, sample: statistics.Sample) -> None:
    """Set the biases to the fit of the labels, as a new training would, in place."""
    batches = list(sample.without_edges())
    model.atomic_model.clear_inner_biases()
    for k, variable in enumerate(model.output_def().get_data().values()):
        bias, _ = statistics.output_bias(model, variable, batches)
        model.atomic_model.out_bias[k, :, : variable.size] = bias


def data_sample(model: Model, paths: list[str], nbatch: int) -> statistics.Sample:
    """Return the frames that biases are fitted to."""
    systems = open_systems(paths, type_map=model.get_type_map())
    sampler = Sampler([s.nframes for s in systems], [s.natoms for s in systems])
    outputs = output_labels(model)
    labels = [*outputs, *parameter_labels(model)]
    data = Dataset(
        systems,
        sampler,
        labels,
        rcut=model.get_rcut(),
        cache_bytes=0,
        correction=statistics.correction_of(model),
    )
    needed = [la.name for la in outputs]
    if not any(found[name] for found in data.found for name in needed):
        raise DataError(
            f"no system has {' or '.join(f'{n}.npy' for n in needed)}",
            where=", ".join(paths[:3]),
            fix="biases are fitted to these labels; add one, or use --bias-value",
        )
    return statistics.Sample(data, nbatch or max(s.nframes for s in systems))


def output_labels(model: Model) -> list[Label]:
    """Return the labels of the model's outputs, of frames and of atoms."""
    labels = []
    types = tuple(model.get_sel_type()) or None
    for v in model.output_def().get_data().values():
        labels.append(Label(v.label_name, v.size, atomic=False, high_precision=True))
        labels.append(Label(f"atom_{v.label_name}", v.size, atomic=True, sel_type=types))
    return labels
