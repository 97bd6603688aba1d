# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp eval-desc``: write the descriptors of all atoms of systems."""

import itertools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.backend.detect import resolve_model
from deepmd.base.errors import NotAvailableError
from deepmd.base.files import replacing
from deepmd.data.search import open_systems
from deepmd.data.system import System
from deepmd.dpmodel.label import parameter_labels
from deepmd.dpmodel.module import split
from deepmd.entrypoints.commands import check_choices
from deepmd.entrypoints.data import batches, data_paths
from deepmd.infer import DeepEval
from deepmd.io.files import check_head

log = logging.getLogger(__name__)


def eval_desc(
    *,
    model: str = "frozen_model",
    system: str = ".",
    datafile: str | None = None,
    output: str = "desc",
    dtype: str = "fp64",
    head: str | None = None,
    backend: str | None = None,
    **_: Any,
) -> list[str]:
    """Write the descriptors of systems and return the names of the files.

    A system ``a/b`` goes to ``b.npy`` in the folder ``output``, an array (n_frames, n_atoms, width)
    with zeros for virtual atoms. Further systems of the same name get a number. The options are
    those of ``dp eval-desc``.
    """
    check_choices("eval-desc", dtype=dtype)
    path = resolve_model(model, backend)
    potential = DeepEval(path, head=head)
    check_head(potential.evaluator.branch, head)
    descriptor = potential.model.atomic_model.components().get("descriptor")
    if descriptor is None:
        raise NotAvailableError("the model has no descriptor of its own", where=path)
    formats = {"fp32": np.float32, "fp64": np.float64}
    number = np.dtype(formats[dtype]) if dtype in formats else native_dtype(descriptor)
    paths = data_paths(system, datafile).paths
    systems = open_systems(paths, type_map=potential.get_type_map())
    written = []
    for one, name in zip(systems, file_names([s.path for s in systems]), strict=True):
        file = Path(output) / name
        values = descriptors(potential, one, number)
        with replacing(file) as target:
            np.save(target, values)
        log.info("descriptors of %s written to %s", one.path, file)
        written.append(str(file))
    return written


def native_dtype(descriptor: Any) -> np.dtype:
    """Number format of the parameters of a descriptor."""
    trained, fixed = split(descriptor)
    return np.result_type(*(a.dtype for a in (trained or fixed).values()))


def file_names(paths: Sequence[str]) -> list[str]:
    """Name the files of systems by the last part of their paths, and number repeated names.

    A system whose name has the number of another one in it keeps its name, as it came first or
    not: no two files have the same.
    """
    last = [_last_part(path) for path in paths]
    taken, names = set(last), []
    for k, name in enumerate(last):
        if name in last[:k]:
            numbers = (f"{name}.{n}" for n in itertools.count(1))
            name = next(numbered for numbered in numbers if numbered not in taken)
            taken.add(name)
        names.append(f"{name}.npy")
    return names


def _last_part(path: str) -> str:
    last = path.rstrip("/").replace("#", "/").rstrip("/").split("/")[-1]
    return Path(path).resolve().name if last in ("", ".", "..") else last


def descriptors(potential: DeepEval, system: System, number: np.dtype) -> np.ndarray:
    """Descriptors of all frames of a system, (n_frames, n_atoms, width)."""
    frames = np.arange(system.nframes)
    parts = []
    for batch in batches(system, frames, parameter_labels(potential.model)):
        found = potential.evaluate_batch(batch, derivatives=(), extra=("descriptor",))
        parts.append(found["descriptor"].astype(number))
    there = system.frame_types(frames) >= 0
    out = np.zeros((*there.shape, parts[0].shape[-1]), number)
    out[there] = np.concatenate(parts)
    return out
