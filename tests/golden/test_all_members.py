# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every stored case on NumPy, eager torch, TensorFlow and JAX."""

from typing import Any

import numpy as np
import pytest
from golden.cases import _arrays, evaluate_joined, inputs, path, select

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.model import Model
from deepmd.infer.deep_eval import DeepEval
from deepmd.io import load_model
from deepmd.io.tree import difference
from deepmd.testing.backends import evaluator

CASES = [c for c in select() if c["descriptor"] != "se_e2_a" or c["kind"] != "ener"]
LAST = "fitting_last_layer"
JAX = [c for c in CASES if c["kind"] != "hessian"]  # second derivatives are the neutral model's


def _load(case: dict[str, Any]) -> tuple[dict[str, Any], Model]:
    data = load_model(path(case, "dp"))["model"]
    try:
        return data, Model.deserialize(data)
    except NotAvailableError as error:
        pytest.skip(f"not built yet: {error}")


def _stored_as(case: dict[str, Any], key: str, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Bring a result into the shape of the file.

    Derivatives of dipoles are labeled (frames, components, atoms, …) there, but lie in memory as
    (frames, atoms, components, …), as finite differences show.
    """
    assert got.size == want.size, (case["name"], key, got.shape, want.shape)
    return got.reshape(want.shape)


def _names(model: Model) -> dict[str, str]:
    """Keys of the files that are called otherwise here."""
    (variable,) = model.output_def().keys()
    return {"property": variable, "atom_property": f"atom_{variable}"}


@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_dictionary_round_trip(case):
    data, model = _load(case)
    assert difference(data, model.serialize()) is None


def _wanted(case: dict[str, Any], model: Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the derivatives and the inner results to ask for."""
    derivatives = ("force", "virial", "atom_virial") if model.differentiable() else ()
    return derivatives, ("descriptor", LAST) if case["model"] == "standard" else ()


def _check(case: dict[str, Any], name: str, model: Model, out: dict[str, np.ndarray]) -> None:
    """Compare the results of one set with the stored ones."""
    info, stored, names = case["sets"][name], _arrays(case["npz"]), _names(model)
    real = np.broadcast_to(inputs(case, name)["atom_types"], (info["nframes"], info["natoms"])) >= 0
    for key in info["outputs"]:
        inner = key in ("descriptor", LAST)
        if key in info["not_unique"] or (inner and key not in out):
            continue
        want = stored[f"{name}/out/{key}"]
        got = _stored_as(case, key, out[names.get(key, key)], want)
        if want.shape[:2] == real.shape and not real.all():
            # DeePMD-kit leaves what it likes where there is no atom; here it is zero.
            want, got = want[real], got[real]
        allowed = case["tolerance"] * max(float(np.abs(want).max(initial=0.0)), 0.01)
        assert float(np.abs(got - want).max(initial=0.0)) <= allowed, (name, key)


def check_sets(case: dict[str, Any], potential: DeepEval, *, inner: bool = True) -> None:
    """Evaluate every set through the public class, and compare.

    ``inner`` says whether there are the descriptor and the last layer, which programs do not give.
    """
    model = potential.model
    derivatives, extra = _wanted(case, model)
    extra = extra if inner else ()
    if case["kind"] == "hessian":
        derivatives = (*derivatives, "hessian")
    for name in case["sets"]:
        given = inputs(case, name)
        positional = [given.pop(k) for k in ("coords", "cells", "atom_types")]
        out = potential.evaluate(*positional, derivatives=derivatives, extra=extra, **given)
        _check(case, name, model, out)


def check_joined(case: dict[str, Any], potential: DeepEval, *, inner: bool = False) -> None:
    """Evaluate all sets as one batch, and compare: one program where programs have shapes."""
    model = potential.model
    derivatives, extra = _wanted(case, model)
    joined = evaluate_joined(potential, case, derivatives, extra if inner else ())
    for name, out in joined.items():
        _check(case, name, model, out)


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])
def test_outputs(backend, case):
    check_sets(case, DeepEval.from_evaluator(evaluator(backend, _load(case)[1])))


@pytest.mark.parametrize("case", JAX, ids=[c["name"] for c in JAX])
def test_outputs_of_tensorflow(case, eager_functions):
    check_sets(case, DeepEval.from_evaluator(evaluator("tensorflow", _load(case)[1])))


def _quick(cases: list[dict[str, Any]]) -> list[Any]:
    """Mark slow what compiles for seconds: cases whose descriptor, kind and model come before.

    Of spins the smaller models come first: one of six types takes 13 s of XLA.
    """
    seen: set[tuple[str, Any]] = set()
    found = []
    for case in sorted(cases, key=lambda c: c["name"] == "spin_se_e2_a"):
        new = {(key, case[key]) for key in ("descriptor", "kind", "model")} - seen
        seen |= new
        found.append(pytest.param(case, id=case["name"], marks=() if new else pytest.mark.slow))
    return found


@pytest.mark.parametrize("case", _quick(JAX))
def test_outputs_of_one_program(case, quick_programs):
    check_joined(case, DeepEval.from_evaluator(evaluator("jax", _load(case)[1])), inner=True)


@pytest.mark.exhaustive  # compiles programs for every set, as they are in use
@pytest.mark.parametrize("case", JAX, ids=[c["name"] for c in JAX])
def test_outputs_of_optimized_programs(case):
    check_sets(case, DeepEval.from_evaluator(evaluator("jax", _load(case)[1])))
