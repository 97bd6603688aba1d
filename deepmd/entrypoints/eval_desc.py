# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp eval-desc``: write the descriptors of all atoms of systems."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmd.entrypoints import options
from deepmd.utils.errors import NotAvailableError

if TYPE_CHECKING:
    import numpy as np

    from deepmd.data.system import System

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    options.add_model(parser)
    options.add_data(parser)
    parser.add_argument(
        "-o",
        "--output",
        default="desc",
        metavar="FOLDER",
        help="folder for one file per system, named by the last part of its path (desc)",
    )
    parser.add_argument(
        "--dtype",
        choices=["fp32", "fp64", "native"],
        default="fp64",
        help="number format of the files; native is that of the model (fp64)",
    )
    options.add_head(parser)


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

    Parameters
    ----------
    model : str
        Model file or checkpoint.
    system, datafile : str
        A system or folder, or a text file with one system per line.
    output : str
        Folder; a system ``a/b`` goes to ``b.npy`` in it, an array (n_frames, n_atoms, width) with
        zeros for virtual atoms. Further systems of the same name get a number.
    dtype : {"fp32", "fp64", "native"}
        Number format.
    head : str, optional
        Branch of a multi-task model.
    backend : str, optional
        Its suffix is tried first where ``model`` has none.
    """
    import numpy as np

    from deepmd.backend.detect import resolve_model
    from deepmd.data.search import open_systems
    from deepmd.entrypoints.test import data_paths
    from deepmd.infer import DeepEval
    from deepmd.utils.files import replacing

    path = resolve_model(model, backend)
    potential = DeepEval(path, head=head)
    descriptor = getattr(potential.model.atomic_model, "descriptor", None)
    if descriptor is None:
        raise NotAvailableError("the model has no descriptor of its own", where=path)
    formats = {"fp32": np.float32, "fp64": np.float64}
    number = np.dtype(formats[dtype]) if dtype in formats else native_dtype(descriptor)
    paths, patterns = data_paths(system, datafile, None, None)
    systems = open_systems(paths, type_map=potential.get_type_map(), patterns=patterns)
    written = []
    for one, name in zip(systems, file_names([s.path for s in systems]), strict=True):
        file = Path(output) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        values = descriptors(potential, one, number)
        with replacing(file) as temporary, open(temporary, "wb") as handle:
            np.save(handle, values)
        log.info("descriptors of %s written to %s", one.path, file)
        written.append(str(file))
    return written


def native_dtype(descriptor: Any) -> "np.dtype":
    """Number format of the parameters of a descriptor."""
    import numpy as np

    from deepmd.dpmodel.module import split

    trained, fixed = split(descriptor)
    return np.result_type(*(a.dtype for a in (trained or fixed).values()))


def file_names(paths: Sequence[str]) -> list[str]:
    """Name the files of systems by the last part of their paths, and number repeated names."""
    seen: dict[str, int] = {}
    names = []
    for path in paths:
        last = path.rstrip("/").replace("#", "/").rstrip("/").split("/")[-1]
        last = Path(path).resolve().name if last in ("", ".", "..") else last
        count = seen[last] = seen.get(last, -1) + 1
        names.append(f"{last}.{count}.npy" if count else f"{last}.npy")
    return names


def descriptors(potential: Any, system: "System", number: "np.dtype") -> "np.ndarray":
    """Descriptors of all frames of a system, (n_frames, n_atoms, width)."""
    import numpy as np

    from deepmd.dpmodel.label import parameter_labels
    from deepmd.entrypoints.test import batches
    from deepmd.entrypoints.test_kinds import padded

    real_slots = system.frame_types(np.arange(system.nframes)) >= 0
    out: Any = None
    start = 0
    for batch in batches(system, np.arange(system.nframes), parameter_labels(potential.model)):
        given, real = padded(batch)
        values = potential.eval_descriptor(**given)
        if out is None:
            out = np.zeros((*real_slots.shape, values.shape[-1]), number)
        part = slice(start, start + batch.n_frames)
        out[part][real_slots[part]] = values[real]
        start = part.stop
    return out
