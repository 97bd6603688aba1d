# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training on labels less the energy of charges on atoms and Wannier centroids."""

import copy
import shutil

import numpy as np
import pytest
from train.helpers import CONFIG, TYPES, same_checkpoints

from deepmd.base.errors import InputError
from deepmd.data.search import open_systems
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.infer import DeepPot
from deepmd.io import load_model, save_model
from deepmd.main import main
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.schema import normalize
from deepmd.schema.check import normalize_model
from deepmd.testing.systems import save_system
from deepmd.train.build import make_tasks
from deepmd.train.plan import make_plan


@pytest.fixture
def section(work):
    """Model section with a modifier, whose dipole model is in dipole.dp."""
    model = copy.deepcopy(CONFIG["model"])
    model["fitting_net"] |= {"type": "dipole", "sel_type": [0]}
    made = build_model(normalize_model(model))
    save_model("dipole.dp", {"model": made.serialize()})
    return {
        **copy.deepcopy(CONFIG["model"]),
        "modifier": {
            "type": "dipole_charge",
            "model_name": "dipole.dp",
            "model_charge_map": [-8.0],
            "sys_charge_map": [6.0, 1.0],
        },
    }


def test_labels_are_less_the_terms_everywhere(work, section):
    """In batches of the training, of validation and of statistics; the files stay as they are."""
    plan = make_plan(normalize({**work.config(), "model": section}))
    (task,) = make_tasks(plan).values()
    for data in (task.data, task.validation):
        batch, raw = data.load(0, [2, 0]), data.systems[0].load([2, 0], data.labels)
        terms = task.model.modifier.terms(batch)
        for name in ("energy", "force"):
            assert np.allclose(batch.labels[name], raw.labels[name] - terms[name], atol=1e-10)
            again = data.without_edges(0, [0]).labels[name]
            assert np.array_equal(again, data.load(0, [0]).labels[name])


def test_restart_is_exact_and_needs_the_file_no_more(work, section, run):
    config = {**work.config(numb_steps=6), "model": section}
    run(config)
    whole = read_checkpoint("model.ckpt-6.dp")
    (work.path / "dipole.dp").unlink()
    run(config, restart="model.ckpt-3.dp")
    same_checkpoints(read_checkpoint("model.ckpt-6.dp"), whole)
    assert whole.models["Default"].modifier.dipole.kinds() == ["dipole"]


def test_validation_compares_the_model_without_the_terms(work, section, run):
    """With its own predictions as labels, errors vanish only if both or none have the terms."""
    validating = {"full_validation": True, "validation_freq": 3, "full_val_start": 0.0}
    config = {**work.config(numb_steps=3), "model": section, "validating": validating}
    run(config)
    trained = read_checkpoint("model.ckpt-3.dp").models["Default"]
    (work.path / "model.ckpt-3.dp").unlink()
    data = open_systems(["c"], type_map=["A", "B"])[0]
    frame = data.load(range(data.nframes), [])
    frame.edges, frame.reach = batch_edges(frame, trained.rcut), trained.rcut
    out = NumPyEvaluator(trained).evaluate(frame)
    arrays = {
        "coord": frame.coord,
        "box": frame.cell,
        "energy": out["energy"],
        "force": out["force"],
    }
    shutil.rmtree("c")
    save_system(
        work.path / "c",
        TYPES,
        ["A", "B"],
        {k: v.reshape(data.nframes, -1) for k, v in arrays.items()},
    )
    run(config)
    energy, force = np.loadtxt("val.log")[[1, 3]]
    assert energy < 1e-8
    assert force < 1e-8


def test_frozen_model_has_the_terms_and_bias_is_fitted_without(work, section, run):
    run({**work.config(numb_steps=3), "model": section})
    main(["--dp", "freeze", "-c", ".", "-o", "frozen.dp"])
    potential, frames = DeepPot("frozen.dp"), np.load("c/set.000/coord.npy")
    box = np.load("c/set.000/box.npy")
    energy, _, virial = potential.eval(frames, box, list(TYPES))
    model = Model.deserialize(load_model("frozen.dp")["model"])
    bare = copy.deepcopy(model)
    bare.modifier = None
    parts = DeepPot.from_evaluator(NumPyEvaluator(bare)).eval(frames, box, list(TYPES))
    batch = Batch.from_arrays(frames.reshape(-1, 8, 3), box.reshape(-1, 3, 3), TYPES)
    terms = model.modifier.terms(batch)
    assert np.abs(terms["energy"]).min() > 0.1
    assert np.allclose(energy, parts[0] + terms["energy"], rtol=1e-12, atol=0)
    assert np.allclose(virial, parts[2] + terms["virial"], rtol=0, atol=1e-10)
    np.save("c/set.000/energy.npy", energy[:, 0] + 5.0)  # all frames have the same composition
    main(["--dp", "change-bias", "frozen.dp", "-s", "c", "-o", "changed.dp"])
    assert np.allclose(DeepPot("changed.dp").eval(frames, box, list(TYPES))[0], energy + 5.0)


def test_what_cannot_be_corrected_is_refused(work, section):
    spin = {"use_spin": [True, False], "virtual_scale": [0.3]}
    for change, error in (
        ({"spin": spin}, "model/modifier: a model with spins takes none"),
        ({"fitting_net": {"type": "dipole"}}, "model/modifier: is an energy, the model predicts"),
        ({"modifier": {**section["modifier"], "sys_charge_map": [1.0]}}, "sys_charge_map: has 1"),
        ({"modifier": {**section["modifier"], "ewald_h": 0.0}}, "ewald_h"),
        ({"modifier": {"type": "dipole_charges"}}, 'unknown modifier "dipole_charges"'),
    ):
        with pytest.raises(InputError, match=error):
            build_model(normalize_model({**section, **change}))
