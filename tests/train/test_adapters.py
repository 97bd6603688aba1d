# SPDX-License-Identifier: LGPL-3.0-or-later
"""Low-rank adapters: no effect at first, nothing else is trained, folded in files, exact restarts."""

import importlib
from pathlib import Path

import members
import numpy as np
import pytest
from train.helpers import NumPyBackend, QuickBackend, same_checkpoints

from deepmd.backend.backend import Backend
from deepmd.base.errors import InputError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import EnergyLoss
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.module import modules, split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.low_rank import LowRank
from deepmd.io.files import SINGLE
from deepmd.io.tree import difference
from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.runtime.evaluator import Evaluator
from deepmd.runtime.step import StepOptions
from deepmd.train.adapters import attach

#: Every way in which a descriptor uses its layers.
NAMES = ("se_e2_a", "se_atten", "se_atten_v2", "dpa2", "dpa3", "se_e3_tebd", "hybrid", "zbl")


def batch_of(seed=0):
    coord = np.array([[[0.0, 0, 0], [1.2, 0, 0], [0, 1.2, 0], [1.2, 1.3, 0.5]]] * 2)
    coord += 0.1 * np.random.default_rng(seed).random(coord.shape)
    batch = Batch.from_arrays(coord, None, [0, 1, 1, 0])
    batch.edges = batch_edges(batch, 4.0)
    batch.labels, batch.find = {"energy": np.ones((2, 1))}, {"energy": 1.0}
    return batch


def energy(model):
    return Evaluator(model).evaluate(batch_of(), derivatives=())["energy"]


def adapted(name, folder, **settings):
    model = build_model(members.section(name, folder))
    attach(model, **{"rank": 2, "seed": 0, **settings})
    return model


def disturb(model):
    """Give all factors numbers."""
    rng = np.random.default_rng(3)
    for node in modules(model):
        if isinstance(node, LowRank):
            node.b = 0.3 * rng.normal(size=node.b.shape)


@pytest.mark.parametrize("name", NAMES)
def test_no_effect_at_first_and_folded_the_same(name, tmp_path):
    plain = build_model(members.section(name, tmp_path))
    model = adapted(name, tmp_path)
    np.testing.assert_array_equal(energy(model), energy(plain))
    assert difference(plain.serialize(), model.serialize()) is None
    disturb(model)
    assert np.abs(energy(model) - energy(plain)).max() > 1e-6
    folded = Model.deserialize(model.serialize())
    assert not any(isinstance(node, LowRank) for node in modules(folded))
    np.testing.assert_allclose(energy(folded), energy(model), rtol=0, atol=1e-12)


def test_only_factors_are_trained(tmp_path):
    trained = split(adapted("dpa2", tmp_path))[0]
    assert trained
    assert {path.split(".")[-2] for path in trained} == {"adapter"}
    assert {path.split(".")[-1] for path in trained} == {"a", "b"}
    only = split(adapted("se_e2_a", tmp_path, parts=("fitting",)))[0]
    assert all("fitting" in path for path in only)
    whole = split(adapted("se_e2_a", tmp_path, whole=("fitting",)))[0]
    assert any(path.endswith("w") and "fitting" in path for path in whole)
    assert not any("fitting" in path and "adapter" in path for path in whole)


def test_rank_and_scale(tmp_path):
    model = adapted("se_e2_a", tmp_path, rank=3, alpha=1.5)
    layers = [n for n in modules(model) if isinstance(n, Dense)]
    assert {n.adapter.a.shape[1] for n in layers} == {1, 3}  # at most the smaller size
    assert {float(n.adapter.scale) for n in layers} == {0.5}


STEPS = {
    "numpy": ("autograd", "deepmd.np.train_step", "NumPyTrainStep"),
    "torch": ("torch", "deepmd.pt.train_step", "TorchTrainStep"),
    "jax": ("jax", "deepmd.jax.train_step", "JaxTrainStep"),
    "tensorflow": ("tensorflow", "deepmd.tf.train_step", "TfTrainStep"),
}


def one_step(backend, folder):
    package, module, kind = STEPS[backend]
    pytest.importorskip(package)
    step = getattr(importlib.import_module(module), kind)
    model = adapted("se_e2_a", folder)
    disturb(model)
    prefactors = {
        "start_pref_e": 1.0,
        "limit_pref_e": 1.0,
        "start_pref_f": 0.0,
        "limit_pref_f": 0.0,
    }
    loss = EnergyLoss(1e-3, **prefactors)
    widths = {SINGLE: model.get_sel()}
    made = step({SINGLE: model}, {SINGLE: loss}, {"type": "Adam"}, StepOptions(widths=widths))
    made.step(SINGLE, batch_of(), 1e-3)
    return model, made.model(SINGLE)


@pytest.mark.parametrize("backend", [b for b in STEPS if b != "numpy"])
def test_every_backend_takes_the_same_step(backend, tmp_path, request):
    quick = {"jax": "quick_programs", "tensorflow": "eager_functions"}
    if backend in quick:
        request.getfixturevalue(quick[backend])
    before, want = one_step("numpy", tmp_path)
    _, found = one_step(backend, tmp_path)
    for mine, theirs, old in zip(split(found), split(want), split(before), strict=True):
        assert mine.keys() == theirs.keys()
        for path, x in mine.items():
            np.testing.assert_allclose(x, theirs[path], rtol=0, atol=1e-9, err_msg=path)
            assert np.array_equal(x, old[path]) == (not path.endswith(("adapter.a", "adapter.b")))


# -- trainings ------------------------------------------------------------------------------------


@pytest.fixture
def base(work, run):
    """A trained model, and the input of a training that adapts it."""
    config = work.config(validation_data=None, numb_steps=1, save_ckpt="base")
    run(config, backend=QuickBackend())
    config = work.config(validation_data=None, numb_steps=2)
    config["training"]["lora"] = {"rank": 2, "alpha": 4.0}
    return config


def test_files_hold_the_folded_model(base, run):
    trainer = run(base, backend=NumPyBackend(), finetune="base.dp")
    stored = read_checkpoint("model.ckpt.dp").models[SINGLE]
    model = trainer.stepper.model(SINGLE)
    assert any(isinstance(node, LowRank) for node in modules(model))
    assert difference(stored.serialize(), model.serialize()) is None
    first = read_checkpoint("base.dp").models[SINGLE]
    changed = [k for k, x in split(stored)[0].items() if not np.array_equal(x, split(first)[0][k])]
    assert changed
    assert all(path.endswith(".w") for path in changed)


@pytest.mark.parametrize("name", ["numpy", "pytorch"])
def test_a_restart_is_exact(name, base, run):
    if name == "pytorch":
        pytest.importorskip("torch")
    backend = Backend.get_backend(name)()

    def stored():
        return backend.read_checkpoint(Path(f"model.ckpt-2{backend.checkpoint_suffix}"))

    run(base, backend=backend, finetune="base.dp")
    whole = stored()
    base["training"]["numb_steps"] = 1
    run(base, backend=backend, finetune="base.dp")
    base["training"]["numb_steps"] = 2
    run(base, backend=backend, restart="model.ckpt")
    again = stored()
    for checkpoint in (whole, again):
        del checkpoint.trainer["input"]
    same_checkpoints(whole, again)


def test_a_new_fitting_is_trained_whole(base, work):
    trainer = work.prepare(base, backend=QuickBackend(), finetune="base.dp", model_branch="RANDOM")
    trained = split(trainer.tasks[SINGLE].model)[0]
    assert any("fitting" in path for path in trained)
    assert all("adapter" in path for path in trained if "descriptor" in path)


def test_refusals(base, work, run):
    with pytest.raises(InputError, match="there is none"):
        work.prepare(base, backend=QuickBackend())
    with pytest.raises(InputError, match="was without adapters"):
        work.prepare(base, backend=QuickBackend(), restart="base")
    for part in ("descriptor", "fitting_net"):
        base["model"][part]["trainable"] = False
    with pytest.raises(InputError, match="nothing would be trained"):
        work.prepare(base, backend=QuickBackend(), finetune="base.dp")
