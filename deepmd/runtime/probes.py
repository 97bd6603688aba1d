# SPDX-License-Identifier: LGPL-3.0-or-later
"""Probes: small frames with their results, by which a model file proves itself.

Whoever writes a model file opens it again, evaluates the probes and compares with the results of
the neutral model, both without the terms of a modifier, which programs in C++ do not have. The
probes travel in the file under the key ``probes``.
"""

import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deepmd import __version__
from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.model.info import METADATA, lowest_precision
from deepmd.dpmodel.neighbors import Overflow, batch_edges
from deepmd.io import save_model
from deepmd.io.files import YAML_SUFFIXES
from deepmd.io.guard import AGAIN
from deepmd.runtime.evaluator import Evaluator
from deepmd.runtime.operations import with_program

_DERIVATIVES = ("force", "virial", "atom_virial")
INPUTS = ("coord", "cell", "atype", "fparam", "aparam", "charge_spin", "spin")
#: By how much of max|x| a result may differ; below SMALL the absolute difference counts.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5, "float16": 1e-2}
SMALL = 0.01
#: Pairs of atoms and images that are looked at for one probe; ours have about 1e4.
MOST_PAIRS = 1e6


def make_probes(model: Model) -> dict[str, Any]:
    """Evaluate two small frames, a periodic and an open one, with the neutral model.

    Returns
    -------
    dict
        ``{"frames": [{"@variables": {"coord": …, "energy": …}}, …]}``
    """
    derivatives = _DERIVATIVES if model.differentiable() else ()
    n_atoms = min(max(model.get_ntypes(), 6), 20)
    frames, evaluator = [], Evaluator(model)
    for k, periodic in enumerate((True, False)):
        for size in 0.95 * 1.2 ** np.arange(20):
            evaluator.overflow = Overflow()
            inputs = _frame(model, periodic, size, np.random.default_rng(k), n_atoms)
            batch = _batch(model, inputs)
            results = evaluator.evaluate(batch, derivatives=derivatives, modified=False)
            # Images on both sides are equally far: which of them a full list drops is not defined.
            if not evaluator.overflow.centers:
                break
        frames.append({"@variables": {**inputs, **results}})
    return {"frames": frames}


def _frame(
    model: Model, periodic: bool, size: float, rng: np.random.Generator, n: int
) -> dict[str, Any]:
    """``n`` atoms on a distorted grid, so that distances stay reasonable, in a triclinic cell.

    ``size`` is the cell's, in cutoffs: below 1, own images are neighbors.
    """
    ntypes, rcut = model.get_ntypes(), model.get_rcut()
    m = int(np.ceil(n ** (1 / 3)))
    cell = size * rcut * np.array([[1.0, 0.03, -0.05], [0.1, 0.97, 0.04], [-0.08, 0.06, 1.02]])
    grid = np.stack(np.meshgrid(*[np.arange(m)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:n]
    coord = (grid + 0.5 + rng.uniform(-0.2, 0.2, (n, 3))) / m @ cell
    dims = model.get_dim_fparam(), model.get_dim_aparam()
    return {
        "coord": coord,
        "cell": cell if periodic else None,
        "atype": np.linspace(0, ntypes, n, endpoint=False).astype(np.int64),
        "fparam": rng.normal(size=(1, dims[0])) if dims[0] else None,
        "aparam": model.example_aparam(n, rng) if dims[1] else None,
        # Charge in e, multiplicity.
        "charge_spin": np.array([[-1.0, 2.0]]) if model.get_dim_chg_spin() else None,
        "spin": rng.normal(size=(n, 3)) if model.has_spin() else None,
    }


def _batch(model: Model, inputs: Mapping[str, Any]) -> Batch:
    batch = Batch.from_arrays(
        inputs["coord"][None],
        None if inputs["cell"] is None else inputs["cell"][None],
        inputs["atype"],
        fparam=inputs["fparam"],
        aparam=inputs["aparam"],
        spin=inputs.get("spin"),  # earlier files have no such key
    )
    batch.charge_spin = inputs.get("charge_spin")
    batch.edges = batch_edges(batch, model.get_rcut())
    return batch


def compare_probes(
    evaluator: Evaluator, probes: Mapping[str, Any], *, derivatives: bool = True
) -> str | None:
    """Evaluate the probes; return what differs, in words, or None.

    ``derivatives`` says whether forces and virials are compared, too.
    """
    limit = TOLERANCE[lowest_precision(evaluator.model)]
    for k, name, want, got in _results(evaluator, probes, derivatives):
        if got is None or got.shape != want.shape:
            return f"gives no {name} for probe {k}, or one of another shape"
        scale = max(float(np.abs(want).max(initial=0.0)), SMALL)
        error = float(np.abs(got - want).max(initial=0.0)) / scale
        if not error <= limit:
            return (
                f"{name} of probe {k} differs from the source by {error:.1e} of its size, "
                f"{limit:.0e} is allowed"
            )
    return None


def probe_errors(evaluator: Evaluator, probes: Mapping[str, Any]) -> dict[str, float]:
    """Largest absolute difference of each result from that of the probes."""
    found: dict[str, float] = {}
    for _, name, want, got in _results(evaluator, probes, True):
        error = float(np.abs(np.asarray(got) - want).max(initial=0.0))
        found[name] = max(found.get(name, 0.0), error)
    return found


def _results(
    evaluator: Evaluator, probes: Mapping[str, Any], derivatives: bool
) -> Iterator[tuple[int, str, np.ndarray, Any]]:
    """Iterate over number of the probe, name of a result, stored value, and value."""
    for k, frame in enumerate(probes["frames"]):
        stored = frame["@variables"]
        names = [n for n in stored if n not in INPUTS and stored[n] is not None]
        wanted = [n for n in names if n in _DERIVATIVES]
        if not derivatives:
            kinds = evaluator.model.output_def().get_data()
            names, wanted = [n for n in names if n.removeprefix("atom_") in kinds], []
        batch = _batch(evaluator.model, stored)
        results = evaluator.evaluate(batch, derivatives=wanted, modified=False)
        for name in names:
            yield k, name, np.asarray(stored[name]), results.get(name)


def check_probes(model: Model, probes: Mapping[str, Any] | None) -> None:
    """Compare a model that was read with the probes in its file, values only.

    The derivatives follow from the same arrays, and take longer than the rest of the opening. A
    model without probes is evaluated.

    Raises
    ------
    ModelFileError
        If the values differ, or the frames are not small.
    """
    if not probes or not probes.get("frames"):
        check_evaluable(model)
        return
    rcut = model.get_rcut()
    for frame in probes["frames"]:
        _check_small(frame["@variables"], rcut)
    with np.errstate(all="ignore"):
        worst = compare_probes(Evaluator(model), probes, derivatives=False)
    if worst is not None:
        raise ModelFileError(
            worst,
            fix="the file is damaged or was edited: copy or freeze it again; after an edit on "
            'purpose, delete the key "probes"',
        )


def check_evaluable(model: Model) -> None:
    """Evaluate a small frame of a model without probes, values only.

    Arrays of other shapes than the settings describe end here, not in the middle of a run.

    Raises
    ------
    Exception
        Of any class: call it inside of :func:`deepmd.io.guard.opening`.
    """
    n_atoms = min(max(model.get_ntypes(), 4), 12)
    inputs = _frame(model, False, 0.95, np.random.default_rng(0), n_atoms)
    with np.errstate(all="ignore"):
        Evaluator(model).evaluate(_batch(model, inputs), derivatives=(), modified=False)


def _check_small(inputs: Mapping[str, Any], rcut: float) -> None:
    """Raise ModelFileError if the neighbors of a probe would take more than a moment to find."""
    coord, cell = np.asarray(inputs["coord"]), inputs["cell"]
    n = len(coord)
    pairs = float(n) ** 2
    if cell is not None:
        widths = 1.0 / np.linalg.norm(np.linalg.inv(np.reshape(cell, (3, 3))), axis=0)
        images = np.prod(2.0 * rcut / widths + 3.0)
        pairs *= images
    if coord.shape != (n, 3) or not n or not np.isfinite(coord).all() or not pairs < MOST_PAIRS:
        raise ModelFileError("the probes are no small frames of atoms", fix=AGAIN)


def probe_arrays(model: Model, probes: Mapping[str, Any]) -> list[dict[str, np.ndarray]]:
    """Return the probes as programs in C++ want them: inputs, and results of one output.

    The results are ``value``, ``force`` and ``virial`` of the first output of the model; its
    components come first, (size, n_atoms, 3).
    """
    first = next(iter(model.output_def().get_data()))
    out = []
    for stored in (frame["@variables"] for frame in probes.get("frames", ())):
        frame = {k: stored[k] for k in (*INPUTS, "virial") if stored.get(k) is not None}
        frame["value"] = stored[first]
        if stored.get("force") is not None:
            n, force = len(stored["coord"]), np.asarray(stored["force"])
            frame["force"] = force.reshape(n, -1, 3).swapaxes(0, 1)
        out.append({k: np.array(v) for k, v in frame.items()})
    return out


def probes_text(model: Model, probes: Mapping[str, Any]) -> str:
    """Return the probes of :func:`probe_arrays` as JSON."""
    frames = probe_arrays(model, probes)
    return json.dumps([{k: v.tolist() for k, v in frame.items()} for frame in frames])


def write_model(path: str | os.PathLike[str], data: dict[str, Any]) -> None:
    """Write a neutral model file that gives the results of the probes in it, if there are any.

    Raises
    ------
    ModelFileError
        If it does not, or could not be written; then there is no file.
    """

    def check(tree: Mapping[str, Any]) -> str | None:
        if not tree.get("probes"):
            return None
        return compare_probes(Evaluator(Model.deserialize(tree["model"])), tree["probes"])

    text = os.fspath(path).lower().endswith(YAML_SUFFIXES)  # C++ does not open these
    save_model(path, data if text else with_program(data), check=check)


def model_file_dict(
    model: Model,
    model_def_script: Mapping[str, Any],
    min_nbor_dist: float | None,
    backend: str,
    *,
    probes: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the dictionary that is stored in the file of a model.

    It has no date: the same model gives the same bytes.

    Parameters
    ----------
    model : Model
        The neutral model.
    model_def_script : dict
        The normalized ``model`` section of the input.
    min_nbor_dist : float or None
        Smallest distance of the training data [Å]; needed for compression.
    backend : str
        Name of the backend that trained it.
    probes : dict, optional
        Made here if not given.
    versions : dict of str to str, optional
        Versions of libraries, such as ``{"pt_version": …}``.
    """
    probes = dict(probes) if probes is not None else make_probes(model)
    return {
        "software": "deepmd-kit",
        "version": __version__,
        "backend": backend,
        **(versions or {}),
        METADATA: model.info(probes=len(probes.get("frames", ()))).to_dict(),
        "model": model.serialize(),
        "model_def_script": dict(model_def_script),
        # DeePMD-kit's converter stumbles over a null: a distance that is not known is left out.
        "@variables": {}
        if min_nbor_dist is None
        else {"min_nbor_dist": np.asarray(float(min_nbor_dist))},
        "probes": probes,
    }
