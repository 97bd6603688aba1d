# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training of models with spins, from the input to a restart, on every backend."""

import numpy as np
import pytest
from train.helpers import TYPES, same_checkpoints, write_system

from deepmd.backend.backend import Backend
from deepmd.base.errors import DataError
from deepmd.dpmodel.model import SpinModel
from deepmd.dpmodel.module import split
from deepmd.schema import normalize
from deepmd.train.build import make_tasks, set_all_statistics
from deepmd.train.nan_guard import Taken, batch_arrays
from deepmd.train.plan import make_plan
from deepmd.train.statistics import Sample, table_widths

BACKENDS = {
    "dpmodel": ["autograd"],
    "jax": ["jax", "optax"],
    "pytorch": ["torch"],
    "tensorflow": ["tensorflow"],
}


def spins(seed, frames):
    rng = np.random.default_rng(seed)
    magnetic = np.array(TYPES)[:, None] == 0
    return {
        "spin": (rng.normal(size=(frames, 8, 3)) * magnetic).reshape(frames, -1),
        "force_mag": (0.1 * rng.normal(size=(frames, 8, 3)) * magnetic).reshape(frames, -1),
    }


@pytest.fixture
def magnetic(work):
    for name, seed, frames in (("ma", 1, 6), ("mb", 2, 3), ("mc", 3, 4)):
        write_system(work.path / name, seed=seed, frames=frames, **spins(seed, frames))
    return work


def spin_config(work, **training):
    given = {"numb_steps": 4, "save_freq": 1, "disp_freq": 1, **training}
    config = work.config(**given)
    config["training"]["training_data"]["systems"] = ["ma", "mb"]
    config["training"]["validation_data"]["systems"] = ["mc"]
    config["model"]["descriptor"] |= {"type_one_side": True, "neuron": [2], "sel": [60, 60]}
    config["model"]["fitting_net"]["neuron"] = [3]
    config["model"]["spin"] = {"use_spin": ["A"], "virtual_scale": [0.3]}
    config["loss"] = {"type": "ener_spin", "start_pref_fr": 10, "start_pref_fm": 10}
    return config


def backend_named(name):
    for module in BACKENDS[name]:
        pytest.importorskip(module)
    return Backend.get_backend(name)()


@pytest.mark.parametrize("name", list(BACKENDS))
def test_steps_and_a_restart(magnetic, run, name, request):
    if name == "jax":
        request.getfixturevalue("quick_programs")
    backend, reference = backend_named(name), backend_named("dpmodel")
    config = spin_config(magnetic)
    run(config, backend=backend)
    suffix = backend.checkpoint_suffix
    whole = backend.read_checkpoint(magnetic.path / f"model.ckpt-4{suffix}")
    rows = np.loadtxt("lcurve.out")
    header = (magnetic.path / "lcurve.out").read_text()
    assert "rmse_fm_val" in header
    assert "rmse_fr_trn" in header
    assert np.isfinite(rows).all()
    run(restart=f"model.ckpt-2{suffix}", config=config, backend=backend)
    same_checkpoints(backend.read_checkpoint(magnetic.path / f"model.ckpt-4{suffix}"), whole)
    if name != "dpmodel":
        (magnetic.path / "lcurve.out").unlink()
        run(config, backend=reference)
        np.testing.assert_allclose(rows, np.loadtxt("lcurve.out"), rtol=2e-2)
        other = reference.read_checkpoint(magnetic.path / "model.ckpt-4.dp").models["Default"]
        expected, found = split(other)[0], split(whole.models["Default"])[0]
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-8, err_msg=key)


def test_statistics_are_those_of_atoms_and_partners(magnetic):
    trainer = magnetic.prepare(spin_config(magnetic, numb_steps=0))
    task = trainer.tasks["Default"]
    model = task.model
    assert isinstance(model, SpinModel)
    whole = [model.expand(b, all_centers=True) for b in Sample(task.data, 10).batches()]
    descriptor = SpinModel.deserialize(model.serialize()).atomic_model.descriptor
    sums = None
    for batch in whole:
        more = descriptor.environment_sums(batch)
        sums = more if sums is None else {k: v + more[k] for k, v in sums.items()}
    descriptor.set_statistics(sums)
    np.testing.assert_allclose(model.atomic_model.descriptor.davg, descriptor.davg, atol=1e-14)
    np.testing.assert_allclose(model.atomic_model.descriptor.dstd, descriptor.dstd, atol=1e-14)
    # The partners of A have surroundings of their own; there is no bias of partners.
    assert not np.allclose(descriptor.dstd[2], descriptor.dstd[0])
    bias = model.atomic_model.out_bias[0, :, 0]
    assert np.abs(bias[:2]).min() > 0.1
    assert not bias[2:].any()


def test_the_cache_of_statistics_is_used(magnetic):
    found = []
    for mode in ("update", "read"):
        config = spin_config(magnetic, stat_file="stat", stat_file_mode=mode)
        plan = make_plan(normalize(config))
        tasks = make_tasks(plan)
        if mode == "read":
            tasks["Default"].data.load = None  # nothing is to be read again
        set_all_statistics(plan, tasks)
        found.append(tasks["Default"].model.atomic_model.descriptor)
    assert np.array_equal(found[0].davg, found[1].davg)
    assert np.array_equal(found[0].dstd, found[1].dstd)


def test_widths_hold_the_partners(magnetic):
    trainer = magnetic.prepare(spin_config(magnetic, numb_steps=0))
    task = trainer.tasks["Default"]
    widths = table_widths(task.model, Sample(task.data, 10).batches())
    assert len(widths) == 4
    assert widths[2] >= widths[0] > 0  # partners of A are neighbors where A is, and of it


def test_data_without_spins(magnetic):
    config = spin_config(magnetic)
    config["training"]["training_data"]["systems"] = ["a"]
    with pytest.raises(DataError, match=r"spin\.npy"):
        magnetic.prepare(config)


def test_the_guard_writes_spins_down(magnetic):
    """A batch that broke the training can be evaluated again."""
    trainer = magnetic.prepare(spin_config(magnetic))
    data = trainer.tasks["Default"].data
    before = data.state()
    batch = data.next()
    arrays = batch_arrays(Taken(1, "Default", batch, 0.0, data, before))
    assert np.array_equal(arrays["spin"], batch.spin)
    assert arrays["spin"].any()


def test_no_pairs_are_searched_in_a_step(magnetic, run, monkeypatch):
    trainer = magnetic.prepare(spin_config(magnetic), backend=backend_named("dpmodel"))
    monkeypatch.setattr("deepmd.dpmodel.model.spin.batch_edges", None)
    assert trainer.run().step == 4


def test_neighbors_of_virtual_atoms_are_counted(magnetic):
    config = spin_config(magnetic)
    config["model"]["descriptor"]["sel"] = "auto:1.0"
    trainer = magnetic.prepare(config, backend=backend_named("dpmodel"))
    task = trainer.tasks["Default"]
    most = np.zeros(4, dtype=int)
    for batch in Sample(task.data, 100, model=task.model).batches():
        counts = np.zeros((batch.n_atoms, 4), dtype=int)
        np.add.at(counts, (batch.edges.i, batch.atype[batch.edges.j]), 1)
        most = np.maximum(most, counts.max(axis=0))
    sel = task.model.get_sel()
    assert sel[:2] == sel[2:]
    # Hidden partners of the second type may be left out of the list of pairs, but count.
    assert sel[0] == 4 * -(-max(most[0], most[2]) // 4)
    assert sel[1] >= most[1] and sel[1] % 4 == 0
