# SPDX-License-Identifier: LGPL-3.0-or-later
"""Sums over fragments: what they are made of, their one type embedding, bad input, training."""

import copy

import numpy as np
import pytest

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import EnergyLoss
from deepmd.dpmodel.model import Model, PairwiseModel, build_model, frame_hessian, prepare
from deepmd.dpmodel.module import modules, split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.type_map import change_type_map
from deepmd.io.tree import difference
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.np.train_step import NumPyTrainStep
from deepmd.runtime.step import StepOptions
from deepmd.schema.check import normalize_model
from deepmd.testing.backends import evaluator

ALL = ("force", "virial", "atom_virial")
DESCRIPTOR = {
    "type": "se_atten",
    "rcut": 4.0,
    "rcut_smth": 0.5,
    "sel": 30,
    "neuron": [3, 6],
    "axis_neuron": 2,
    "attn_layer": 0,
    "set_davg_zero": False,
    "precision": "float64",
    "seed": 1,
}
FITTING = {"neuron": [5, 5], "precision": "float64", "seed": 2}
#: Of a QM region of types A and B, and of that with fragments of B and C around it.
SECTION = {
    "type": "pairwise_dprc",
    "type_map": ["A", "B", "C"],
    "type_embedding": {"neuron": [5], "seed": 3, "precision": "float64"},
    "qm_model": {"descriptor": DESCRIPTOR, "fitting_net": FITTING},
    "qmmm_model": {
        "descriptor": DESCRIPTOR | {"rcut": 5.0, "seed": 4},
        "fitting_net": FITTING | {"seed": 5},
    },
}
#: Two frames of nine atoms; the second has other numbers of fragments, and an atom left out.
REGIONS = np.array([[0, 0, 0, 1, 1, 2, 2, 2, 5], [0, 3, 3, 0, -1, 1, 1, 0, 0]], dtype=float)
TYPES = np.array([0, 1, 0, 1, 2, 1, 2, 2, 1])


def section(**changes):
    return normalize_model(copy.deepcopy(SECTION) | changes)


@pytest.fixture(scope="module")
def model():
    made, rng = build_model(section()), np.random.default_rng(0)
    made.atomic_model.out_bias[:] = rng.normal(size=made.atomic_model.out_bias.shape)
    for node in modules(made):
        if hasattr(node, "davg"):  # neighbors that are missing count
            node.davg = 0.1 * rng.normal(size=node.davg.shape)
    return made


def batch(regions=REGIONS, labels=None):
    rng, (nf, n) = np.random.default_rng(1), regions.shape
    grid = np.stack(np.meshgrid(*[np.arange(3.0)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    coord = 2.0 * grid + 0.3 * rng.normal(size=(nf, n, 3))
    cell = np.broadcast_to(np.diag([7.0, 8.0, 9.0]), (nf, 3, 3))
    made = Batch.from_arrays(coord, cell, TYPES, aparam=regions.reshape(-1, 1))
    made.labels, made.find = labels or {}, dict.fromkeys(labels or {}, 1.0)
    made.edges = batch_edges(made, 5.0)
    return made


def evaluate(model, some, **settings):
    made = NumPyEvaluator(model)
    for name, value in settings.items():
        setattr(made, name, value)
    return made.evaluate(some, derivatives=ALL)


def atoms_of(whole, frame, rows):
    """Return some atoms of a frame, with pairs of their own."""
    n = REGIONS.shape[1]
    part = Batch.from_arrays(
        whole.coord.reshape(-1, n, 3)[frame : frame + 1, rows],
        whole.cell[frame : frame + 1],
        TYPES[rows],
    )
    part.edges = batch_edges(part, 5.0)
    return part


# -- values ---------------------------------------------------------------------------------------


def test_the_sum_is_that_of_its_parts(model):
    whole, atomic = batch(), model.atomic_model
    got, n = evaluate(model, whole), REGIONS.shape[1]
    for frame, regions in enumerate(REGIONS):
        kept = regions >= 0
        bias = np.where(kept, atomic.out_bias[0, TYPES, 0], 0.0)[:, None]
        want = {"atom_energy": bias, "force": np.zeros((n, 3)), "atom_virial": np.zeros((n, 9))}
        energy, virial = bias.sum(), np.zeros(9)
        groups = [(atomic.qm_model, [0])]
        groups += [(atomic.qmmm_model, [0, f]) for f in np.unique(regions[regions > 0])]
        for part, members in groups:
            rows = np.flatnonzero(np.isin(regions, members))
            found = evaluate(Model(part), atoms_of(whole, frame, rows))
            for name in want:
                want[name][rows] += found[name]
            energy, virial = energy + found["energy"][0, 0], virial + found["virial"][0]
        np.testing.assert_allclose(got["energy"][frame, 0], energy, rtol=0, atol=1e-12)
        np.testing.assert_allclose(got["virial"][frame], virial, rtol=0, atol=1e-12)
        mine = slice(n * frame, n * (frame + 1))
        for name, value in want.items():
            np.testing.assert_allclose(got[name][mine], value, rtol=0, atol=1e-12, err_msg=name)


def test_numbers_of_fragments_are_names(model):
    other = np.select([REGIONS == 1, REGIONS == 2, REGIONS == 5], [7, 1, 2], REGIONS)
    want, got = (evaluate(model, batch(r)) for r in (REGIONS, other))
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=0, atol=1e-13, err_msg=name)


def test_a_frame_without_fragments_or_without_qm_atoms(model):
    alone = evaluate(model, batch(np.where(REGIONS == 0, 0.0, -1.0)))
    assert (alone["force"][REGIONS.ravel() != 0] == 0.0).all()
    assert (alone["atom_energy"][REGIONS.ravel() != 0] == 0.0).all()
    without = evaluate(model, batch(np.where(REGIONS == 0, -1.0, REGIONS)))
    assert (without["force"][REGIONS.ravel() <= 0] == 0.0).all()
    nothing = evaluate(model, batch(0.0 * REGIONS - 1.0))
    assert (nothing["energy"] == 0.0).all() and (nothing["force"] == 0.0).all()


def test_divided_centers(model):
    whole, parts = evaluate(model, batch()), evaluate(model, batch(), max_edges=60)
    mixed = evaluate(model, batch(), max_edges=60, interleave=True)
    for key, value in whole.items():
        for other in (parts, mixed):
            np.testing.assert_allclose(other[key], value, rtol=0, atol=1e-13, err_msg=key)


def test_an_expanded_batch_is_left_alone(model):
    once = model.expand(batch())
    assert model.expand(once) is once
    assert (np.diff(once.frame) >= 0).all() and (np.diff(once.edges.i) >= 0).all()


def test_torch_evaluates_the_same(model):
    want, got = (
        evaluate(model, batch()),
        evaluator("torch", model).evaluate(batch(), derivatives=ALL),
    )
    for key, value in want.items():
        np.testing.assert_allclose(got[key], value, rtol=0, atol=1e-12, err_msg=key)


# -- the parts ------------------------------------------------------------------------------------


def embeddings(model):
    return [node for node in modules(model) if isinstance(node, TypeEmbedding)]


def test_both_models_have_one_type_embedding(model):
    assert len(embeddings(model)) == 1
    data = model.serialize()
    read = Model.deserialize(data)
    assert isinstance(read, PairwiseModel) and len(embeddings(read)) == 1
    assert difference(data, read.serialize()) is None
    changed = change_type_map(model, ["C", "D", "B", "A"])
    assert len(embeddings(changed)) == 1
    some, other = batch(), batch()
    other.atype = np.array([3, 2, 0])[other.atype]
    want, got = evaluate(model, some), evaluate(changed, other)
    for key, value in want.items():
        np.testing.assert_allclose(got[key], value, rtol=0, atol=1e-12, err_msg=key)
    # Those of the models themselves are two, and two that have become different stay two.
    own = {k: v for k, v in SECTION.items() if k != "type_embedding"}
    assert len(embeddings(build_model(normalize_model(copy.deepcopy(own))))) == 2
    first = data["qm_model"]["descriptor"]["type_embedding"]["embedding"]["layers"][0]
    first["@variables"]["w"] = first["@variables"]["w"] + 0.1
    assert len(embeddings(Model.deserialize(data))) == 2


def test_other_descriptors_share_the_embedding_of_the_model():
    se = {k: v for k, v in DESCRIPTOR.items() if k != "attn_layer"} | {"type": "se_e2_a"}
    part = {"descriptor": se | {"sel": [10, 10, 10]}, "fitting_net": FITTING}
    made = build_model(section(qm_model=part, qmmm_model=part))
    assert len(embeddings(made)) == 1
    assert made.atomic_model.qm_model.type_embedding is made.atomic_model.qmmm_model.type_embedding


def test_layers_of_one_name_are_one_in_both_models():
    """As in DeePMD-kit 3.2.0, whose graphs have one array for both."""
    names = {"layer_name": ["first", "same", "last"]}
    parts = {k: copy.deepcopy(SECTION[k]) for k in ("qm_model", "qmmm_model")}
    for name, part in parts.items():
        part["fitting_net"] = FITTING | names | {"seed": len(name)}
    made = build_model(section(**parts))

    def shares(one):
        qm, qmmm = (m.fitting.nets.networks[0].layers for m in one.atomic_model.members())
        return [a is b for a, b in zip(qm, qmmm, strict=True)]

    assert shares(made) == [True, True, True]
    assert shares(Model.deserialize(made.serialize())) == [True, True, True]
    assert shares(change_type_map(made, ["C", "B", "A"])) == [True, True, True]


def test_biases_that_are_given():
    qm, qmmm = (copy.deepcopy(SECTION[name]) for name in ("qm_model", "qmmm_model"))
    qm["fitting_net"] = FITTING | {"atom_ener": [None, None, -1.5]}
    qmmm["fitting_net"] = FITTING | {"atom_ener": [0.0, None, 0.25]}
    made = build_model(section(qm_model=qm, qmmm_model=qmmm)).atomic_model
    np.testing.assert_allclose(made.qm_model.out_bias[0, :, 0], [0, 0, -1.5])
    np.testing.assert_allclose(made.qmmm_model.out_bias[0, :, 0], [0, 0, 0.25])
    assert made.fixed_biases("energy") == [[None, None, 0.0]]  # the others are fitted


def test_bad_sections():
    for changes, where in (
        ({"atom_exclude_types": [1]}, "atom_exclude_types"),
        ({"spin": {"use_spin": [True, False, False], "virtual_scale": 0.3}}, "model/spin"),
    ):
        with pytest.raises(NotAvailableError, match=where):
            build_model(section(**changes))
    part = {"descriptor": DESCRIPTOR, "fitting_net": FITTING | {"numb_aparam": 1}}
    with pytest.raises(InputError, match="qm_model/fitting_net/numb_aparam"):
        build_model(section(qm_model=part))
    part = {"descriptor": DESCRIPTOR, "fitting_net": FITTING | {"type": "dos", "numb_dos": 3}}
    with pytest.raises(InputError, match="qmmm_model/fitting_net"):
        build_model(section(qmmm_model=part))
    part = SECTION["qm_model"] | {"type_embedding": {"neuron": [3]}}
    with pytest.raises(InputError, match="qm_model/type_embedding"):
        build_model(section(qm_model=part))


def test_bad_regions(model):
    for value in (0.5, -2.0):
        with pytest.raises(InputError, match=rf"aparam: atom 3 is in region {value:g};"):
            model.expand(batch(np.where(np.arange(9) == 3, value, REGIONS)))
    some = batch()
    some.aparam = None
    with pytest.raises(InputError, match="needs the regions"):
        model.expand(some)
    with pytest.raises(NotAvailableError, match="second derivatives"):
        frame_hessian(model, prepare(model.expand(batch()), model.packings()))


# -- training -------------------------------------------------------------------------------------

OPTIMIZER = {"type": "Adam", "adam_beta1": 0.9, "adam_beta2": 0.999, "weight_decay": 0.0}


def labeled():
    rng = np.random.default_rng(2)
    return batch(
        labels={
            "energy": rng.normal(size=(2, 1)),
            "force": rng.normal(size=(18, 3)),
            "virial": rng.normal(size=(2, 9)),
        }
    )


def loss():
    prefactors = {f"{when}_pref_{t}": 1.0 for when in ("start", "limit") for t in "efv"}
    return EnergyLoss(1e-3, **prefactors)


def steps_of(kind, model):
    made = kind({"Default": copy.deepcopy(model)}, {"Default": loss()}, OPTIMIZER, StepOptions())
    figures = [made.step("Default", labeled(), 1e-3) for _ in range(2)]
    return figures, made.model("Default")


def test_the_loss_falls_along_its_gradient(model):
    step = NumPyTrainStep({"Default": model}, {"Default": loss()}, OPTIMIZER, StepOptions())
    _, grads = step.gradients("Default", labeled(), 1e-3)
    assert set(grads) == set(split(model)[0])
    name = next(k for k in grads if "type_embedding" in k)
    moved, h = step.parameters("Default"), 1e-6
    values = []
    for sign in (1.0, -1.0):
        kept = moved[name]
        moved[name] = kept + sign * h
        values.append(step.evaluate("Default", labeled(), 1e-3)["loss"])
        moved[name] = kept
    slope = (values[0] - values[1]) / (2 * h)
    np.testing.assert_allclose(slope, grads[name].sum(), rtol=1e-6)


@pytest.mark.parametrize(
    "place",
    [
        "pt:TorchTrainStep",
        pytest.param("jax:JaxTrainStep", marks=pytest.mark.slow),
        pytest.param("tf:TfTrainStep", marks=pytest.mark.slow),
    ],
)
def test_backends_take_the_same_steps(model, place):
    backend, _, name = place.partition(":")
    module = pytest.importorskip(f"deepmd.{backend}.train_step")
    want, trained = steps_of(NumPyTrainStep, model)
    got, other = steps_of(getattr(module, name), model)
    for mine, theirs in zip(want, got, strict=True):
        for key, value in mine.items():
            np.testing.assert_allclose(float(theirs[key]), value, rtol=1e-9, err_msg=key)
    assert len(embeddings(other)) == 1
    arrays = split(other)[0]
    for key, value in split(trained)[0].items():
        np.testing.assert_allclose(arrays[key], value, rtol=0, atol=1e-9, err_msg=key)
