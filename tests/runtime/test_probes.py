# SPDX-License-Identifier: LGPL-3.0-or-later
"""Files prove themselves with the results of small frames."""

import numpy as np
import pytest

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.model import Model, build_model
from deepmd.io import load_model
from deepmd.np.evaluator import NumPyEvaluator, open_model
from deepmd.runtime.probes import compare_probes, make_probes, model_file_dict, write_model


def make(precision="float64", sel=(10, 20), **fitting):
    descriptor = {
        "type": "se_e2_a",
        "rcut": 3.5,
        "rcut_smth": 0.5,
        "sel": list(sel),
        "neuron": [4, 8],
        "axis_neuron": 3,
        "precision": precision,
        "seed": 1,
    }
    fit = {"neuron": [6, 6], "seed": 2, "precision": precision, **fitting}
    section = {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fit}
    return build_model(section), section


@pytest.mark.parametrize("fitting", [{}, {"numb_fparam": 2, "numb_aparam": 1}])
def test_probes_travel_and_are_passed(tmp_path, fitting):
    model, section = make(**fitting)
    data = model_file_dict(model, section, 0.9, "NumPy")
    frames = data["probes"]["frames"]
    assert [f["@variables"]["cell"] is None for f in frames] == [False, True]
    for frame in frames:
        assert np.abs(frame["@variables"]["force"]).max() > 1e-6
        assert {"energy", "force", "virial", "atom_energy", "atom_virial"} <= set(
            frame["@variables"]
        )
    for name in ("m.dp", "m.yaml"):
        write_model(tmp_path / name, data)
        evaluator = open_model(tmp_path / name)
        assert compare_probes(evaluator, load_model(tmp_path / name)["probes"]) is None
        assert evaluator.min_nbor_dist == 0.9
        assert evaluator.model_def_script == section


def test_another_model_gives_something_else():
    model, _ = make()
    probes = make_probes(model)
    other = Model.deserialize(model.serialize())
    other.atomic_model.descriptor.embeddings.networks[0].layers[0].w[0, 0] += 1e-6
    assert "of probe 0 differs" in compare_probes(NumPyEvaluator(other), probes)


def test_write_model_refuses_a_dictionary_that_contradicts_its_probes(tmp_path):
    model, section = make()
    data = model_file_dict(model, section, None, "NumPy")
    data["model"]["@variables"]["out_bias"] = data["model"]["@variables"]["out_bias"] + 1.0
    with pytest.raises(ModelFileError, match="energy"):
        write_model(tmp_path / "m.dp", data)
    assert list(tmp_path.iterdir()) == []


def test_a_nan_is_no_agreement():
    model, _ = make()
    probes = make_probes(model)
    model.atomic_model.out_bias[:] = np.nan
    assert "energy of probe 0" in compare_probes(NumPyEvaluator(model), probes)


def test_single_precision_has_its_own_tolerance():
    model, _ = make("float32")
    probes = make_probes(model)
    for frame in probes["frames"]:
        frame["@variables"]["energy"] = frame["@variables"]["energy"] * (1 + 3e-6)
    assert compare_probes(NumPyEvaluator(model), probes) is None
    for frame in probes["frames"]:
        frame["@variables"]["energy"] = frame["@variables"]["energy"] * (1 + 1e-4)
    assert compare_probes(NumPyEvaluator(model), probes) is not None


def test_probes_of_many_types():
    types = [f"X{k}" for k in range(40)]
    descriptor = {
        "type": "se_e2_a",
        "rcut": 3.0,
        "rcut_smth": 0.5,
        "sel": [2] * 40,
        "neuron": [2],
        "axis_neuron": 1,
        "type_one_side": True,
    }
    model = build_model(
        {"type_map": types, "descriptor": descriptor, "fitting_net": {"neuron": [2]}}
    )
    atype = make_probes(model)["frames"][0]["@variables"]["atype"]
    assert len(atype) <= 20
    assert atype.max() > 30


@pytest.mark.parametrize("sel", [(10, 20), (8, 16), (1, 2)])
def test_no_atom_of_a_probe_has_too_many_neighbors(sel):
    # Which of two images at the same distance is dropped would be anybody's choice.
    model, _ = make(sel=sel)
    evaluator = NumPyEvaluator(model)
    probes = make_probes(model)
    assert compare_probes(evaluator, probes) is None
    assert evaluator.overflow.centers == 0
    for frame in probes["frames"]:
        assert np.abs(frame["@variables"]["force"]).max() > 1e-9
