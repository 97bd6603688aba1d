# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp model-devi``: how much several models disagree about the frames of systems."""

import argparse
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deepmd.entrypoints import options
from deepmd.utils.errors import DataError, InputError, NotAvailableError

if TYPE_CHECKING:
    import numpy as np

    from deepmd.data.system import System
    from deepmd.dpmodel.batch import Batch

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument(
        "-m",
        "--models",
        nargs="+",
        default=["graph.000", "graph.001", "graph.002", "graph.003"],
        metavar="MODEL",
        help="model files or checkpoints (graph.000 to graph.003)",
    )
    options.add_system(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="model_devi.out",
        metavar="FILE",
        help="text file to append to (model_devi.out)",
    )
    parser.add_argument(
        "-f",
        "--frequency",
        type=int,
        default=1,
        help="steps between frames; the first column counts steps (1)",
    )
    parser.add_argument(
        "--real_error",
        "--real-error",
        action="store_true",
        help="root mean square over the models of the error, instead of their spread",
    )
    parser.add_argument("--atomic", action="store_true", help="add the force of every atom")
    parser.add_argument(
        "--relative",
        type=float,
        metavar="LEVEL",
        help="divide deviations of forces by the force plus this level [eV/Å]",
    )
    parser.add_argument(
        "--relative_v",
        "--relative-v",
        type=float,
        metavar="LEVEL",
        help="divide deviations of virials by the virial per atom plus this level [eV]",
    )


def model_devi(
    *,
    models: Sequence[str],
    system: str = ".",
    output: str = "model_devi.out",
    frequency: int = 1,
    real_error: bool = False,
    atomic: bool = False,
    relative: float | None = None,
    relative_v: float | None = None,
    backend: str | None = None,
    **_: Any,
) -> "list[np.ndarray]":
    """Append the deviations of models on systems to a file; return them, one array per system.

    Parameters
    ----------
    models : sequence of str
        Model files of one type map; at least two, or one with ``real_error``.
    system : str
        System, or folder that is searched.
    output : str
        Text file; what it holds stays.
    frequency : int
        The first column is the number of the frame times this.
    real_error : bool
        Deviation from the labels instead of the models' mean; NaN where there is no label.
    atomic : bool
        Add a column per atom.
    relative, relative_v : float, optional
        Levels of relative deviations of force [eV/Å] and virial [eV].
    backend : str, optional
        Its suffix is tried first where a model has none.
    """
    from deepmd.backend.detect import resolve_model
    from deepmd.data.search import open_systems
    from deepmd.infer import DeepPot
    from deepmd.infer.model_devi import write_model_devi_out

    for option, level in (("--relative", relative), ("--relative_v", relative_v)):
        if level is not None and not 0.0 <= level < float("inf"):
            raise InputError(f"found {level}, expected a number >= 0", where=option)
    needed = 1 if real_error else 2
    if len(models) < needed:
        raise InputError(
            f"{len(models)} model given, {needed} are needed", where="--models", fix="name more"
        )
    paths = [resolve_model(m, backend) for m in models]
    opened = [DeepPot(path) for path in paths]
    for path, potential in zip(paths, opened, strict=True):
        if potential.get_type_map() != opened[0].get_type_map():
            raise InputError(
                f"has the types {potential.get_type_map()}, {paths[0]} has "
                f"{opened[0].get_type_map()}",
                where=path,
                fix="compare models of the same type map",
            )
        if potential.has_spin:
            raise NotAvailableError("deviations of models with spins are not built yet", where=path)
    systems = open_systems(system, type_map=opened[0].get_type_map())
    results = []
    for one in systems:
        devi = deviations(opened, one, real_error, atomic, relative, relative_v)
        devi[:, 0] *= frequency
        write_model_devi_out(devi, output, header=one.path, atomic=atomic)
        log.info("%s: %d frames written to %s", one.path, len(devi), output)
        results.append(devi)
    return results


def deviations(
    models: Sequence[Any],
    system: "System",
    real_error: bool,
    atomic: bool,
    relative: float | None,
    relative_v: float | None,
) -> "np.ndarray":
    """Deviations of all frames of a system, see :func:`deepmd.infer.calc_model_devi`."""
    import numpy as np

    from deepmd.dpmodel.label import Label, parameter_labels
    from deepmd.entrypoints.test_kinds import padded
    from deepmd.infer import calc_model_devi

    wanted = [
        Label("energy", 1, atomic=False, high_precision=True),
        Label("force", 3, atomic=True),
        Label("virial", 9, atomic=False),
    ]
    labels = [*(wanted if real_error else []), *parameter_labels(models[0].model)]
    batch = system.load(np.arange(system.nframes), labels)
    given, real = padded(batch)
    coords, cells, types = (given.pop(k) for k in ("coords", "cells", "atom_types"))
    known = _real_data(batch, real) if real_error else None
    if real_error and not known:
        raise DataError(
            "has no label to compare with",
            where=system.path,
            fix="add energy.npy, force.npy or virial.npy, or leave out --real_error",
        )
    devi = calc_model_devi(
        coords,
        cells,
        types,
        models,
        **given,
        real_data=known,
        atomic=atomic,
        relative=relative,
        relative_v=relative_v,
    )
    for name, columns in _COLUMNS.items():
        if known is not None and name not in known:
            log.warning("%s: no %s.npy, its columns are nan", system.path, name)
            devi[:, columns] = np.nan
            if name == "force":
                devi[:, 8:] = np.nan
    return devi


#: Columns of the result that come from each label.
_COLUMNS = {"virial": [1, 2, 3], "force": [4, 5, 6], "energy": [7]}


def _real_data(batch: "Batch", real: "np.ndarray") -> "dict[str, np.ndarray]":
    """Labels that were found, forces filled up with zeros for virtual atoms."""
    import numpy as np

    found = {n: batch.labels[n] for n in _COLUMNS if batch.find.get(n)}
    if "force" in found:
        force = np.zeros((*real.shape, 3))
        force[real] = found["force"]
        found["force"] = force
    return found
