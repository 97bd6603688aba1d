# SPDX-License-Identifier: LGPL-3.0-or-later
"""Other type maps: predictions for types that stay are the same."""

import copy

import numpy as np
import pytest
from golden.cases import inputs, named, path, select

from deepmd.base.errors import InputError
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.module import walk
from deepmd.dpmodel.type_map import change_type_map
from deepmd.infer import DeepEval
from deepmd.io import load_model
from deepmd.io.tree import difference
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.schema import normalize

OLD = ["O", "H", "C"]
_TEBD = {"sel": 20, "rcut": 3.0, "rcut_smth": 0.5, "neuron": [4, 8], "tebd_dim": 4}
_TYPED = {"sel": [8, 10, 6], "rcut": 3.0, "rcut_smth": 0.5, "neuron": [2, 4]}
TYPED = {
    "se_e2_a": {"type": "se_e2_a", "axis_neuron": 2, **_TYPED},
    "one_side": {"type": "se_e2_a", "axis_neuron": 2, "type_one_side": True, **_TYPED},
    "se_e2_r": {"type": "se_e2_r", **_TYPED},
    "se_e3": {"type": "se_e3", **_TYPED},
}
MIXED = {
    "dpa1": {"type": "se_atten", "attn_layer": 1, "attn": 4, "axis_neuron": 2, **_TEBD},
    "strip": {"type": "se_atten_v2", "attn_layer": 0, "axis_neuron": 2, **_TEBD},
    # the embedding's layer adds its input where the widths fit: 3 -> 3, 4 -> 8
    "residual": {"type": "se_atten", "attn_layer": 0, "axis_neuron": 2, **_TEBD, "tebd_dim": 3},
    "double": {"type": "se_atten", "attn_layer": 0, "axis_neuron": 2, **_TEBD, "tebd_dim": 8},
    "econf": {"type": "se_atten", "attn_layer": 0, **_TEBD, "use_econf_tebd": True},
    "se_e3_tebd": {"type": "se_e3_tebd", **_TEBD},
    "dpa2": {
        "type": "dpa2",
        "repinit": {
            "rcut": 3.0,
            "rcut_smth": 0.5,
            "nsel": 20,
            "neuron": [2, 4],
            "axis_neuron": 2,
            "tebd_dim": 4,
            "use_three_body": True,
            "three_body_neuron": [2, 4],
            "three_body_sel": 10,
            "three_body_rcut": 2.5,
        },
        "repformer": {
            "rcut": 2.5,
            "rcut_smth": 0.5,
            "nsel": 10,
            "nlayers": 1,
            "g1_dim": 6,
            "g2_dim": 4,
            "axis_neuron": 2,
            "attn1_hidden": 4,
            "attn1_nhead": 1,
            "attn2_hidden": 4,
            "attn2_nhead": 1,
        },
    },
    "dpa3": {
        "type": "dpa3",
        "repflow": {
            "n_dim": 6,
            "e_dim": 4,
            "a_dim": 4,
            "nlayers": 1,
            "e_rcut": 3.0,
            "e_rcut_smth": 0.5,
            "e_sel": 20,
            "a_rcut": 2.5,
            "a_rcut_smth": 0.5,
            "a_sel": 10,
        },
    },
}
ALL = {**TYPED, **MIXED, "hybrid": {"type": "hybrid", "list": [TYPED["se_e2_a"], MIXED["dpa1"]]}}
#: New type maps that every model takes, and those that need a type embedding.
SUBSETS = [["C", "O", "H"], ["H", "O"], ["C"], ["H", "C"]]
MORE = [["N", "C", "O", "H"], ["H", "N", "O", "C", "F", "P", "S", "B"], ["N", "C"]]


def make(descriptor, fitting=None, **model):
    """Build a model with random statistics and biases."""
    kind = (fitting or {}).get("type", "ener")
    loss = {"dipole": "tensor", "polar": "tensor"}.get(kind, kind)
    data = {
        "model": {
            "type_map": OLD,
            "descriptor": copy.deepcopy(descriptor),
            "fitting_net": {"neuron": [6, 6], "seed": 2, **(fitting or {})},
            **model,
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "loss": {"type": loss, "pref": 1.0, "pref_atomic": 0.0}
        if loss == "tensor"
        else {"type": loss},
        "training": {"training_data": {"systems": ["x"]}, "numb_steps": 1},
    }
    model = build_model(normalize(data)["model"])
    rng = np.random.default_rng(0)
    atomic = model.atomic_model
    atomic.out_bias = rng.normal(size=atomic.out_bias.shape)
    for part in atomic.descriptor.statistics_parts():
        part.dstd = rng.uniform(0.5, 1.5, part.dstd.shape)
        if not part.set_davg_zero:
            part.davg[:, 0] = rng.uniform(0.0, 0.3, len(part.davg))
    return model


def frame(names):
    """Atoms of the given names in a cell, and their coordinates."""
    rng = np.random.default_rng(5)
    grid = np.array([[x, y, z] for x in (0, 2) for y in (0, 2) for z in (0, 2)], dtype=float)
    coord = grid + rng.uniform(0, 1.2, grid.shape)
    return coord, 4.5 * np.eye(3), [names[k % len(names)] for k in range(len(coord))]


def predict(model, names):
    coord, cell, atoms = frame(names)
    types = [model.get_type_map().index(n) for n in atoms]
    evaluator = DeepEval.from_evaluator(NumPyEvaluator(model))
    derivatives = ("force", "virial") if model.differentiable() else ()
    return evaluator.evaluate(coord, cell, types, derivatives=derivatives)


def check_same(old, new, shared):
    """Predictions agree, and the new model is one that can be stored."""
    again = Model.deserialize(new.serialize())
    assert difference(new.serialize(), again.serialize()) is None
    names = [n for n in old.get_type_map() if n in shared]
    before, after = predict(old, names), predict(again, names)
    before.pop("mask", None)  # there is none where no type is excluded any more
    assert before.keys() <= after.keys()
    for key, want in before.items():
        np.testing.assert_allclose(after[key], want, rtol=1e-10, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("new", SUBSETS, ids="-".join)
@pytest.mark.parametrize("kind", ALL)
def test_order_and_subsets(kind, new):
    model = make(ALL[kind])
    stored = model.serialize()
    changed = change_type_map(model, new, seed=1)
    assert changed.get_type_map() == new
    check_same(model, changed, set(new))
    assert difference(model.serialize(), stored) is None  # the source stays


@pytest.mark.parametrize("new", MORE, ids="-".join)
@pytest.mark.parametrize("kind", MIXED)
def test_new_types(kind, new):
    model = make(MIXED[kind])
    changed = change_type_map(model, new, seed=1)
    check_same(model, changed, set(new) & set(OLD))
    atomic = changed.atomic_model
    added = [k for k, n in enumerate(new) if n not in OLD]
    assert not atomic.out_bias[:, added].any()
    for part in atomic.descriptor.statistics_parts():
        assert part.davg.shape[0] == len(new)
        assert not part.davg[added].any() and (part.dstd[added] == 1.0).all()
    # types that were added are told apart, and fresh parameters are reproducible
    results = [predict(changed, [n])["energy"][0, 0] for n in new]
    assert len({round(float(r), 12) for r in results}) == len(new)
    again = change_type_map(model, new, seed=1)
    assert difference(again.serialize(), changed.serialize()) is None


@pytest.mark.parametrize("kind", [*TYPED, "hybrid"])
def test_typed_descriptors_take_no_new_types(kind):
    with pytest.raises(InputError, match="of its own for every type and none for N"):
        change_type_map(make(ALL[kind]), ["O", "N", "H"])


@pytest.mark.parametrize("kind", ["se_e2_a", "dpa1", "hybrid"])
def test_several_changes(kind):
    """A dropped type of a typed descriptor keeps its place behind the others."""
    model = make(ALL[kind])
    once = change_type_map(model, ["C", "H"])
    twice = change_type_map(once, ["H"])
    check_same(model, twice, {"H"})
    if kind == "se_e2_a":
        assert twice.atomic_model.descriptor.type_map == ["H", "C", "O"]
        with pytest.raises(InputError, match="none for O"):
            change_type_map(once, ["H", "O"])


def test_exclusions_and_given_biases():
    model = make(
        {**MIXED["dpa1"], "exclude_types": [[0, 1], [2, 2]]},
        atom_exclude_types=[1],
        pair_exclude_types=[[0, 2]],
        preset_out_bias={"energy": [None, [1.0], [2.0]]},
    )
    changed = change_type_map(model, ["C", "N", "O"]).atomic_model
    assert changed.atom_exclude_types == [] == changed.fitting.exclude_types
    assert changed.pair_exclude_types == [[2, 0]]
    assert changed.descriptor.exclude_types == [[0, 0]]
    assert changed.preset_out_bias == {"energy": [[2.0], None, None]}
    check_same(model, change_type_map(model, ["H", "C", "N", "O"]), set(OLD))


FITTINGS = [
    {"type": "dipole", "sel_type": [0, 2]},
    {"type": "polar", "scale": [1.0, 2.0, 3.0], "sel_type": [1]},
    {"type": "dos", "numb_dos": 4},
    {"type": "property", "property_name": "gap", "intensive": True, "distinguish_types": False},
    {"type": "property", "property_name": "gap", "task_dim": 2},
    {"type": "ener", "atom_ener": [1.0, None, None]},
    {"type": "ener", "numb_fparam": 2, "default_fparam": [0.1, 0.2]},
]


@pytest.mark.parametrize("fitting", FITTINGS, ids=lambda f: f["type"])
@pytest.mark.parametrize("kind", ["se_e2_a", "dpa1"])
def test_fittings(kind, fitting):
    model = make(ALL[kind], fitting)
    atomic = model.atomic_model
    atomic.out_std = np.random.default_rng(1).uniform(0.5, 2.0, atomic.out_std.shape)
    for new in (["C", "O", "H"], ["H", "O"], *([] if kind == "se_e2_a" else [["N", "C", "O"]])):
        check_same(model, change_type_map(model, new), set(new) & set(OLD))


def test_the_only_vacuum_energy_must_stay():
    model = make(MIXED["dpa1"], {"atom_ener": [1.0, None, None]})
    with pytest.raises(InputError, match="atom_ener would be left without a number"):
        change_type_map(model, ["H", "C"])


@pytest.fixture
def table(tmp_path):
    r = np.arange(1, 41)[:, None] * 0.1
    columns = [np.exp(-r * (1 + 0.3 * k)) for k in range(6)]
    np.savetxt(tmp_path / "tab.txt", np.hstack([r, *columns]))
    return str(tmp_path / "tab.txt")


@pytest.mark.parametrize("kind", ["pairtab", "linear_ener", "zbl"])
def test_pair_tables_and_sums(kind, table):
    network = {"descriptor": MIXED["strip"], "fitting_net": {"neuron": [4], "seed": 1}}
    section = {
        "pairtab": {"type": "pairtab", "tab_file": table, "rcut": 3.0, "sel": 20},
        "linear_ener": {
            "type": "linear_ener",
            "weights": [0.3, 0.7],
            "models": [
                {"type_map": ["C", "H", "N", "O"], **network},
                {"type": "pairtab", "tab_file": table, "rcut": 3.0, "sel": 20},
            ],
        },
        "zbl": {"use_srtab": table, "sw_rmin": 0.8, "sw_rmax": 2.0, "smin_alpha": 0.2, **network},
    }[kind]
    data = {
        "model": {"type_map": OLD, **section},
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "training": {"training_data": {"systems": ["x"]}, "numb_steps": 1},
    }
    model = build_model(normalize(data)["model"])
    rng = np.random.default_rng(0)
    model.atomic_model.out_bias = rng.normal(size=model.atomic_model.out_bias.shape)
    for new in SUBSETS:
        check_same(model, change_type_map(model, new), set(new))
    with pytest.raises(InputError, match="the pair table has no potential for N"):
        change_type_map(model, ["O", "H", "C", "N"])


def test_wrong_type_maps():
    model = make(MIXED["strip"])
    for wrong, text in (([], "no list of names"), (["O", "O"], "occurs twice"), ([1], "no list")):
        with pytest.raises(InputError, match=text):
            change_type_map(model, wrong)
    with pytest.raises(InputError):
        change_type_map(make(MIXED["econf"]), ["O", "NoElement"])


def test_an_atomic_model_alone():
    model = make(MIXED["strip"]).atomic_model
    new = change_type_map(model, ["H", "N"], seed=3)
    assert new.type_map == ["H", "N"]
    shapes = {path: a.shape for path, a, _ in walk(new)}
    assert shapes["out_bias"] == (1, 2, 1)


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_types_behind_the_others_on_other_backends(backend, request):
    """Here the descriptor knows three types and the model two."""
    pytest.importorskip(backend)
    model = change_type_map(make(TYPED["se_e2_a"]), ["H", "C"])
    if backend == "jax":
        request.getfixturevalue("quick_programs")
        from deepmd.jax.evaluator import JaxEvaluator as Evaluator
    else:
        from deepmd.pt.evaluator import TorchEvaluator as Evaluator
    coord, cell, atoms = frame(["H", "C"])
    types = [["H", "C"].index(n) for n in atoms]
    found = DeepEval.from_evaluator(Evaluator(model)).evaluate(coord, cell, types)
    want = predict(model, ["H", "C"])
    for key in ("energy", "force", "virial"):
        np.testing.assert_allclose(found[key], want[key], rtol=1e-10, atol=1e-12)


GOLDEN = [c for c in select() if "dp" in c["files"]]


def test_models_of_deepmd_kit(reference):
    """Every stored model, its types reversed, and with new ones where it takes them."""
    for case in GOLDEN:
        model = Model.deserialize(load_model(path(case, "dp"))["model"])
        old = model.get_type_map()
        new = old[::-1]
        try:
            changed = change_type_map(model, ["Zr", *new, "Kr"])
        except InputError:
            changed = change_type_map(model, new)
        given = inputs(case, next(iter(case["sets"])))
        types = np.array(given["atom_types"])
        number = np.array([changed.get_type_map().index(n) for n in old])
        results = []
        for one, atype in ((model, types), (changed, np.where(types < 0, -1, number[types]))):
            potential = DeepEval.from_evaluator(NumPyEvaluator(one))
            results.append(potential.evaluate(**{**given, "atom_types": atype}, derivatives=()))
        for key in set(results[0]) - {"mask"}:
            scale = max(np.abs(results[0][key]).max(), 0.01)
            error = np.abs(results[1][key] - results[0][key]).max() / scale
            assert error < 1e-10, (case["name"], key)


def test_a_new_type_has_no_spin(reference):
    model = Model.deserialize(load_model(path(named("spin_dpa1"), "dp"))["model"])
    changed = change_type_map(model, ["Zr", *model.get_type_map()])
    assert changed.get_use_spin() == [False, *model.get_use_spin()]
    coord = np.array([[[0.0, 0, 0], [1.8, 0, 0], [0, 2.0, 0.3]]])
    spin = np.array([[[0.0, 0, 0], [0.3, 0.1, 0], [0, 0.2, 0.4]]])
    energies = []
    for of_first in (0.0, 0.7):
        spin[0, 0] = of_first
        potential = DeepEval.from_evaluator(NumPyEvaluator(changed))
        energies.append(potential.evaluate(coord, None, [0, 1, 1], spin=spin)["energy"])
    np.testing.assert_allclose(energies[0], energies[1], rtol=1e-13)
