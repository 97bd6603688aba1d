# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every member in single precision, and through the files of both compiled backends."""

import numpy as np
import pytest

from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.dpmodel.model import Model, build_model
from deepmd.infer import DeepEval
from deepmd.runtime.probes import model_file_dict
from deepmd.testing.backends import evaluator
from deepmd.testing.systems import randomize, small_system
from tests.members import DESCRIPTORS, FITTINGS, MEMBERS, section


def results(potential):
    """All results of a potential for one system, periodic and open."""
    coord, cell, atype = small_system(2, 4.0, n=6)
    spin = np.random.default_rng(0).normal(size=coord.shape)
    more = {"spin": spin} if potential.has_spin else {}
    derivatives = ("force", "virial") if potential.model.differentiable() else ()
    for box in (cell, None):
        yield potential.evaluate(coord[None], box, atype, derivatives=derivatives, **more)


def assert_same(got, want, tolerance):
    for a, b in zip(results(got), results(want), strict=True):
        assert set(a) == set(b)
        for key, value in b.items():
            scale = max(float(np.abs(value).max(initial=0.0)), 0.01)
            worst = float(np.abs(a[key] - value).max(initial=0.0))
            assert worst <= tolerance * scale, (key, worst / scale)


def doubled(node):
    """Return a dictionary with the same numbers in double precision."""
    if isinstance(node, dict):
        return {k: "float64" if k == "precision" else doubled(v) for k, v in node.items()}
    if isinstance(node, list):
        return [doubled(part) for part in node]
    is_single = isinstance(node, np.ndarray) and node.dtype == np.float32
    return node.astype(np.float64) if is_single else node


def test_every_component_is_a_member():
    kinds = {(Descriptor.registry, "se_a_"): DESCRIPTORS, (Fitting.registry, ""): FITTINGS}
    for (registry, _), members in kinds.items():
        shown = {registry.get(m) if m in registry else None for m in members}
        missing = {registry.get(n).__name__ for n in registry} - {c.__name__ for c in shown if c}
        # The descriptor of se_e2_a with a type embedding is in the member of that name. Frames with
        # masks are open and take a parameter: tests/dpmodel/test_se_a_mask.py.
        elsewhere = {"EnergyFitting", "InvarFitting", "Radial", "DescrptSeATebd", "DescrptSeAMask"}
        assert missing <= elsewhere


@pytest.mark.parametrize("name", MEMBERS)
def test_single_precision(name, tmp_path):
    pytest.importorskip("torch")
    model = randomize(build_model(section(name, tmp_path, "float32")))
    data = model.serialize()
    exact = Model.deserialize(doubled(data))
    single, double = (DeepEval.from_evaluator(evaluator("torch", m)) for m in (model, exact))
    assert_same(single, double, 1e-5)
    first, second = next(results(single)), next(results(double))
    assert any((first[key] != second[key]).any() for key in first)


@pytest.mark.parametrize("suffix", ["pth", "hlo", "pb"])
@pytest.mark.parametrize("name", MEMBERS)
def test_compiled_file(name, suffix, tmp_path, request):
    if suffix == "hlo":
        pytest.importorskip("flatbuffers")
        export = pytest.importorskip("deepmd.jax.export").write_hlo
        request.getfixturevalue("quick_programs")
    elif suffix == "pb":
        pytest.importorskip("tensorflow")
        export = pytest.importorskip("deepmd.tf.files").write_pb
    else:
        pytest.importorskip("torch")
        export = pytest.importorskip("deepmd.pt.torchscript.export").write_pth
    model = randomize(build_model(section(name, tmp_path)))
    file = tmp_path / f"model.{suffix}"
    export(file, model_file_dict(model, {}, None, "NumPy"))  # compares probes
    opened, neutral = DeepEval(file), DeepEval.from_evaluator(evaluator("numpy", model))
    if suffix == "pth":  # else one more compilation, of what the probes have shown
        assert_same(opened, neutral, 1e-10)
