# SPDX-License-Identifier: LGPL-3.0-or-later
"""All energy models with se_e2_a give DeePMD-kit's numbers, in every format and backend."""

import numpy as np
import pytest
from conftest import COMPACT, REFERENCE
from golden.cases import (
    check,
    compare,
    evaluate,
    evaluate_joined,
    in_precision,
    inputs,
    manifest,
    path,
    select,
)

from deepmd.dpmodel.model import Model
from deepmd.infer import DeepPot
from deepmd.io import load_model, save_model
from deepmd.io.tree import difference
from deepmd.testing.backends import evaluator

CASES = select(descriptor="se_e2_a", kind="ener", model="standard")
IDS = [c["name"] for c in CASES]
#: For backends that compile a program per model and shape.
SOME = [c for c in CASES if c["name"] in ("se_e2_a_exclude_twoside", "ener_fparam_aparam_default")]

pytestmark = pytest.mark.golden
each = pytest.mark.parametrize("case", CASES, ids=IDS)


def with_format(kind):
    found = [c for c in CASES if kind in c["files"]]
    return pytest.mark.parametrize("case", found, ids=[c["name"] for c in found])


def test_there_are_enough_cases():
    assert len(CASES) >= (6 if REFERENCE == COMPACT else 30)


@each
def test_dp(case):
    check(DeepPot(path(case, "dp")), case)


@with_format("yaml")
def test_yaml(case):
    check(DeepPot(path(case, "yaml")), case)


def in_backend(case, backend):
    model = Model.deserialize(load_model(path(case, "dp"))["model"])
    return DeepPot.from_evaluator(evaluator(backend, model))


@each
def test_torch(case):
    check(in_backend(case, "torch"), case)


@each
def test_tensorflow(case, eager_functions):
    check(in_backend(case, "tensorflow"), case)


@each
def test_jax(case, quick_programs):
    potential = in_backend(case, "jax")
    derivatives = ("force", "virial", "atom_virial")
    extra = ("descriptor", "fitting_last_layer")
    for name, results in evaluate_joined(potential, case, derivatives, extra).items():
        wrong = {k: v for k, v in compare(case, name, results).items() if not v <= 1.0}
        assert not wrong, (name, wrong)


@pytest.mark.slow  # compiles a program per shape and result
@pytest.mark.parametrize("case", SOME, ids=[c["name"] for c in SOME])
def test_jax_optimized(case):
    check(in_backend(case, "jax"), case)


@pytest.mark.slow  # compiles a program per shape and result
@with_format("hlo")
def test_hlo_of_deepmd_kit(case):
    pytest.importorskip("jax")
    check(DeepPot(path(case, "hlo")), case)


def test_checkpoint_of_deepmd_kit():
    pytest.importorskip("torch")
    one = next(c for c in manifest()["checkpoints"] if c["name"] == "pt_single")
    check(DeepPot(REFERENCE / one["file"]), one)


@each
def test_dictionary_comes_back_identical(case):
    data = load_model(path(case, "dp"))["model"]
    assert difference(data, Model.deserialize(data).serialize()) is None


@each
def test_results_do_not_depend_on_the_batch_size(case):
    name = "pbc"
    given = inputs(case, name)
    many = evaluate(DeepPot(path(case, "dp"), auto_batch_size=False), given)
    single = evaluate(DeepPot(path(case, "dp"), auto_batch_size=1), given)
    for key, value in many.items():
        np.testing.assert_allclose(single[key], value, rtol=1e-12, atol=1e-13, err_msg=key)


def test_conversion_keeps_the_numbers(tmp_path):
    case = next(c for c in CASES if c["name"] == "se_e2_a_exclude_twoside")
    data = load_model(path(case, "dp"))
    for name in ("a.yaml", "b.dp", "c.yml"):
        save_model(tmp_path / name, data)
        data = load_model(tmp_path / name)
        check(DeepPot(tmp_path / name), case)


# -- single precision -----------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("case", CASES[:2] + CASES[-2:], ids=IDS[:2] + IDS[-2:])
def test_single_precision_is_close_to_double(case, backend):
    data = load_model(path(case, "dp"))["model"]
    single = Model.deserialize(in_precision(data, "float32"))
    double = Model.deserialize(in_precision(data, "float64"))
    single = DeepPot.from_evaluator(evaluator(backend, single))
    double = DeepPot.from_evaluator(evaluator("numpy", double))
    for name in case["sets"]:
        given = inputs(case, name)
        want = evaluate(double, given)
        for key, got in evaluate(single, given).items():
            scale = max(np.abs(want[key]).max(), 0.01)
            assert np.abs(got - want[key]).max() <= 1e-5 * scale, (name, key)
            if key == "force":
                assert np.abs(got - want[key]).max() > 0  # it did run in single precision
