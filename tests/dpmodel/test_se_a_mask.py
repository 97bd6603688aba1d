# SPDX-License-Identifier: LGPL-3.0-or-later
"""The descriptor of whole frames, in which a mask hides atoms."""

import json

import numpy as np
import pytest

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.type_map import change_type_map
from deepmd.infer import DeepPot
from deepmd.runtime.chunks import partition
from deepmd.runtime.probes import model_file_dict
from deepmd.schema.check import normalize_model
from deepmd.schema.cross import check_model
from deepmd.testing.backends import SUFFIXES, evaluator, open_backend
from deepmd.testing.systems import gradient, randomize, save_system
from deepmd.train.entry import prepare

DESCRIPTOR = {"type": "se_a_mask", "sel": [4, 4], "neuron": [3, 6], "axis_neuron": 2, "seed": 1}
FITTING = {"neuron": [5], "numb_aparam": 1, "use_aparam_as_mask": True, "seed": 2}
BACKENDS = ("numpy", "torch", "jax", "tensorflow")
ATYPE = np.array([0, 1, 0, 1, 0, 1, 0])
MASK = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0])[:, None]


def section(**more):
    return {
        "type_map": ["O", "H"],
        "descriptor": {**DESCRIPTOR, **more},
        "fitting_net": dict(FITTING),
    }


def model_of(**more):
    return randomize(build_model(normalize_model(section(**more))))


def potential(model, backend="numpy"):
    return DeepPot.from_evaluator(evaluator(backend, model))


@pytest.fixture
def coord():
    grid = np.stack(np.meshgrid(*[[0.0, 2.0]] * 3, indexing="ij"), axis=-1).reshape(8, 3)[:7]
    return grid + np.random.default_rng(0).uniform(-0.3, 0.3, (7, 3))


def evaluate(potential, coord, mask=MASK, atype=ATYPE):
    """Energy, force, atomic energies."""
    out = potential.eval(coord[None], None, atype, aparam=mask[None], atomic=True)
    return out[0][0, 0], out[1][0], out[3][0, :, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_agree(backend, coord):
    model = model_of(exclude_types=[[1, 1]])
    for got, want in zip(
        evaluate(potential(model, backend), coord), evaluate(potential(model), coord), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=1e-12)


@pytest.mark.parametrize("one_side", [False, True])
def test_definition_by_loops(coord, one_side):
    model = model_of(type_one_side=one_side)
    nets = model.atomic_model.descriptor.embeddings.networks
    got = potential(model).eval_descriptor(coord[None], None, ATYPE, aparam=MASK[None])[0]
    for i, a in enumerate(ATYPE):
        t = np.zeros((6, 4))
        for j, b in enumerate(ATYPE):
            if i != j and MASK[i, 0] and MASK[j, 0]:
                d = coord[j] - coord[i]
                s = 1.0 / np.linalg.norm(d)
                g = nets[b if one_side else a + 2 * b](np.array([[s]]))[0]
                t += np.outer(g, [s, *(d * s * s)]) / 8
        np.testing.assert_allclose(got[i], (t @ t[:2].T).ravel(), atol=1e-14)


def test_forces_are_derivatives_and_hidden_atoms_have_none(coord):
    deep = potential(model_of())
    energy, force, atomic = evaluate(deep, coord)
    numeric = gradient(lambda xs: np.array([evaluate(deep, x)[0] for x in xs]), coord)
    np.testing.assert_allclose(force, -numeric, atol=1e-7)
    hidden = MASK[:, 0] == 0
    assert not force[hidden].any() and force[~hidden].any()
    elsewhere = coord + 3.0 * (1.0 - MASK)
    assert evaluate(deep, elsewhere)[0] == energy
    # They count with what the fitting gives for a descriptor of zeros.
    alone = evaluate(deep, coord, mask=0.0 * MASK)[2]
    np.testing.assert_allclose(atomic[hidden], alone[hidden], rtol=1e-14)


def test_all_atoms_see_each_other(coord):
    deep = potential(model_of())
    assert abs(evaluate(deep, 50.0 * coord)[1]).max() > 1e-9


@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_files_keep_the_model(backend, coord, tmp_path):
    model, one = model_of(), open_backend(backend)
    file = tmp_path / f"model{SUFFIXES[backend]}"
    one.deserialize_hook(file, model_file_dict(model, {}, None, one.name))
    for got, want in zip(
        evaluate(DeepPot(file), coord), evaluate(potential(model), coord), strict=True
    ):
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_types_change_places(coord):
    model = model_of(exclude_types=[[0, 0]])
    swapped = change_type_map(model, ["H", "O"])
    got = evaluate(potential(swapped), coord, atype=1 - ATYPE)
    np.testing.assert_allclose(got[0], evaluate(potential(model), coord)[0], rtol=1e-13)


def test_cells_are_refused(coord):
    with pytest.raises(InputError, match="give no cell"):
        potential(model_of()).eval(coord[None], 10.0 * np.eye(3)[None], ATYPE, aparam=MASK[None])


def test_a_mask_is_needed():
    given = section()
    given["fitting_net"]["use_aparam_as_mask"] = False
    given = normalize_model(given)
    with pytest.raises(InputError, match="takes aparam as a mask"):
        check_model(given)


def test_vectors_of_types_and_tables_are_refused():
    given = normalize_model({**section(), "type_embedding": {"neuron": [4]}})
    with pytest.raises(NotAvailableError, match="networks per type"):
        build_model(given)
    with pytest.raises(NotAvailableError, match="not tabulated"):
        model_of().atomic_model.compress(None)


def test_trainings_take_the_mask_from_the_data(coord, tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    arrays = {
        "coord": (coord + rng.uniform(-0.1, 0.1, (2, 7, 3))).reshape(2, -1),
        "energy": rng.normal(size=2),
        "force": rng.normal(size=(2, 21)),
        "aparam": np.tile(MASK[:, 0], (2, 1)),
    }
    save_system(tmp_path / "data", ATYPE, ["O", "H"], arrays)
    (tmp_path / "data" / "nopbc").touch()
    config = {
        "model": section(),
        "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 0.001},
        "loss": {"type": "ener"},
        "training": {
            **{"training_data": {"systems": ["data"], "batch_size": 1}, "numb_steps": 2},
            **{"disp_freq": 1, "save_freq": 2, "seed": 1},
        },
    }
    (tmp_path / "input.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    curves = []
    for backend in ("numpy", "torch"):
        prepare(INPUT="input.json", backend=open_backend(backend)).run()
        curves.append(np.loadtxt("lcurve.out"))
    assert curves[0].shape[0] == 2 and np.isfinite(curves[0]).all()
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-6)


def test_frames_are_not_divided(coord):
    """Masks of neighbors belong to other centers, which a chunk would not have."""
    model = model_of()
    batch = Batch.from_arrays(coord[None], None, ATYPE, aparam=MASK)
    batch.edges = batch_edges(batch, model.rcut)
    assert len([*partition(model, batch, max_edges=5)]) == 1
