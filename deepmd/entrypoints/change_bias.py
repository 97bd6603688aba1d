# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp change-bias``: fit the bias per type of a model to data, or set it to given numbers."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepmd.entrypoints import options
from deepmd.utils.errors import DataError, InputError, NotAvailableError

if TYPE_CHECKING:
    import numpy as np

    from deepmd.backend.backend import Backend
    from deepmd.dpmodel.label import Label
    from deepmd.dpmodel.model import Model
    from deepmd.train.statistics import Sample

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument("INPUT", help="model file or checkpoint")
    source = options.add_data(parser)
    source.add_argument(
        "-b",
        "--bias-value",
        nargs="+",
        type=float,
        metavar="VALUE",
        help="the biases themselves, one per type in the order of the type map",
    )
    parser.add_argument(
        "-n",
        "--numb-batch",
        type=int,
        default=0,
        help="batches per system that are looked at, 0 for all (0)",
    )
    parser.add_argument(
        "-m",
        "--mode",
        choices=["change", "set"],
        default="change",
        help="change: add what is left between labels and predictions; set: fit the labels (change)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        help="file to write; INPUT with _updated before its suffix",
    )
    options.add_head(parser)


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

    Everything else in the file stays: of a checkpoint also the state of the training.

    Parameters
    ----------
    INPUT : str
        Model file, checkpoint, or folder with a file ``checkpoint``.
    system, datafile : str
        A system or folder, or a text file with one system per line.
    bias_value : sequence of float, optional
        The biases, instead of data.
    numb_batch : int
        Batches per system, 0 for all frames.
    mode : {"change", "set"}
        Add what is left between labels and predictions, or fit the labels alone.
    output : str, optional
        File to write.
    head : str, optional
        Branch of a multi-task model.
    backend : str, optional
        Its suffix is tried first where ``INPUT`` has none.
    """
    if numb_batch < 0:
        raise InputError(f"{numb_batch} batches", where="--numb-batch", fix="0 means all")
    path, opener = find_input(INPUT, backend)
    target = output_path(path, opener, output)
    stored = Stored(opener, path, head)
    model = stored.model
    check_has_bias(model, path)
    before = [b.copy() for b in biases(model)]
    if bias_value is not None:
        set_values(model, bias_value)
    else:
        from deepmd.entrypoints.test import data_paths

        paths, _patterns = data_paths(system, datafile, None, None)
        sample = data_sample(model, paths, numb_batch, atomic=mode == "set")
        if mode == "set":
            fit_labels(model, sample)
        else:
            from deepmd.train.statistics import change_bias as fit_rest

            evaluator = opener.deep_eval(path, head=stored.branch)
            fit_rest(model, sample.batches(), evaluator)
    for name, old, new in zip(model.output_def().keys(), before, biases(model), strict=True):
        log.info("bias of %s for %s: %s -> %s", name, model.get_type_map(), _text(old), _text(new))
    stored.write(target)
    log.info("model with the new bias written to %s", target)
    return str(target)


def _text(bias: "np.ndarray") -> list[Any]:
    return (bias[:, 0] if bias.shape[1] == 1 else bias).tolist()


# -- files ----------------------------------------------------------------------------------------


def find_input(given: str, backend: str | None) -> "tuple[Path, Backend]":
    """Return the file the user means, and the backend that opens it."""
    from deepmd.backend.backend import choose_backend
    from deepmd.backend.detect import backend_of, resolve_model
    from deepmd.entrypoints.freeze import checkpoint_backend
    from deepmd.train.checkpoints import find_checkpoints

    path = Path(given)
    if path.is_dir():
        preferred = choose_backend(backend)[0]() if backend is not None else None
        source = checkpoint_backend(given, preferred)
        source.require()
        return find_checkpoints(path, source.checkpoint_suffix or "")[0], source
    path = resolve_model(given, backend)
    return path, backend_of(path)


def output_path(path: Path, backend: "Backend", given: str | None) -> Path:
    """Return where to write; the kind of the file must be that of the input."""
    if given is None:
        return path.with_name(f"{path.stem}_updated{path.suffix}")
    checkpoint = is_checkpoint(path, backend)
    known = (backend.checkpoint_suffix or "",) if checkpoint else backend.suffixes
    if not given.lower().endswith(known):
        raise InputError(
            f"a {'checkpoint' if checkpoint else 'model file'} of {backend.name} does not end so",
            where=given,
            fix=f"use {' or '.join(known)}; dp freeze and dp convert-backend write other kinds",
        )
    return Path(given)


def is_checkpoint(path: Path, backend: "Backend") -> bool:
    """Whether a file holds the state of a training."""
    suffix = backend.checkpoint_suffix
    if suffix is None or not path.name.lower().endswith(suffix):
        return False
    if suffix not in backend.suffixes:
        return True
    from deepmd.io.checkpoint import has_training

    return has_training(path)


class Stored:
    """A model in its file, with everything beside it.

    Parameters
    ----------
    backend : Backend
    path : path
    head : str, optional
        Branch, where there are several.

    Attributes
    ----------
    model : Model
        To be changed in place.
    branch : str or None
    """

    def __init__(self, backend: "Backend", path: Path, head: str | None) -> None:
        from deepmd.io.files import branch_of

        self.backend = backend
        self.checkpoint: Any = None
        self.data: dict[str, Any] = {}
        self.branch: str | None = None
        if is_checkpoint(path, backend):
            self.checkpoint = backend.read_checkpoint(path)
            branch = branch_of(list(self.checkpoint.models), head, path)
            self.model: Model = self.checkpoint.models[branch]
            self.branch = branch if len(self.checkpoint.models) > 1 else None
            return
        from deepmd.dpmodel.model import Model as NeutralModel

        self.data = backend.serialize_hook(path)
        self.model = NeutralModel.deserialize(self.data["model"])

    def write(self, path: Path) -> None:
        """Write the file anew."""
        if self.checkpoint is not None:
            self.backend.write_checkpoint(path, self.checkpoint)
            return
        from deepmd.dpmodel.probes import make_probes

        data = {**self.data, "model": self.model.serialize(), "probes": make_probes(self.model)}
        self.backend.deserialize_hook(path, data)


# -- biases ---------------------------------------------------------------------------------------


def biases(model: "Model") -> "list[np.ndarray]":
    """Biases of the outputs, (ntypes, size) each, those inside of the fitting included."""
    atomic, n = model.atomic_model, model.get_ntypes()
    outputs = model.output_def().get_data().values()
    own = own_bias(getattr(atomic, "fitting", None))
    return [
        atomic.out_bias[k, :n, : v.size] + (0.0 if own is None else own[:n])
        for k, v in enumerate(outputs)
    ]


def own_bias(fitting: Any) -> "np.ndarray | None":
    """Bias that a fitting of invariant numbers adds itself, (ntypes, size)."""
    from deepmd.dpmodel.fitting.tensor import TensorFitting

    if fitting is None or isinstance(fitting, TensorFitting):
        return None
    return fitting.bias_atom_e


def check_has_bias(model: "Model", path: Path) -> None:
    """Refuse models on which a bias has no effect."""
    if "dipole" in model.output_def().keys():  # noqa: SIM118 - not a mapping
        raise NotAvailableError(
            "a dipole has no bias: a constant vector would not turn with the system", where=path
        )


def clear_biases(atomic: Any) -> None:
    """Set the biases inside of an atomic model to zero, so that its own one is the whole."""
    own = own_bias(getattr(atomic, "fitting", None))
    if own is not None:
        own[:] = 0.0
    for member in getattr(atomic, "models", ()):
        member.out_bias[:] = 0.0
        clear_biases(member)


def set_values(model: "Model", values: Sequence[float]) -> None:
    """Set the biases to given numbers, in place."""
    import numpy as np

    atomic: Any = model.atomic_model
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
    clear_biases(atomic)
    atomic.out_bias[0, : len(names), :size] = np.reshape(values, (len(names), size))


def fit_labels(model: "Model", sample: "Sample") -> None:
    """Set the biases to the fit of the labels, as a new training would, in place."""
    from deepmd.train.statistics import output_bias

    atomic: Any = model.atomic_model
    batches = list(sample.without_edges())
    clear_biases(atomic)
    for k, variable in enumerate(model.output_def().get_data().values()):
        bias, _ = output_bias(model, variable, batches)
        atomic.out_bias[k, :, : variable.size] = bias


def data_sample(model: "Model", paths: list[str], nbatch: int, *, atomic: bool) -> "Sample":
    """Return the frames that biases are fitted to; ``atomic`` reads labels of atoms, too."""
    from deepmd.data.dataset import Dataset
    from deepmd.data.sampler import Sampler
    from deepmd.data.search import open_systems
    from deepmd.dpmodel.label import parameter_labels
    from deepmd.train.statistics import Sample

    systems = open_systems(paths, type_map=model.get_type_map())
    sampler = Sampler([s.nframes for s in systems], [s.natoms for s in systems])
    outputs = output_labels(model, atomic=atomic)
    labels = [*outputs, *parameter_labels(model)]
    data = Dataset(systems, sampler, labels, rcut=model.get_rcut(), cache_bytes=0)
    needed = [la.name for la in outputs]
    if not any(found[name] for found in data.found for name in needed):
        raise DataError(
            f"no system has {' or '.join(f'{n}.npy' for n in needed)}",
            where=", ".join(paths[:3]),
            fix="biases are fitted to these labels; add one, or use --bias-value",
        )
    return Sample(data, nbatch or max(s.nframes for s in systems))


def output_labels(model: "Model", *, atomic: bool) -> "list[Label]":
    """Return the labels of the model's outputs."""
    from deepmd.dpmodel.label import Label

    labels = []
    for v in model.output_def().get_data().values():
        labels.append(Label(v.label_name, v.size, atomic=False, high_precision=True))
        if atomic:
            types = tuple(model.get_sel_type()) or None
            labels.append(Label(f"atom_{v.label_name}", v.size, atomic=True, sel_type=types))
    return labels
