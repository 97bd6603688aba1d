# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checkpoints: round trip, DeePMD-kit's own files, damaged files."""

import fractions
import json

import numpy as np
import pytest
from conftest import reference_path

torch = pytest.importorskip("torch")


from deepmd.base.errors import InputError, ModelFileError  # noqa: E402
from deepmd.dpmodel.batch import Batch  # noqa: E402
from deepmd.dpmodel.loss import EnergyLoss  # noqa: E402
from deepmd.dpmodel.model import build_model  # noqa: E402
from deepmd.dpmodel.module import split  # noqa: E402
from deepmd.dpmodel.neighbors import batch_edges  # noqa: E402
from deepmd.io import load_model  # noqa: E402
from deepmd.np.evaluator import NumPyEvaluator  # noqa: E402
from deepmd.pt.checkpoint.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from deepmd.pt.checkpoint.names import array_names, is_written, min_nbor_dist_name, state_of  # noqa: E402
from deepmd.pt.files import open_model  # noqa: E402
from deepmd.pt.train_step import TorchTrainStep  # noqa: E402
from deepmd.runtime.checkpoint import Checkpoint  # noqa: E402
from deepmd.runtime.step import StepOptions  # noqa: E402
from deepmd.testing.systems import randomize  # noqa: E402
from tests.members import MEMBERS  # noqa: E402
from tests.members import section as member_section  # noqa: E402
from tests.pt.models import batch, model, section  # noqa: E402


def _checkpoint(tasks=("Default",)):
    models = {t: model(type_one_side=k == 0) for k, t in enumerate(tasks)}
    energy = {"start_pref_e": 1.0, "limit_pref_e": 1.0, "start_pref_f": 0.0, "limit_pref_f": 0.0}
    losses = {t: EnergyLoss(1e-3, **energy) for t in tasks}
    step = TorchTrainStep(models, losses, {"type": "Adam"}, StepOptions())
    b = batch()
    b.labels, b.find = {"energy": np.ones((3, 1))}, {"energy": 1.0}
    for task in tasks:
        step.step(task, b, 1e-3)
        step.step(task, b, 1e-3)
    params = section() if len(tasks) == 1 else {"model_dict": {t: section() for t in tasks}}
    trainer = {
        "data.Default.cursor": np.arange(3),
        "rng": np.array([2**63 + 1, 5], dtype=np.uint64),
        "flag": np.array(True),
        "hash": "abc",
        "learning_rate": np.array(1e-4),
        "learning_rate.last": np.array(1e-3),
        "input": json.dumps(
            {"learning_rate": {"start_lr": 2e-3}, "optimizer": {"type": "Adam", "adam_beta1": 0.8}}
        ),
        "nothing": None,
    }
    return Checkpoint(
        models={t: step.model(t) for t in tasks},
        model_params=params,
        step=2,
        optimizer=step.state(),
        trainer=trainer,
        min_nbor_dist=0.8,
        backend="PyTorch",
    )


@pytest.mark.parametrize("tasks", [("Default",), ("one", "two")])
def test_round_trip(tasks, tmp_path):
    wanted = _checkpoint(tasks)
    write_checkpoint(tmp_path / "model.pt", wanted)
    found = read_checkpoint(tmp_path / "model.pt")
    assert list(found.models) == list(tasks)
    for task in tasks:
        np.testing.assert_equal(found.models[task].serialize(), wanted.models[task].serialize())
    np.testing.assert_equal(found.model_params, wanted.model_params)
    assert (found.step, found.min_nbor_dist, found.backend) == (2, 0.8, "PyTorch")
    assert set(found.optimizer) == set(wanted.optimizer)
    for part in ("optimizer", "trainer"):
        for key, value in getattr(wanted, part).items():
            again = getattr(found, part)[key]
            assert type(again) is type(value), key
            np.testing.assert_equal(again, value)
            assert getattr(again, "dtype", None) == getattr(value, "dtype", None)


def test_rates_are_stated(tmp_path):
    """Those of the last step and of the next, as DeePMD-kit states them."""
    write_checkpoint(tmp_path / "c.pt", _checkpoint())
    content = torch.load(tmp_path / "c.pt", weights_only=True)
    assert content["model"]["_extra_state"]["train_infos"] == {"lr": 1e-3, "step": 1}
    (group,) = content["optimizer"]["param_groups"]
    assert (group["lr"], group["initial_lr"], group["betas"]) == (1e-4, 2e-3, (0.8, 0.999))
    # PyTorch's own optimizer takes it, and has all it needs for a step.
    tensors = [torch.zeros(1, requires_grad=True) for _ in group["params"]]
    torch.optim.Adam(tensors).load_state_dict(content["optimizer"])


def test_the_frame_is_that_of_deepmd_kit(tmp_path, reference):
    write_checkpoint(tmp_path / "model.pt", _checkpoint())
    mine = torch.load(tmp_path / "model.pt", weights_only=True)
    theirs = torch.load(reference / "checkpoints" / "pt_single.pt", weights_only=True)
    assert list(mine) == ["model", "optimizer", "trainer"]
    assert set(mine["model"]["_extra_state"]) == set(theirs["model"]["_extra_state"])
    assert set(mine["model"]["_extra_state"]["train_infos"]) == {"lr", "step"}
    assert set(mine["optimizer"]) == set(theirs["optimizer"])
    # Both are one-sided energy models of two types with as many layers.
    assert set(mine["model"]) == set(theirs["model"])


@pytest.mark.parametrize("name", ["pt_single", "pt_multitask_waterA", "pt_multitask_waterB"])
def test_deepmd_kits_checkpoint(name, reference):
    manifest = json.loads((reference / "manifest.json").read_text())["checkpoints"]
    case = next(c for c in manifest if c["name"] == name)
    evaluator = open_model(reference / case["file"], case["head"])
    assert evaluator.min_nbor_dist is None  # that file does not know it
    stored, sets = np.load(reference / case["npz"]), case["sets"]
    for name, about in sets.items():
        coord, atype = stored[f"{name}/coord"], stored[f"{name}/atype"]
        n = len(atype)
        cell = stored[f"{name}/box"].reshape(-1, 3, 3) if "box" in about["inputs"] else None
        b = Batch.from_arrays(coord.reshape(-1, n, 3), cell, atype)
        b.edges = batch_edges(b, evaluator.model.rcut)
        found = evaluator.evaluate(
            b,
            derivatives=("force", "virial", "atom_virial"),
            extra=("descriptor", "fitting_last_layer"),
        )
        for key in about["outputs"]:
            expected = stored[f"{name}/out/{key}"]
            scale = max(np.abs(expected).max(), 0.01)
            assert np.abs(found[key].reshape(expected.shape) - expected).max() <= 1e-10 * scale


def test_the_head_is_needed_and_found(tmp_path):
    write_checkpoint(tmp_path / "model.pt", _checkpoint(("one", "two")))
    assert open_model(tmp_path / "model.pt", "two").model.type_map == ["O", "H"]
    with pytest.raises(InputError, match="one"):
        open_model(tmp_path / "model.pt")
    with pytest.raises(InputError, match="three"):
        open_model(tmp_path / "model.pt", "three")


@pytest.mark.parametrize("name", MEMBERS)
def test_every_array_finds_its_way_back(name, tmp_path):
    model = randomize(build_model(member_section(name, tmp_path)))
    data = model.serialize()
    state = state_of(data)
    places = array_names(data)
    assert len({n for names in places.values() for n in names}) == sum(map(len, places.values()))
    assert {n for at, names in places.items() if is_written(at) for n in names} <= set(state)
    write_checkpoint(tmp_path / "m.pt", Checkpoint({"Default": model}, {}))
    again = read_checkpoint(tmp_path / "m.pt").models["Default"].serialize()
    np.testing.assert_equal(again, data)


@pytest.mark.parametrize("name", ["dpa1_l0_concat", "dpa1_l2_smooth", "dipole_dpa1", "spin_dpa1"])
def test_names_are_those_of_deepmd_kit(name, reference):
    """Of models whose files can be opened without operations of DeePMD-kit."""
    data = load_model(reference_path(f"models/{name}.dp"))["model"]
    theirs = torch.jit.load(str(reference_path(f"models/{name}.pth"))).state_dict()
    assert set(state_of(data)) == set(theirs) - {min_nbor_dist_name(data)}


@pytest.mark.parametrize(
    ("member", "names"),
    {
        "se_e3_tebd": [
            "se_ttebd.mean",
            "se_ttebd.filter_layers.networks.0.layers.1.matrix",
            "se_ttebd.type_embd_data",
            "type_embedding.embedding.embedding_net.layers.0.matrix",
        ],
        "dpa2": [
            "repinit.stddev",
            "repinit.filter_layers._networks.0.layers.0.bias",
            "repinit.compress_info.0",
            "repformers.mean",
            "repformers.g2_embd.matrix",
            "repformers.layers.0.attn2g_map.mapqk.matrix",
            "repformers.layers.1.loc_attn.head_map.bias",
            "g1_shape_tranform.matrix",
        ],
        "dpa3": [
            "repflows.mean",
            "repflows.edge_embd.bias",
            "repflows.layers.1.node_self_mlp.matrix",
            "repflows.layers.0.n_residual.0",
        ],
    }.items(),
)
def test_names_inside_of_a_descriptor(member, names, tmp_path):
    """As in checkpoints that DeePMD-kit wrote for such models."""
    state = state_of(build_model(member_section(member, tmp_path)).serialize())
    assert {f"atomic_model.descriptor.{name}" for name in names} <= set(state)


@pytest.mark.parametrize(("member", "short"), [("zbl", False), ("linear_ener", True)])
def test_a_checkpoint_with_a_pair_table_but_without_its_file(member, short, tmp_path):
    """As DeePMD-kit writes it: splines of the whole table, and the name of a file far away."""
    given = member_section(member, tmp_path)
    table = tmp_path / "table.txt"
    if short:  # continued to the cutoff
        np.savetxt(table, np.loadtxt(table)[:-9])
    wanted = randomize(build_model(given))
    table.unlink()
    state = state_of(wanted.serialize(), "model.Default.")
    splines = state["model.Default.atomic_model.models.1.tab_data"]
    assert splines.shape == (2, 2, 39, 4)
    assert state["model.Default.atomic_model.models.1.tab_info"].tolist() == pytest.approx(
        [0.1, 0.1, 39, 2]
    )
    assert not [name for name in state if ".tab." in name or "vdata" in name]
    state["_extra_state"] = {"model_params": given, "train_infos": {"lr": 1e-3, "step": 1}}
    torch.save({"model": state}, tmp_path / "model.pt")
    found = read_checkpoint(tmp_path / "model.pt").models["Default"]
    b = batch()
    results = [NumPyEvaluator(m).evaluate(b, derivatives=("force",)) for m in (wanted, found)]
    for key in ("energy", "force"):
        assert np.abs(results[0][key]).max() > 0.1
        np.testing.assert_allclose(results[1][key], results[0][key], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MEMBERS)
def test_parameters_of_every_member_are_arrays_again(name, tmp_path):
    model = randomize(build_model(member_section(name, tmp_path)))
    write_checkpoint(tmp_path / "m.pt", Checkpoint({"Default": model}, {}))
    found = read_checkpoint(tmp_path / "m.pt").models["Default"]
    for here, there in zip(split(model), split(found), strict=True):
        assert set(here) == set(there)
        for key, value in here.items():
            np.testing.assert_array_equal(there[key], value)


def test_the_smallest_distance_of_a_model_with_spins(tmp_path):
    model = build_model(member_section("spin", tmp_path))
    write_checkpoint(tmp_path / "m.pt", Checkpoint({"Default": model}, {}, min_nbor_dist=0.7))
    stored = torch.load(tmp_path / "m.pt", weights_only=True)["model"]
    assert float(stored["model.Default.backbone_model.min_nbor_dist"]) == 0.7
    assert read_checkpoint(tmp_path / "m.pt").min_nbor_dist == 0.7


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_torn_file_says_so(share, tmp_path):
    path = tmp_path / "model.pt"
    write_checkpoint(path, _checkpoint())
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelFileError, match=r"incomplete|damaged"):
        read_checkpoint(path)


def test_other_files(tmp_path):
    with pytest.raises(ModelFileError, match="not found"):
        read_checkpoint(tmp_path / "none.pt")
    torch.save({"a": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(ModelFileError, match="no training checkpoint"):
        read_checkpoint(tmp_path / "other.pt")
    torch.save([1], tmp_path / "list.pt")
    with pytest.raises(ModelFileError, match="no state"):
        read_checkpoint(tmp_path / "list.pt")
    torch.save({"model": {"x": fractions.Fraction(1, 2)}}, tmp_path / "code.pt")
    with pytest.raises(ModelFileError, match="more than tensors"):
        read_checkpoint(tmp_path / "code.pt")


def test_a_missing_array_is_named(tmp_path, reference):
    content = torch.load(reference / "checkpoints" / "pt_single.pt", weights_only=True)
    for stem in ("networks", "_networks"):
        name = f"model.Default.atomic_model.fitting_net.filter_layers.{stem}.0.layers.0.bias"
        del content["model"][name]
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(ModelFileError, match=r"networks\.0\.layers\.0\.bias is missing"):
        read_checkpoint(tmp_path / "model.pt")


def test_a_checkpoint_is_converted_like_a_model_file(reference, tmp_path, monkeypatch):
    """``dp convert-backend model.ckpt.pt model.dp``."""
    from deepmd.infer import DeepPot
    from deepmd.main import main

    monkeypatch.chdir(tmp_path)
    source = reference / "checkpoints/pt_single.pt"
    main(["convert-backend", str(source), "model.dp"])
    args = (np.random.default_rng(0).normal(size=(1, 6, 3)) * 2, None, [0, 1, 1, 0, 1, 1])
    for ours, theirs in zip(
        DeepPot("model.dp").eval(*args), DeepPot(source).eval(*args), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)
