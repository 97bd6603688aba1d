# SPDX-License-Identifier: LGPL-3.0-or-later
"""Multi-task trainings: what branches share, their statistics, checkpoints, restarts."""

import json

import h5py
import numpy as np
import pytest
from train.helpers import QuickBackend, same_checkpoints, two_branches

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.module import split
from deepmd.io.files import branch_params
from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.train.build import count_steps
from deepmd.train.start import differing_keys

DPA1 = {
    "type": "se_atten",
    "sel": 20,
    "rcut": 3.5,
    "rcut_smth": 2.0,
    "neuron": [2, 4],
    "axis_neuron": 2,
    "attn_layer": 0,
    "tebd_dim": 3,
    "set_davg_zero": False,
}


def atomic(trainer, name):
    return trainer.tasks[name].model.atomic_model


def quick(work, config=None, **options):
    return work.prepare(config or two_branches(), backend=QuickBackend(), **options)


def arrays(node):
    return {k: v for part in split(node) for k, v in part.items()}


# -- sharing --------------------------------------------------------------------------------------


def test_shared_parts_are_one(work):
    trainer = quick(work)
    ice, gas = atomic(trainer, "ice"), atomic(trainer, "gas")
    assert ice.descriptor is gas.descriptor
    assert ice.fitting.nets is gas.fitting.nets
    assert not np.array_equal(ice.out_bias, gas.out_bias)
    # In the order of the sorted names, whatever that in the input is.
    np.testing.assert_array_equal(gas.fitting.case_embd, [1.0, 0.0])
    np.testing.assert_array_equal(ice.fitting.case_embd, [0.0, 1.0])


def test_sharing_goes_on_in_steps_and_in_files(work):
    quick(work).run()
    models = read_checkpoint("model.ckpt-6.dp").models
    one, two = (arrays(m.atomic_model.descriptor) for m in models.values())
    assert all(np.array_equal(one[k], two[k]) for k in one)
    first = read_checkpoint("model.ckpt-3.dp").models["ice"]
    assert any(
        not np.array_equal(v, one[k]) for k, v in arrays(first.atomic_model.descriptor).items()
    )
    # Shared arrays, and their moments, are stored once.
    with h5py.File("model.ckpt-6.dp") as file:
        tree = json.loads(file.attrs["json"])["models"]
        places = [tree[k]["descriptor"]["@variables"] for k in ("ice", "gas")]
        assert places[0] == places[1]
        about = json.loads(file["training"].attrs["json"])["optimizer"]
        path = "first.atomic_model.descriptor.embeddings.networks.0.layers.0.w"
        assert about[f"ice/{path}"] == about[f"gas/{path}"]


def test_level_1_shares_type_embeddings(work):
    config = two_branches({"neuron": [4]})
    config["model"]["shared_dict"]["des"] = DPA1
    config["model"]["model_dict"]["ice"]["descriptor"] = "des:1"
    trainer = quick(work, config)
    ice, gas = (atomic(trainer, name).descriptor for name in ("ice", "gas"))
    assert ice is not gas
    assert ice.type_embedding is gas.type_embedding
    assert not np.array_equal(ice.davg, gas.davg)
    alone = two_branches({"neuron": [4]})
    alone["model"]["shared_dict"]["des"] = DPA1
    alone["model"]["model_dict"]["gas"]["descriptor"] = DPA1
    np.testing.assert_array_equal(atomic(quick(work, alone), "ice").descriptor.davg, ice.davg)


def test_elements_of_hybrids_are_shared(work):
    own = {"type": "se_e2_r", "sel": [20, 30], "rcut": 3.0, "rcut_smth": 2.0, "neuron": [2]}
    config = two_branches({"neuron": [4]})
    for branch in config["model"]["model_dict"].values():
        branch["descriptor"] = {"type": "hybrid", "list": [own, "des"]}
    config["model"]["model_dict"]["gas"]["descriptor"]["list"].reverse()
    trainer = quick(work, config)
    ice, gas = (atomic(trainer, name).descriptor.list for name in ("ice", "gas"))
    assert ice[1] is gas[0]
    assert not np.array_equal(ice[0].davg, gas[1].davg)
    trainer.run()
    models = read_checkpoint("model.ckpt-6.dp").models
    one, two = (m.atomic_model.descriptor.list for m in models.values())
    assert all(np.array_equal(v, arrays(two[0])[k]) for k, v in arrays(one[1]).items())


REFUSED = [
    ("gas/descriptor", "des:1", "se_e2_a has no level 1 of sharing; known levels: 0"),
    ("gas/fitting_net", "fit:1", 'a fitting has no levels; write "fit"'),
    ("gas/type_map", ["B", "A"], "are not those of branch ice"),
    ("gas/descriptor", {**DPA1, "seed": 1}, '"fit" has other shapes here than in branch ice'),
]


@pytest.mark.parametrize(("place", "value", "what"), REFUSED)
def test_what_cannot_be_shared(work, place, value, what):
    config = two_branches()
    branch, key = place.split("/")
    config["model"]["model_dict"][branch][key] = value
    with pytest.raises(InputError) as caught:
        quick(work, config)
    assert what in str(caught.value)
    assert str(caught.value).startswith("model/model_dict/gas/")
    assert not list(work.path.glob("out.json"))


def test_branches_that_share_nothing_may_have_their_own_types(work):
    config = two_branches({"neuron": [4]})
    descriptor = config["model"]["shared_dict"]["des"]
    config["model"]["model_dict"]["gas"] |= {"type_map": ["B", "A"], "descriptor": descriptor}
    trainer = quick(work, config)
    assert [t.model.get_type_map() for t in trainer.tasks.values()] == [["A", "B"], ["B", "A"]]


# -- statistics -----------------------------------------------------------------------------------


def test_statistics_of_shared_parts_are_those_of_all_data(work):
    """Environments count as often as they occur, parameters with the weights of the branches."""
    rng = np.random.default_rng(1)
    for name, frames, shift in (("a", 6, 0.0), ("b", 3, 2.0)):
        np.save(work.path / name / "set.000/fparam.npy", shift + rng.normal(size=(frames, 1)))
    config = two_branches()
    config["model"]["shared_dict"]["fit"]["numb_fparam"] = 1
    for name, data in config["training"]["data_dict"].items():
        data["stat_file"] = f"stat_{name}"
        data.pop("validation_data", None)
    trainer = quick(work, config)
    kept = {name: work.path / f"stat_{name}" / "A B" for name in trainer.tasks}
    sums = {name: next(path.glob("*/r_1")) for name, path in kept.items()}
    n, total, squares = sum(np.load(path) for path in sums.values())
    descriptor = atomic(trainer, "gas").descriptor
    np.testing.assert_allclose(descriptor.davg[1, 0], total / n, rtol=1e-12)
    spread = np.sqrt(squares / n - (total / n) ** 2)
    np.testing.assert_allclose(descriptor.dstd[1, 0], spread, rtol=1e-12)

    n, total, squares = (
        0.7 * np.load(kept["ice"] / "fparam") + 0.3 * np.load(kept["gas"] / "fparam")
    ).T
    for name in ("ice", "gas"):
        fitting = atomic(trainer, name).fitting
        np.testing.assert_allclose(fitting.fparam_avg, total / n, rtol=1e-12)
        spread = np.sqrt(squares / n - (total / n) ** 2)
        np.testing.assert_allclose(fitting.fparam_inv_std, 1.0 / spread, rtol=1e-12)
    # From the caches, in mode "read".
    for data in config["training"]["data_dict"].values():
        data["stat_file_mode"] = "read"
    again = quick(work, config)
    one, two = (arrays(t.tasks["ice"].model) for t in (trainer, again))
    assert all(np.array_equal(v, two[k]) for k, v in one.items())


def test_automatic_numbers_of_neighbors_serve_all_branches(work):
    wide = np.tile((7.0 * np.eye(3)).ravel(), (6, 1))
    np.save(work.path / "a/set.000/box.npy", wide)  # fewer neighbors
    alone = {}
    for system in ("a", "b"):
        config = work.config(training_data={"systems": [system]}, validation_data=None)
        config["model"]["descriptor"]["sel"] = "auto"
        alone[system] = quick(work, config).tasks["Default"].model.get_sel()
    assert alone["a"] != alone["b"]
    config = two_branches()
    config["model"]["shared_dict"]["des"]["sel"] = "auto"
    trainer = quick(work, config)
    want = [max(pair) for pair in zip(*alone.values(), strict=True)]
    assert all(task.model.get_sel() == want for task in trainer.tasks.values())
    assert (
        json.loads((work.path / "out.json").read_text())["model"]["shared_dict"]["des"]["sel"]
        == want
    )


# -- the run --------------------------------------------------------------------------------------


def test_columns_and_rows_of_every_branch(work, caplog):
    quick(work).run()
    lines = (work.path / "lcurve.out").read_text().splitlines()
    assert lines[0].split() == [
        *"# step rmse_val_ice rmse_trn_ice rmse_e_val_ice rmse_e_trn_ice".split(),
        *"rmse_f_val_ice rmse_f_trn_ice rmse_trn_gas rmse_e_trn_gas rmse_f_trn_gas lr".split(),
    ]
    assert np.isfinite(np.loadtxt("lcurve.out")).all()
    for kind in ("ice_trn", "ice_val", "gas_trn"):
        assert f"Batch      1: {kind}: rmse = " in caplog.text


def test_written_inputs(work):
    """out.json names shared parts, so that it can be used again; checkpoints hold whole sections."""
    quick(work).run()
    text = (work.path / "out.json").read_text()
    written = json.loads(text)["model"]
    assert written["model_dict"]["gas"]["descriptor"] == "des"
    assert written["model_dict"]["gas"]["info"]["observed_type"] == ["A", "B"]
    params = read_checkpoint("model.ckpt-6.dp").model_params
    section = branch_params(params, "gas")
    assert section["descriptor"] == written["shared_dict"]["des"]
    trainer = quick(work, json.loads(text))
    assert not differing_keys(json.loads(text), json.loads((work.path / "out.json").read_text()))
    assert atomic(trainer, "ice").descriptor is atomic(trainer, "gas").descriptor


def test_a_restart_continues(work):
    quick(work).run()
    whole, rows = read_checkpoint("model.ckpt-6.dp"), (work.path / "lcurve.out").read_text()
    (work.path / "model.ckpt-6.dp").unlink()
    trainer = quick(work, restart="model.ckpt-3.dp")
    assert atomic(trainer, "ice").descriptor is atomic(trainer, "gas").descriptor
    trainer.run()
    same_checkpoints(whole, read_checkpoint("model.ckpt-6.dp"))
    assert (work.path / "lcurve.out").read_text() == rows


def test_a_start_from_branches_that_differ_in_what_is_shared(work, caplog):
    config = two_branches()
    own = config["model"]["shared_dict"]["des"]
    config["model"]["model_dict"]["gas"]["descriptor"] = own
    quick(work, config).run()
    with pytest.raises(ModelFileError, match="ice and gas share atomic_model"):
        quick(work, init_model="model.ckpt-6.dp")
    quick(work, init_model="model.ckpt-6.dp", force_load=True)
    more = two_branches()
    for node in (more["model"]["model_dict"], more["training"]["data_dict"]):
        node["steam"] = node.pop("gas")
    more["training"].pop("model_prob")
    with pytest.raises(ModelFileError, match='no branch "steam", but ice, gas'):
        quick(work, more, init_model="model.ckpt-6.dp")


def test_weights_and_lengths(work):
    config = two_branches()
    trainer = quick(work, config)
    assert [t.weight for t in trainer.tasks.values()] == [0.7, 0.3]
    config["training"].pop("model_prob")
    assert [t.weight for t in quick(work, config).tasks.values()] == [1.0, 1.0]
    config["training"] |= {"num_epoch_dict": {"ice": 1.5, "gas": 2.0}}
    config["training"].pop("numb_steps")
    trainer = quick(work, config)
    assert [t.weight for t in trainer.tasks.values()] == [1.5 * 6, 2.0 * 3]
    assert trainer.numb_steps == count_steps(trainer.training, trainer.tasks) == 15
