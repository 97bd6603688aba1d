# SPDX-License-Identifier: LGPL-3.0-or-later
"""The native engine in Python: its results are those of the framework of a file."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from golden import cases

from deepmd.base.errors import InputError, ModelFileError, NotAvailableError
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepEval, DeepPot
from deepmd.infer.engine import open_native
from deepmd.np.engine import NativeEvaluator, is_installed
from deepmd.runtime.operations import BY_HAND
from deepmd.runtime.probes import model_file_dict, write_model
from deepmd.schema.check import normalize_model
from deepmd.testing.systems import randomize

OURS = Path(__file__).parents[1] / "golden" / "ours"
FILES = OURS / "v2" / "models"
#: Models that it evaluates by programs, which these files do not have yet.
UNKNOWN = ("dpa2", "dpa3", "loc_frame")
pytestmark = pytest.mark.skipif(not is_installed(), reason="the C++ libraries are not built")


def evaluate(model, n=24, size=8.0, derivatives=("force", "virial", "atom_virial"), **given):
    """Evaluate two periodic frames and an open one."""
    rng = np.random.default_rng(3)
    types = np.arange(n) % len(model.get_type_map())
    coord = rng.uniform(0.0, size, (3, n, 3))
    cell = np.array([[1.0, 0.1, 0.0], [0.0, 1.1, -0.2], [0.3, 0.0, 0.9]]).reshape(1, 9) * size
    if model.get_dim_fparam():
        given["fparam"] = rng.normal(size=(1, model.get_dim_fparam()))
    if model.get_dim_aparam():
        given["aparam"] = rng.normal(size=(n, model.get_dim_aparam()))
    if model.model.differentiable() == []:
        derivatives = ()
    spin = 0.3 * rng.normal(size=(3, n, 3)) if model.model.has_spin() else None

    def run(first, cell):
        more = given if spin is None else {**given, "spin": spin[:first]}
        return model.evaluate(coord[:first], cell, types, derivatives=derivatives, **more)

    return run(3, cell), run(1, None)


ALL_FILES = [*sorted(FILES.glob("*.*")), *sorted((OURS / "v4" / "models").glob("*.*"))]


@pytest.mark.parametrize("path", ALL_FILES, ids=lambda p: f"{p.parts[-3]}-{p.name}")
def test_all_kinds_of_files(path):
    """Every kind of file that holds a neutral dictionary, and all outputs."""
    if path.stem in UNKNOWN and (path.is_relative_to(FILES) or path.suffix == ".yaml"):
        with pytest.raises(NotAvailableError, match="not known to the native engine"):
            open_native(path, engine="native")
        assert not isinstance(open_native(path), NativeEvaluator)
        return
    model = DeepEval(path, engine="native")
    reference = DeepEval.from_evaluator(NativeEvaluator(model.model))
    assert model.evaluator.native.name.startswith("native")
    assert reference.evaluator.native is None
    for found, want in zip(evaluate(model), evaluate(reference), strict=True):
        assert set(found) == set(want)
        for name, value in want.items():
            assert found[name].shape == value.shape
            scale = max(float(np.abs(value).max()), 0.01)
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12 * scale)


def test_components_that_are_named():
    """The list that the documentation shows is that of the files above."""
    descriptors = BY_HAND["descriptors"]
    known = {p.stem for p in FILES.glob("*.dp")} - set(UNKNOWN)
    assert descriptors <= known and not descriptors & set(UNKNOWN)
    assert BY_HAND["fittings"] >= {"dipole", "polar", "dos", "property"}
    assert {"zbl", "linear_ener"} <= known and {"zbl", "linear"} <= BY_HAND["models"]


def test_no_framework_is_loaded():
    """A .pth file and a .pb file are evaluated without PyTorch and TensorFlow."""
    script = """
import sys
from deepmd.infer import DeepPot
for path in sys.argv[1:]:
    DeepPot(path).eval([[0, 0, 0, 0, 0, 1.1]], None, [0, 1])
assert not {"torch", "tensorflow", "jax"} & set(sys.modules)
"""
    files = [str(FILES / f"se_e2_a{s}") for s in (".dp", ".pth", ".pb", ".hlo", ".savedmodel")]
    subprocess.run([sys.executable, "-c", script, *files], check=True)


def test_inner_results():
    model = DeepPot(FILES / "se_e2_a.dp")
    coord, types = np.random.default_rng(0).uniform(0, 5, (1, 5, 3)), [0, 1, 0, 1, 1]
    reference = DeepPot(FILES / "se_e2_a.dp", engine="framework")
    assert not isinstance(reference.evaluator, NativeEvaluator)
    for one in ("eval_descriptor", "eval_fitting_last_layer"):
        found, want = (getattr(m, one)(coord, None, types) for m in (model, reference))
        np.testing.assert_allclose(found, want, rtol=0, atol=1e-13)
    np.testing.assert_array_equal(
        *(
            m.evaluate(coord, None, types, derivatives=["hessian"])["hessian"]
            for m in (model, reference)
        )
    )


def test_too_many_neighbors_are_counted(caplog):
    case = cases.named("se_e2_a_twoside")
    path, given = cases.path(case, "dp"), cases.inputs(case, "dense")
    found = {}
    for engine in ("native", "framework"):
        model = DeepPot(path, engine=engine)
        found[engine] = model.eval(given["coords"], given["cells"], given["atom_types"])
        overflow = model.evaluator.overflow
        assert overflow.centers > 0
        found[engine] += (overflow.centers, overflow.needed.tolist(), caplog.messages[-1])
    for native, framework in zip(*found.values(), strict=True):
        if isinstance(native, np.ndarray):
            np.testing.assert_allclose(native, framework, atol=1e-11)
        else:
            assert native == framework


def test_a_mean_that_the_flag_denies(tmp_path):
    """Files whose array davg is not 0 have means in empty slots, whatever set_davg_zero says."""
    descriptor = {
        "type": "se_atten", "rcut": 4.0, "rcut_smth": 1.0, "sel": 40, "neuron": [3, 6],
        "axis_neuron": 2, "attn_layer": 0, "set_davg_zero": False,
    }  # fmt: skip
    section = {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": {"neuron": [4]}}
    model = randomize(build_model(normalize_model(section)), seed=5)
    data = model_file_dict(model, {}, 0.5, "NumPy")
    assert np.any(data["model"]["descriptor"]["@variables"]["davg"])
    data["model"]["descriptor"]["set_davg_zero"] = True
    write_model(tmp_path / "flagged.dp", data)
    want = evaluate(DeepEval.from_evaluator(NativeEvaluator(model)))
    for engine in ("native", "framework"):
        found = evaluate(DeepEval(tmp_path / "flagged.dp", engine=engine))
        for one, expected in zip(found, want, strict=True):
            for key, value in expected.items():
                np.testing.assert_allclose(one[key], value, rtol=0, atol=1e-11, err_msg=engine)


def test_virtual_atoms():
    model = DeepPot(FILES / "se_atten.dp")
    coord = np.random.default_rng(0).uniform(0, 4, (1, 6, 3))
    some = np.array([[0, 1, -1, 0, -1, 1]])
    energy, force, _ = model.eval(coord, None, some, mixed_type=True)
    real = some[0] >= 0
    alone = model.eval(coord[:, real], None, some[0, real])
    assert energy == pytest.approx(alone[0])
    np.testing.assert_allclose(force[:, real], alone[1], atol=1e-14)
    assert not force[:, ~real].any()


def test_copies_are_evaluated_natively(tmp_path):
    model = DeepPot(FILES / "se_e2_a.pth")
    again = pickle.loads(pickle.dumps(DeepPot.from_evaluator(model.evaluator)))
    assert again.evaluator.native is not None
    coord = np.random.default_rng(0).uniform(0, 4, (1, 4, 3))
    np.testing.assert_array_equal(*(m.eval(coord, None, [0, 0, 1, 1])[1] for m in (model, again)))


def test_wrong_use(tmp_path):
    with pytest.raises(InputError, match=r'engine: "fast" is unknown.*auto, native or framework'):
        DeepPot(FILES / "se_e2_a.dp", engine="fast")
    shutil.copytree(FILES / "se_e2_a.savedmodel", tmp_path / "program.savedmodel")
    shutil.rmtree(tmp_path / "program.savedmodel" / "assets.extra")
    with pytest.raises(NotAvailableError, match="neutral dictionary only"):
        open_native(tmp_path / "program.savedmodel", engine="native")
    data = (FILES / "se_e2_a.dp").read_bytes()
    (tmp_path / "cut.dp").write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match=r"cut\.dp"):
        DeepPot(tmp_path / "cut.dp")
    model = DeepPot(FILES / "se_e2_a.dp")
    with pytest.raises(InputError, match="enclose no volume"):
        model.eval(np.ones((1, 6)) * np.arange(6), np.ones((1, 9)), [0, 1])
    with pytest.raises(InputError, match="NaN"):
        model.eval([[0, 0, 0, 0, 0, np.nan]], None, [0, 1])
