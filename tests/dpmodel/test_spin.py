# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models with spins: stored numbers of DeePMD-kit, derivatives, symmetries, building."""

import copy
import dataclasses

import numpy as np
import pytest
from golden.cases import inputs, manifest, named, path
from members import DESCRIPTORS

from deepmd.base.errors import InputError, ModelFileError, NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model, SpinModel, build_model, prepare
from deepmd.dpmodel.model.spin_section import backbone_section, section_of_atoms
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io import load_model
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.schema.model import model_argument

CASES = [c for c in manifest()["cases"] if c["kind"] == "spin" and not c.get("crowded")]
pytestmark = pytest.mark.golden
ALL = ("force", "virial", "atom_virial")
each = pytest.mark.parametrize("case", CASES, ids=[c["name"] for c in CASES])


def data_of(case):
    return load_model(path(case, "dp"))


def model_of(case):
    return Model.deserialize(data_of(case)["model"])


def batch_of(case, name):
    given, info = inputs(case, name), case["sets"][name]
    nf, na = info["nframes"], info["natoms"]
    cells = given["cells"]
    return Batch.from_arrays(
        given["coords"].reshape(nf, na, 3),
        None if cells is None else cells.reshape(nf, 3, 3),
        given["atom_types"],
        spin=given["spin"],
    )


def evaluate(model, batch, derivatives=ALL, max_edges=1 << 15):
    evaluator = NumPyEvaluator(model)
    evaluator.max_edges = max_edges
    return evaluator.evaluate(batch, derivatives=derivatives)


def energy(model, batch):
    return evaluate(model, batch, ())["energy"][:, 0]


# -- DeePMD-kit's numbers -------------------------------------------------------------------------


def test_there_are_cases(reference):
    assert len(CASES) >= 3


@each
def test_outputs(case, reference):
    model = model_of(case)
    with np.load(reference / case["npz"]) as stored:
        for name, info in case["sets"].items():
            out = evaluate(model, batch_of(case, name))
            assert set(out) == set(info["outputs"])
            for key in set(info["outputs"]) - set(info["not_unique"]):
                want = stored[f"{name}/out/{key}"]
                allowed = case["tolerance"] * max(np.abs(want).max(), 0.01)
                assert np.abs(out[key].reshape(want.shape) - want).max() <= allowed, (name, key)


@each
def test_divided_centers(case):
    model = model_of(case)
    batch = batch_of(case, "pbc")
    whole, parts = evaluate(model, batch), evaluate(model, batch, max_edges=60)
    for key, value in whole.items():
        np.testing.assert_allclose(parts[key], value, rtol=0, atol=1e-13, err_msg=key)


@each
def test_partners_as_centers_change_nothing(case):
    model, batch = model_of(case), batch_of(case, "pbc")
    outs = []
    for all_centers in (False, True):
        twice = model.expand(batch, all_centers=all_centers)
        assert model.expand(twice) is twice
        outs.append(model.predict(prepare(twice, model.packings()), 3, derivatives=ALL))
    for key, value in outs[0].items():
        np.testing.assert_allclose(outs[1][key], value, rtol=0, atol=1e-12, err_msg=key)


@each
def test_hidden_partners_are_left_out_where_they_change_nothing(case, monkeypatch):
    model = model_of(case)
    some = {name: evaluate(model, batch_of(case, name)) for name in case["sets"]}
    fewer = len(model.expand(batch_of(case, "pbc")).edges)
    monkeypatch.setattr(SpinModel, "_crowded", lambda *arguments: True)
    assert fewer < len(model.expand(batch_of(case, "pbc")).edges)
    for name, one in some.items():
        for key, value in evaluate(model, batch_of(case, name)).items():
            np.testing.assert_allclose(value, one[key], rtol=0, atol=1e-12, err_msg=key)


# -- derivatives and symmetries -------------------------------------------------------------------


def shifted(batch, **changes):
    """Return the batch with ``name=change`` added to its arrays."""
    return dataclasses.replace(batch, **{k: getattr(batch, k) + v for k, v in changes.items()})


@each
def test_forces_and_magnetic_forces(case):
    model, batch = model_of(case), batch_of(case, "pbc")
    out, h = evaluate(model, batch), 1e-4
    magnetic = np.array(model.use_spin)[batch.atype]
    rng = np.random.default_rng(0)
    for name, key in (("coord", "force"), ("spin", "force_mag")):
        direction = rng.normal(size=batch.coord.shape)
        ahead = energy(model, shifted(batch, **{name: h * direction}))
        behind = energy(model, shifted(batch, **{name: -h * direction}))
        along = np.bincount(batch.frame, (out[key] * direction).sum(axis=1))
        np.testing.assert_allclose(-(ahead - behind) / (2 * h), along, rtol=1e-5, atol=1e-7)
        assert np.abs(along).min() > 1e-6
    assert not out["force_mag"][~magnetic].any()
    np.testing.assert_array_equal(out["mask_mag"][:, 0], magnetic)


@each
def test_virial_at_fixed_spin(case):
    model, batch = model_of(case), batch_of(case, "pbc")
    out, h = evaluate(model, batch), 1e-5
    for a, b in ((0, 0), (0, 1), (2, 0)):
        strain = np.zeros((3, 3))
        strain[b, a] = h  # r_a changes by h r_b
        ahead = energy(model, shifted(batch, coord=batch.coord @ strain, cell=batch.cell @ strain))
        behind = energy(
            model, shifted(batch, coord=-batch.coord @ strain, cell=-batch.cell @ strain)
        )
        want = out["virial"][:, 3 * a + b]
        np.testing.assert_allclose(-(ahead - behind) / (2 * h), want, rtol=1e-4, atol=1e-6)
    # Turning the cell without the spins costs energy: the virial is not symmetric.
    virial = out["virial"].reshape(-1, 3, 3)
    assert np.abs(virial - virial.transpose(0, 2, 1)).max() > 1e-5
    summed = np.stack([np.bincount(batch.frame, x) for x in out["atom_virial"].T], axis=1)
    np.testing.assert_allclose(summed, out["virial"], atol=1e-12)


@each
def test_a_partner_is_seen_where_its_atom_is_not(case):
    """A partner is within the cutoff by its own distance, not by that of its atom."""
    model = model_of(case)
    t = model.use_spin.index(True)
    shift = model.virtual_scale[t]
    coord = np.array([[[0.0, 0, 0], [model.rcut + 0.5 * shift, 0, 0]]])
    spin = np.array([[[0.0, 1, 0], [-2.0 / shift, 0, 0]]])

    def at(x):
        batch = Batch.from_arrays(coord + np.array([[0, 0, 0], [x, 0, 0]]), None, [t, t], spin=spin)
        return energy(model, batch)[0]

    # The partner is near, its atom is beyond the cutoff.
    assert abs(at(0.0) - at(9.0)) > 1e-9
    twice = model.expand(Batch.from_arrays(coord, None, [t, t], spin=spin))
    pairs = set(zip(twice.edges.i.tolist(), twice.edges.j.tolist(), strict=True))
    assert (0, 3) in pairs
    assert (0, 2) not in pairs


@each
def test_a_vanishing_spin_is_no_special_case(case):
    model, batch = model_of(case), batch_of(case, "pbc")
    still = dataclasses.replace(batch, spin=0.0 * batch.spin)
    small = shifted(still, spin=np.where(batch.spin > 0, 1e-9, -1e-9))
    one, two = evaluate(model, still), evaluate(model, small)
    for key in ("energy", "force", "virial"):
        assert np.isfinite(one[key]).all()
        np.testing.assert_allclose(one[key], two[key], rtol=0, atol=1e-5, err_msg=key)
    assert np.isfinite(one["force_mag"]).all()


def test_excluded_real_types_are_masked():
    data = data_of(named("spin_se_e2_a"))["model"]
    data["backbone_model"]["atom_exclude_types"] = [1, 3, 4, 5]
    batch = batch_of(named("spin_se_e2_a"), "pbc")
    out = evaluate(Model.deserialize(data), batch)
    np.testing.assert_array_equal(out["mask"][:, 0], batch.atype != 1)
    assert not out["atom_energy"][batch.atype == 1].any()


def test_parameters_of_atoms_and_frames():
    case = named("spin_dpa1")
    section = built_section(case)
    section["fitting_net"].update(numb_fparam=1, numb_aparam=2)
    model, batch, h = build_model(section), batch_of(case, "pbc"), 1e-4
    rng = np.random.default_rng(2)
    batch = dataclasses.replace(
        batch, fparam=rng.normal(size=(3, 1)), aparam=rng.normal(size=(batch.n_atoms, 2))
    )
    out = evaluate(model, batch)
    parts = evaluate(model, batch, max_edges=60)
    np.testing.assert_allclose(parts["force_mag"], out["force_mag"], rtol=0, atol=1e-13)
    direction = rng.normal(size=batch.spin.shape)
    ahead = energy(model, shifted(batch, spin=h * direction))
    behind = energy(model, shifted(batch, spin=-h * direction))
    along = np.bincount(batch.frame, (out["force_mag"] * direction).sum(axis=1))
    np.testing.assert_allclose(-(ahead - behind) / (2 * h), along, rtol=1e-5, atol=1e-7)
    changed = energy(model, shifted(batch, aparam=1.0))
    assert np.abs(changed - out["energy"][:, 0]).min() > 1e-6


# -- building -------------------------------------------------------------------------------------


def built_section(case, **spin):
    section = copy.deepcopy(case["config"])
    section["spin"].update(spin)
    argument = model_argument()
    section = argument.normalize_value(section)
    argument.check_value(section, strict=True)
    return section


def without_arrays(tree):
    """Replace arrays by their shapes and types."""
    if isinstance(tree, dict):
        return {k: without_arrays(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [without_arrays(v) for v in tree]
    return (tree.shape, str(tree.dtype)) if isinstance(tree, np.ndarray) else tree


def ordered(tree):
    """Make the order of keys count, too."""
    if isinstance(tree, dict):
        return [(k, ordered(v)) for k, v in tree.items()]
    return [ordered(v) for v in tree] if isinstance(tree, list) else tree


@each
def test_build_gives_the_stored_dictionary(case):
    stored = without_arrays(data_of(case)["model"])
    section = built_section(case)
    before = copy.deepcopy(section)
    model = build_model(section)
    assert section == before
    assert isinstance(model, SpinModel)
    assert ordered(without_arrays(model.serialize())) == ordered(stored)
    assert model.get_type_map() == case["type_map"]
    assert model.has_spin()
    assert model.output_def()["energy"].magnetic


@pytest.mark.parametrize(
    ("use_spin", "virtual_scale"),
    [
        ([True, True, False], 0.3),
        ([0, 1], [0.3, 0.3]),
        (["O", "Ni"], [0.3, 0.3]),
        (["Ni", "O"], [0.3, 0.3, 0.9]),
    ],
)
def test_ways_to_name_the_magnetic_types(use_spin, virtual_scale):
    case = named("spin_dpa1")
    section = built_section(case, use_spin=use_spin, virtual_scale=virtual_scale)
    assert build_model(section).serialize()["spin"] == {
        "use_spin": [True, True, False],
        "virtual_scale": [0.3, 0.3, 0.0],
    }


def test_own_exclusions_are_kept():
    case = named("spin_se_e2_a")
    section = built_section(case)
    section["pair_exclude_types"], section["atom_exclude_types"] = [[0, 1]], [2]
    section["descriptor"]["exclude_types"] = [[1, 2]]
    section["descriptor"]["env_protection"] = 0.2
    atomic = build_model(section).atomic_model
    assert [0, 1] in atomic.pair_exclude_types
    assert len(atomic.pair_exclude_types) == 13
    assert atomic.atom_exclude_types == [2, 3, 4, 5]
    assert [1, 2] in atomic.descriptor.exclude_types
    assert atomic.descriptor.env_protection == 0.2


def test_hybrid():
    case = named("spin_se_e2_a")
    section = built_section(case)
    mixed = built_section(named("spin_dpa1"))["descriptor"]
    section["descriptor"] = {"type": "hybrid", "list": [section["descriptor"], mixed]}
    model = build_model(section)
    assert [sum(part.sel) for part in model.atomic_model.descriptor.list] == [96, 70]
    assert {part.env_protection for part in model.atomic_model.descriptor.list} == {0.01}
    assert np.isfinite(evaluate(model, batch_of(case, "pbc"))["force_mag"]).all()


@pytest.mark.parametrize(
    ("spin", "where"),
    [
        ({"use_spin": [True]}, "use_spin"),
        ({"use_spin": [False, False, False]}, "use_spin"),
        ({"use_spin": ["Fe"]}, "use_spin"),
        ({"use_spin": [3]}, "use_spin"),
        ({"virtual_scale": [0.1, 0.2]}, "virtual_scale"),
        ({"virtual_scale": None}, "virtual_scale"),
        ({"scheme": "native"}, "scheme"),
    ],
)
def test_wrong_sections_are_refused(spin, where):
    section = built_section(named("spin_se_e2_a"))
    section["spin"].update(spin)
    with pytest.raises(InputError, match=f"model/spin/{where}"):
        build_model(section)


def test_other_models_with_spins_are_not_built():
    section = built_section(named("spin_se_e2_a"))
    section["fitting_net"] = {"type": "dipole"}
    with pytest.raises(NotAvailableError, match="model/spin"):
        build_model(section)


@pytest.mark.parametrize("wrong", ["no spin", "no scale", "short"])
def test_wrong_dictionaries_are_refused(wrong):
    data = data_of(named("spin_se_e2_a"))["model"]
    if wrong == "no spin":
        del data["spin"]
    elif wrong == "no scale":
        del data["spin"]["virtual_scale"]
    else:
        data["spin"]["use_spin"] = [True]
    with pytest.raises(ModelFileError, match="spin_ener"):
        Model.deserialize(data)


def test_missing_spins_are_named():
    case = named("spin_se_e2_a")
    model, batch = model_of(case), batch_of(case, "pbc")
    with pytest.raises(InputError, match="spin"):
        evaluate(model, dataclasses.replace(batch, spin=None))
    batch.edges = batch_edges(batch, model.rcut)
    with pytest.raises(ValueError, match="expand"):
        model.predict(prepare(batch, model.packings()), 3)


@pytest.mark.parametrize("name", ["se_e2_a", "se_atten", "hybrid"])
def test_the_section_that_partners_were_added_to(name):
    pairs = {"pair_exclude_types": [[0, 1]], "atom_exclude_types": [1]}
    kind = {**DESCRIPTORS[name], "exclude_types": []}
    if name == "hybrid":
        kind = {"type": "hybrid", "list": [{**m, "exclude_types": []} for m in kind["list"]]}
    given = {"type_map": ["A", "B"], "descriptor": kind, "fitting_net": {}, **pairs}
    again = section_of_atoms(backbone_section(given, [True, False]))
    for part in again["descriptor"].get("list", [again["descriptor"]]):
        assert part.pop("env_protection") > 0
    assert again == given
