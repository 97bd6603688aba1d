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
    number = number_format(potential, dtype, path)
    paths = data_paths(system, datafile).paths
    systems = open_systems(paths, type_map=potential.get_type_map())
    written = []
    for one, name in zip(systems, names_of([s.path for s in systems]), strict=True):
        file = Path(output) / f"{name}.npy"
        (values,) = of_atoms(potential, one, ("descriptor",), number).values()
        with replacing(file) as target:
            np.save(target, values)
        log.info("descriptors of %s written to %s", one.path, file)
        written.append(str(file))
    return written


def number_format(potential: DeepEval, dtype: str, path: Path) -> np.dtype:
    """Number format that an option ``--dtype`` asks for: native is that of the descriptor.

    Raises
    ------
    NotAvailableError
        If the model has no descriptor.
    """
    descriptor = potential.model.atomic_model.components().get("descriptor")
    if descriptor is None:
        raise NotAvailableError("the model has no descriptor of its own", where=path)
    if dtype != "native":
        return np.dtype({"fp32": np.float32, "fp64": np.float64}[dtype])
    trained, fixed = split(descriptor)
    return np.result_type(*(a.dtype for a in (trained or fixed).values()))


def names_of(paths: Sequence[str]) -> list[str]:
    """Name systems by the last part of their paths, and number repeated names.

    A system whose name has the number of another one in it keeps its name, as it came first or
    not: no two have the same.
    """
    last = [_last_part(path) for path in paths]
    taken, names = set(last), []
    for k, name in enumerate(last):
        if name in last[:k]:
            numbers = (f"{name}.{n}" for n in itertools.count(1))
            name = next(numbered for numbered in numbers if numbered not in taken)
            taken.add(name)
        names.append(name)
    return names


def _last_part(path: str) -> str:
    last = path.rstrip("/").replace("#", "/").rstrip("/").split("/")[-1]
    return Path(path).resolve().name if last in ("", ".", "..") else last


def of_atoms(
    potential: DeepEval, system: System, names: Sequence[str], number: np.dtype
) -> dict[str, np.ndarray]:
    """Inner results of all frames of a system, (n_frames, n_atoms, width); 0 for virtual atoms."""
    frames, parts = np.arange(system.nframes), []
    for batch in batches(system, frames, parameter_labels(potential.model)):
        found = potential.evaluate_batch(batch, derivatives=(), extra=names)
        parts.append([found[name].astype(number) for name in names])
    there, out = system.frame_types(frames) >= 0, {}
    for name, values in zip(names, zip(*parts, strict=True), strict=True):
        out[name] = np.zeros((*there.shape, values[0].shape[-1]), number)
        out[name][there] = np.concatenate(values)
    return out
