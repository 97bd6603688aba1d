# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fittings of tensors, densities of states and properties."""

import copy
import json

import numpy as np
import pytest
from conftest import REFERENCE

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.batch import Batch, join
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting, InvarFitting
from deepmd.dpmodel.model import Model, build_model, prepare
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io import load_model
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.schema import normalize

KINDS = ("dipole", "polar", "dos", "property")
DERIVATIVES = ("force", "virial", "atom_virial")


def _cases():
    cases = json.loads((REFERENCE / "manifest.json").read_text())["cases"]
    return [c for c in cases if c["kind"] in KINDS]


def _known(descriptor):
    parts = descriptor.get("list", [descriptor])
    return all(p["type"] in Descriptor.registry for p in parts)


def _stored(case):
    data = load_model(REFERENCE / case["files"]["dp"])["model"]
    if not _known(data["descriptor"]):
        pytest.skip(f"descriptor {data['descriptor']['type']} is not built yet")
    return data


def assert_same(a, b, path="model"):
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert list(a) == list(b), path
        for key in a:
            assert_same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{path}/{k}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all(), path
    else:
        assert a == b, path


def _batch(model, info, arrays):
    """All frames on one axis without virtual atoms, and where the real atoms are."""
    nf, na = info["nframes"], info["natoms"]
    atype = np.broadcast_to(arrays["atype"], (nf, na))
    parts = []
    for k in range(nf):
        real = atype[k] >= 0
        fparam, aparam = arrays.get("fparam"), arrays.get("aparam")
        parts.append(
            Batch.from_arrays(
                arrays["coord"][k].reshape(1, na, 3)[:, real],
                arrays["box"][k].reshape(1, 3, 3) if "box" in arrays else None,
                atype[k, real],
                fparam=None if fparam is None else fparam[k : k + 1],
                aparam=None if aparam is None else aparam[k].reshape(na, -1)[real],
            )
        )
    batch = join(parts)
    batch.edges = batch_edges(batch, model.rcut)
    return batch, atype >= 0


@pytest.mark.parametrize("case", _cases(), ids=lambda c: c["name"])
def test_golden(case, reference):
    model = Model.deserialize(_stored(case))
    z = np.load(reference / case["npz"])
    name = model.output_def().keys()[0]
    checked = set()
    for key, info in case["sets"].items():
        batch, real = _batch(model, info, {k: z[f"{key}/{k}"] for k in info["inputs"]})
        out = model.predict(
            prepare(batch, model.packings()),
            batch.n_frames,
            derivatives=DERIVATIVES,
            extra=("descriptor", "fitting_last_layer"),
        )
        for output in set(info["outputs"]) - set(info.get("not_unique") or ()):
            got = out[output.replace("property", name)]
            want = z[f"{key}/out/{output}"]
            if output in ("descriptor", "fitting_last_layer"):
                want = want[real]  # those of virtual atoms mean nothing
            elif output.startswith("atom_") or output == "force":
                full = np.zeros((*real.shape, *got.shape[1:]))
                full[real] = got
                got = full
            # Stored derivatives of dipoles by atom lie in memory as (frames, atoms, components, …).
            error = np.abs(got.reshape(want.shape) - want).max()
            assert error <= 1e-10 * max(np.abs(want).max(), 0.01), (key, output)
            checked.add(output)
    kind = case["kind"]
    assert {kind, f"atom_{kind}"} <= checked
    assert kind != "dipole" or {"force", "virial"} <= checked


@pytest.mark.parametrize("case", _cases(), ids=lambda c: c["name"])
def test_the_stored_dictionary_comes_back(case, reference):
    data = _stored(case)
    again = Model.deserialize(copy.deepcopy(data)).serialize()
    assert list(again) == list(data)
    for part in set(data) - {"descriptor"}:
        assert_same(again[part], data[part], part)


# -- models made from an input ----------------------------------------------------------------------

TYPES = ["O", "H"]


def built(descriptor=None, **fitting):
    """A small model of random parameters, bias and deviation."""
    section = {
        "type_map": TYPES,
        "descriptor": {
            "type": "se_e2_a",
            "rcut": 3.0,
            "rcut_smth": 1.0,
            "sel": [6, 8],
            "neuron": [4, 6],
            "axis_neuron": 3,
            "seed": 1,
            **(descriptor or {}),
        },
        "fitting_net": {"neuron": [5, 5], "seed": 2, **fitting},
    }
    exclude = section["fitting_net"].pop("atom_exclude_types", [])
    model = build_model({**section, "atom_exclude_types": exclude})
    rng = np.random.default_rng(3)
    atomic = model.atomic_model
    atomic.out_bias = rng.normal(size=atomic.out_bias.shape)
    atomic.out_std = rng.uniform(0.5, 2, atomic.out_std.shape)
    atomic.fitting.bias_atom_e = rng.normal(size=atomic.fitting.bias_atom_e.shape)
    return model


def frames():
    """Two open frames of seven atoms."""
    coord = np.random.default_rng(4).uniform(0, 3.5, (2, 7, 3))
    batch = Batch.from_arrays(coord, None, [0, 1, 1, 0, 1, 1, 0])
    batch.edges = batch_edges(batch, 3.0)
    return batch


def predict(model, batch, derivatives=()):
    inputs = prepare(batch, model.packings())
    return model.predict(inputs, batch.n_frames, derivatives=derivatives)


def test_outputs_without_derivatives_have_none():
    out = predict(built(type="polar"), frames(), DERIVATIVES)
    assert set(out) == {"polar", "atom_polar"}


def test_intensive_properties_are_means():
    options = {"type": "property", "property_name": "gap", "task_dim": 2}
    total, mean = (predict(built(**options, intensive=i), frames()) for i in (False, True))
    np.testing.assert_allclose(mean["atom_gap"], total["atom_gap"])
    np.testing.assert_allclose(mean["gap"], total["gap"] / 7)
    part = predict(built(**options, intensive=True, atom_exclude_types=[1]), frames())
    np.testing.assert_allclose(part["gap"], part["atom_gap"].reshape(2, 7, 2).sum(axis=1) / 3)
    np.testing.assert_array_equal(part["mask"][:7, 0], [1, 0, 0, 1, 0, 0, 1])


def test_statistics_of_properties():
    """Deviation and bias of each atom's type, or of the first type for all."""
    given = {"type": "property", "property_name": "gap", "task_dim": 2}
    for distinguish in (True, False):
        model = built(**given, distinguish_types=distinguish)
        shifted = predict(model, frames())["atom_gap"]
        bias, std = model.atomic_model.out_bias[0], model.atomic_model.out_std[0]
        model.atomic_model.out_bias = np.zeros_like(model.atomic_model.out_bias)
        model.atomic_model.out_std = np.ones_like(model.atomic_model.out_std)
        plain = predict(model, frames())["atom_gap"]
        rows = frames().atype if distinguish else np.zeros(14, int)
        np.testing.assert_allclose(shifted, plain * std[rows] + bias[rows])


def test_sel_type_chooses_types():
    model = built(type="dipole", sel_type=[0])
    assert model.get_sel_type() == [0]
    assert model.atomic_model.atom_exclude_types == [1]
    assert model.atomic_model.fitting.exclude_types == [1]
    out = predict(model, frames())["atom_dipole"]
    chosen = frames().atype == 0
    assert (out[~chosen] == 0).all() and (out[chosen] != 0).all()
    assert built(type="polar", sel_type=1).get_sel_type() == [1]
    assert built(type="polar").get_sel_type() == [0, 1]
    with pytest.raises(InputError, match="sel_type"):
        built(type="polar", sel_type=[2])


def test_types_excluded_by_the_fitting_alone_have_no_shift():
    """A fitting may exclude types that its model does not, in files of other origin."""
    model = built(type="polar", sel_type=[0])
    model.atomic_model.atom_exclude_types = []
    out = predict(model, frames())["atom_polar"]
    assert (out[frames().atype == 1] == 0).all()


@pytest.mark.parametrize(
    "options",
    [
        {"type": "dipole", "sel_type": [1]},
        {"type": "polar", "fit_diag": False},
        {"type": "dos", "numb_dos": 4},
        {"type": "property", "property_name": "gap", "intensive": True},
    ],
    ids=lambda o: o["type"],
)
def test_ranges_of_centers_and_files(options):
    """Chunks give what the whole gives, and so does the model read back."""
    model = built(**options)
    whole = predict(model, frames(), DERIVATIVES)
    for other in (model, Model.deserialize(model.serialize())):
        evaluator = NumPyEvaluator(other)
        evaluator.max_edges = 11
        parts = evaluator.evaluate(frames(), derivatives=DERIVATIVES)
        assert set(parts) == set(whole)
        for key, value in whole.items():
            np.testing.assert_allclose(parts[key], value, atol=1e-13, err_msg=key)


def test_an_invariant_of_size_one_is_an_energy():
    energy = built(type="ener", atom_ener=[None, -1.0])
    data = energy.serialize()
    data["fitting"] |= {"type": "invar", "var_name": "thing"}
    other = Model.deserialize(data)
    assert isinstance(other.atomic_model.fitting, InvarFitting)
    one, two = (predict(m, frames(), ("force",)) for m in (energy, other))
    np.testing.assert_array_equal(one["atom_energy"], two["atom_thing"])
    np.testing.assert_array_equal(one["force"], two["force"])
    assert_same(other.serialize()["fitting"]["nets"], data["fitting"]["nets"])


@pytest.mark.parametrize("kind", ["ener", "dipole", "dos"])
def test_files_of_the_first_version(kind):
    data = built(type=kind, numb_fparam=0).atomic_model.fitting.serialize()
    old = copy.deepcopy(data) | {"@version": 1}
    for key in ("dim_case_embd", "default_fparam"):
        del old[key]
    del old["@variables"]["case_embd"]
    assert_same(Fitting.deserialize(old).serialize(), data)
    with pytest.raises(ModelFileError, match="version 9"):
        Fitting.deserialize(data | {"@version": 9})


def test_wrong_inputs():
    with pytest.raises(InputError, match="equivariant"):
        Fitting.registry.get("dipole").for_descriptor({}, Radial(), TYPES)
    with pytest.raises(InputError, match="scale"):
        built(type="polar", scale=[1.0, 2.0, 3.0])


class Radial(Descriptor):
    """A descriptor without directions."""

    dim_out = 4


# -- input keys -------------------------------------------------------------------------------------


def checked(**fitting):
    data = {
        "model": {
            "type_map": TYPES,
            "descriptor": {"type": "se_e2_a", "rcut": 3.0, "rcut_smth": 1.0, "sel": [6, 8]},
            "fitting_net": fitting,
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "loss": {"type": "tensor", "pref": 1.0, "pref_atomic": 1.0},
        "training": {"numb_steps": 1, "training_data": {"systems": ["x"]}},
    }
    return normalize(data)["model"]


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_make_a_model(kind):
    required = {"property_name": "gap"} if kind == "property" else {}
    model = build_model(checked(type=kind, neuron=[4], **required))
    size = {"dipole": 3, "polar": 9, "dos": 300, "property": 1}[kind]
    assert model.output_def().get_data().popitem()[1].size == size


def test_input_keys():
    assert checked(type="dipole", dipole_type=[1])["fitting_net"]["sel_type"] == [1]
    assert checked(type="polar", pol_type=0)["fitting_net"]["sel_type"] == 0
    assert checked(type="dos")["fitting_net"]["precision"] == "float64"
    for wrong, message in (
        ({"type": "property"}, "property_name"),
        ({"type": "dos", "numb_dos": 0}, "numb_dos"),
        ({"type": "polar", "sel_type": [-1]}, "sel_type"),
        ({"type": "dipole", "atom_ener": [0.0, 0.0]}, "atom_ener"),
    ):
        with pytest.raises(InputError, match=message):
            checked(**wrong)


def test_a_mask_is_no_input_of_the_network():
    section = {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_e2_a", "rcut": 4.0, "sel": [10, 12], "neuron": [4]},
        "fitting_net": {"neuron": [6], "numb_aparam": 1, "use_aparam_as_mask": True},
    }
    given = {
        "model": section,
        "learning_rate": {"start_lr": 1e-3, "stop_lr": 1e-5},
        "training": {"training_data": {"systems": ["data"]}, "numb_steps": 1},
    }
    model = build_model(normalize(copy.deepcopy(given))["model"])
    fitting = model.atomic_model.fitting
    assert model.get_dim_aparam() == 1
    assert fitting.nets.networks[0].in_dim == model.atomic_model.descriptor.dim_out
    coord = np.random.default_rng(0).uniform(0, 3, (1, 4, 3))
    energies = []
    for mask in (np.ones((4, 1)), np.zeros((4, 1))):
        batch = Batch.from_arrays(coord, None, [0, 1, 1, 0], aparam=mask)
        batch.edges = batch_edges(batch, model.rcut)
        energies.append(NumPyEvaluator(model).evaluate(batch, derivatives=())["energy"])
    np.testing.assert_array_equal(*energies)
    section["fitting_net"]["numb_aparam"] = 2
    with pytest.raises(InputError, match="use_aparam_as_mask: a mask is one number"):
        normalize(given)
