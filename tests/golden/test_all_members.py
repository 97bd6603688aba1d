# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every stored case on NumPy and eager torch; one of each member on JAX, all with ``exhaustive``."""

from typing import Any

import numpy as np
import pytest
from golden.cases import _arrays, inputs, path, select

from deepmd.dpmodel.model import Model
from deepmd.infer.deep_eval import DeepEval
from deepmd.io import load_model
from deepmd.io.tree import difference
from deepmd.testing.backends import evaluator
from deepmd.utils.errors import InputError

CASES = [c for c in select() if c["descriptor"] != "se_e2_a" or c["kind"] != "ener"]
LAST = "fitting_last_layer"
#: One of each member, for the backend that compiles a program per model and shape.
FEW = {
    "se_e2_r_oneside",
    "se_e3_basic",
    "se_e3_tebd_strip",
    "dpa1_l2_smooth",
    "se_atten_v2_l0",
    "dpa2_basic",
    "dpa3_basic",
    "hybrid_a_r",
    "dipole_se_e2_a",
    "polar_se_e2_a",
    "dos_se_e2_a",
    "property_extensive",
    "linear_dp_tab_mean",
}


def _params() -> list[Any]:
    out = []
    for backend in ("numpy", "torch", "jax"):
        for case in CASES:
            if backend == "jax" and case["kind"] == "hessian":
                continue  # second derivatives are the neutral model's there
            slow = backend == "jax" and case["name"] not in FEW
            marks = [pytest.mark.exhaustive] if slow else []
            if backend == "jax" and not slow:
                marks = [pytest.mark.slow]
            out.append(pytest.param(backend, case, id=f"{backend}-{case['name']}", marks=marks))
    return out


pytestmark = pytest.mark.skipif(not CASES, reason="the reference data are not here")


def _load(case: dict[str, Any]) -> tuple[dict[str, Any], Model]:
    data = load_model(path(case, "dp"))["model"]
    try:
        return data, Model.deserialize(data)
    except InputError as error:
        pytest.skip(f"not built yet: {error}")


def _stored_as(case: dict[str, Any], key: str, got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Bring a result into the shape of the file.

    Derivatives of dipoles are labelled (frames, components, atoms, …) there, but lie in memory as
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


@pytest.mark.parametrize(("backend", "case"), _params())
def test_outputs(backend, case):
    _, model = _load(case)
    potential = DeepEval.from_evaluator(evaluator(backend, model))
    derivatives = ("force", "virial", "atom_virial") if model.differentiable() else ()
    if case["kind"] == "hessian":
        derivatives = (*derivatives, "hessian")
    extra = ("descriptor", LAST) if case["model"] == "standard" else ()
    for name, info in case["sets"].items():
        given = inputs(case, name)
        positional = [given.pop(k) for k in ("coords", "cells", "atom_types")]
        out = potential.evaluate(*positional, derivatives=derivatives, extra=extra, **given)
        stored = _arrays(case["npz"])
        real = np.broadcast_to(positional[2], (info["nframes"], info["natoms"])) >= 0
        names = _names(model)
        for key in info["outputs"]:
            if key in info["not_unique"] or (not extra and key in ("descriptor", LAST)):
                continue
            want = stored[f"{name}/out/{key}"]
            got = _stored_as(case, key, out[names.get(key, key)], want)
            if want.shape[:2] == real.shape and not real.all():
                # DeePMD-kit leaves what it likes where there is no atom; here it is zero.
                want, got = want[real], got[real]
            allowed = case["tolerance"] * max(float(np.abs(want).max(initial=0.0)), 0.01)
            assert float(np.abs(got - want).max(initial=0.0)) <= allowed, (name, key)
