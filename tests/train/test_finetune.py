# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fine-tuning: one test per rule, and the numbers of DeePMD-kit."""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import COMPACT
from train.helpers import QuickBackend, two_branches

from deepmd.backend.backend import Backend
from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.module import split
from deepmd.io import load_model, save_model
from deepmd.io.files import SINGLE
from deepmd.io.tree import difference
from deepmd.main import main
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.checkpoint_file import read_checkpoint, write_checkpoint
from deepmd.schema.check import normalize_model
from deepmd.train.finetune import Part, adjust_bias, set_new_statistics, take_pretrained
from deepmd.train.pretrained import RANDOM, Rule, make_rules, read_pretrained
from deepmd.train.statistics import Sample

TEBD = {
    "type": "se_atten",
    "sel": 30,
    "rcut": 3.5,
    "rcut_smth": 2.0,
    "neuron": [2, 4],
    "axis_neuron": 2,
    "attn_layer": 0,
    "tebd_dim": 3,
}


def section_for(types=("A", "B"), seed=5, **more):
    return normalize_model(
        {
            "type_map": list(types),
            "descriptor": {**TEBD, "seed": seed},
            "fitting_net": {"neuron": [4, 4], "seed": seed},
            **more,
        }
    )


def pretrained(types=("A", "B"), branches=(SINGLE,), **more):
    """Models of random parameters with biases of their own."""
    models, sections = {}, {}
    for k, name in enumerate(branches):
        sections[name] = section_for(types, seed=10 + k, **more)
        models[name] = model = build_model(sections[name])
        model.atomic_model.out_bias[:] = 1.0 + k
        model.atomic_model.descriptor.dstd *= 2.0 + k
    params = sections.get(SINGLE, {"model_dict": sections})
    return Checkpoint(models, params)


@pytest.fixture
def saved(work):
    """Write a pre-trained model: ``saved(checkpoint)``."""

    def save(checkpoint):
        write_checkpoint("pretrained.dp", checkpoint)
        return "pretrained.dp"

    return save


def config(work, types=("A", "B"), **model):
    out = work.config(validation_data=None, numb_steps=1)
    out["model"] = {
        "type_map": list(types),
        "descriptor": {**TEBD, "seed": 1},
        "fitting_net": {"neuron": [4, 4], "seed": 1},
        **model,
    }
    return out


def started(work, path, given, **options):
    """Return the model that a fine-tuning begins with."""
    options.setdefault("backend", QuickBackend())
    trainer = work.prepare(given, finetune=path, skip_neighbor_stat=True, **options)
    return trainer.tasks[SINGLE].model


def arrays(model, part):
    return {
        path: x
        for half in split(model)
        for path, x in half.items()
        if part in path.split(".") and not path.endswith(("out_bias", "out_std"))
    }


def same(a, b, part):
    x, y = arrays(a, part), arrays(b, part)
    return x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x)


# -- which branch, which fitting ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("branches", "head", "rule"),
    [
        ((SINGLE,), "", Rule(SINGLE)),
        ((SINGLE,), SINGLE, Rule(SINGLE)),
        ((SINGLE,), RANDOM, Rule(SINGLE, renewed=True)),
        (("P", "Q"), "", Rule("P", renewed=True)),
        (("P", "Q"), RANDOM, Rule("P", renewed=True)),
        (("P", "Q"), "Q", Rule("Q")),
    ],
)
def test_rule_of_a_single_task(branches, head, rule):
    assert make_rules({}, pretrained(branches=branches), head) == {SINGLE: rule}
    if head:
        assert make_rules({"finetune_head": head}, pretrained(branches=branches)) == {SINGLE: rule}


def test_an_alias_names_a_branch():
    known = pretrained(branches=("P", "Q"), model_branch_alias=["other"])
    assert make_rules({}, known, "other") == {SINGLE: Rule("P")}


@pytest.mark.parametrize("branches", [(SINGLE,), ("P", "Q")])
def test_another_name_is_an_error(branches):
    with pytest.raises(InputError, match='no branch "R"'):
        make_rules({}, pretrained(branches=branches), "R")


def test_two_heads_are_an_error():
    with pytest.raises(InputError, match="keep one"):
        make_rules({"finetune_head": "P"}, pretrained(branches=("P", "Q")), "Q")


def test_rules_of_several_tasks():
    model = {
        "model_dict": {
            "P": {},
            "new": {},
            "R": {"finetune_head": RANDOM},
            "mine": {"finetune_head": "Q"},
        }
    }
    assert make_rules(model, pretrained(branches=("P", "Q"))) == {
        "P": Rule("P", resumed=True),
        "new": Rule("P", renewed=True),
        "R": Rule("P", renewed=True),
        "mine": Rule("Q"),
    }


def test_several_tasks_refuse_a_branch_of_the_command_line():
    with pytest.raises(InputError, match="finetune_head"):
        make_rules({"model_dict": {"P": {}}}, pretrained(branches=("P", "Q")), "P")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"model_branch": "A"}, "--finetune"), ({"use_pretrain_script": True}, "no pre-trained file")],
)
def test_options_that_need_a_file(work, options, message):
    with pytest.raises(InputError, match=message):
        work.prepare(backend=QuickBackend(), **options)


# -- what is taken --------------------------------------------------------------------------------


def test_the_fitting_is_kept_and_the_bias_changed(work, saved):
    known = pretrained()
    model = started(work, saved(known), config(work))
    assert same(model, known.models[SINGLE], "descriptor")
    assert same(model, known.models[SINGLE], "fitting")
    assert not np.isclose(model.atomic_model.out_bias, 1.0).any()


def test_a_random_fitting_and_the_bias_set(work, saved):
    known, given = pretrained(), config(work)
    model = started(work, saved(known), given, model_branch=RANDOM)
    assert same(model, known.models[SINGLE], "descriptor")
    fresh = work.prepare(given, backend=QuickBackend()).tasks[SINGLE].model
    assert same(model, fresh, "fitting")
    np.testing.assert_allclose(model.atomic_model.out_bias, fresh.atomic_model.out_bias)


def test_no_branch_of_several_takes_the_first_descriptor(work, saved):
    known = pretrained(branches=("P", "Q"))
    model = started(work, saved(known), config(work))
    assert same(model, known.models["P"], "descriptor")
    assert not same(model, known.models["P"], "fitting")


def test_a_branch_of_several(work, saved):
    known = pretrained(branches=("P", "Q"))
    model = started(work, saved(known), config(work), model_branch="Q")
    assert same(model, known.models["Q"], "descriptor")
    assert same(model, known.models["Q"], "fitting")


def test_a_resumed_branch_keeps_its_bias():
    known = pretrained()
    model = build_model(section_for())
    rule = Rule(SINGLE, resumed=True)
    take_pretrained(model, known.models[SINGLE], rule)
    adjust_bias(model, rule, None)
    assert (model.atomic_model.out_bias == 1.0).all()


def test_a_new_kind_of_fitting(work, saved):
    for system in ("a", "b"):
        frames = len(np.load(f"{system}/set.000/coord.npy"))
        np.save(f"{system}/set.000/gap.npy", np.arange(2.0 * frames).reshape(frames, 2))
    kind = {"type": "property", "property_name": "gap", "task_dim": 2, "neuron": [4]}
    given = config(work, fitting_net=kind)
    given["loss"] = {"type": "property"}
    known = pretrained()
    model = started(work, saved(known), given, model_branch=RANDOM)
    assert same(model, known.models[SINGLE], "descriptor")
    assert model.output_def().keys() == ["gap"]
    with pytest.raises(ModelFileError, match="not that of the checkpoint"):
        started(work, "pretrained.dp", given)


def test_a_bias_of_the_input_stays(work, saved):
    fixed = {"preset_out_bias": {"energy": [None, 2.5]}}
    model = started(work, saved(pretrained()), config(work, **fixed))
    assert model.atomic_model.out_bias[0, 1, 0] == 2.5


# -- the section of the pre-trained model ---------------------------------------------------------


def test_the_script_brings_the_sections_but_not_trainable(work, saved):
    known = pretrained()
    given = config(work, descriptor={"trainable": False}, fitting_net={})
    trainer = work.prepare(
        given, finetune=saved(known), use_pretrain_script=True, backend=QuickBackend()
    )
    model, out = trainer.tasks[SINGLE].model, json.loads(Path("out.json").read_text())["model"]
    assert same(model, known.models[SINGLE], "fitting")
    assert out["descriptor"]["seed"] == 10
    assert out["descriptor"]["trainable"] is False
    assert not any("descriptor" in path for path in split(model)[0])


def test_the_script_leaves_a_random_fitting_to_the_input(work, saved):
    given = config(work, descriptor={}, fitting_net={"neuron": [3]})
    model = started(work, saved(pretrained()), given, model_branch=RANDOM, use_pretrain_script=True)
    assert model.atomic_model.fitting.neuron == [3]


def test_the_script_of_an_init_model(work, saved):
    saved(pretrained())
    given = config(work)
    given["model"] = {"type_map": ["A", "B"]}
    trainer = work.prepare(
        given, init_model="pretrained.dp", use_pretrain_script=True, backend=QuickBackend()
    )
    assert trainer.tasks[SINGLE].model.atomic_model.fitting.neuron == [4, 4]


def test_automatic_sel_is_that_of_the_pretrained(work, saved):
    given = config(work, descriptor={**TEBD, "sel": "auto"})
    assert started(work, saved(pretrained()), given).atomic_model.descriptor.sel == [30]


def test_other_settings_are_those_of_the_input_and_named(work, saved, caplog):
    given = config(work, descriptor={**TEBD, "rcut": 3.0})
    assert started(work, saved(pretrained()), given).get_rcut() == 3.0
    assert "descriptor/rcut" in caplog.text


# -- force ----------------------------------------------------------------------------------------


def test_other_sizes_are_refused_or_left_out(work, saved, caplog):
    given, known = config(work, fitting_net={"neuron": [4, 5]}), pretrained()
    with pytest.raises(ModelFileError, match="--force-load"):
        started(work, saved(known), given)
    model = started(work, "pretrained.dp", given, force_load=True)
    assert same(model, known.models[SINGLE], "descriptor")
    assert "left out" in caplog.text


# -- types ----------------------------------------------------------------------------------------


def test_types_in_another_order_and_fewer(work, saved):
    known = pretrained(("C", "B", "A"))
    model = started(work, saved(known), config(work))
    table, old = (m.atomic_model.descriptor.type_embedding() for m in (model, known.models[SINGLE]))
    np.testing.assert_allclose(table[:2], old[[2, 1]], atol=1e-14)
    assert np.all(
        model.atomic_model.descriptor.dstd == known.models[SINGLE].atomic_model.descriptor.dstd[:2]
    )


def test_a_new_type_has_the_statistics_of_the_data(work, saved, caplog):
    known = pretrained(("A", "C"))
    model = started(work, saved(known), config(work, ("B", "A")))
    fresh = work.prepare(config(work, ("B", "A")), backend=QuickBackend()).tasks[SINGLE].model
    new, old, data = (m.atomic_model.descriptor.dstd for m in (model, known.models[SINGLE], fresh))
    assert np.array_equal(new[0], data[0])
    assert np.array_equal(new[1], old[0])
    assert not np.array_equal(data[1], old[0])
    assert "type B" in caplog.text
    assert "dropped: C" in caplog.text


def test_no_common_type_is_refused(work, saved):
    with pytest.raises(InputError, match="none of the types"):
        started(work, saved(pretrained(("C", "D"))), config(work))


def test_networks_for_pairs_of_types_keep_their_types(work):
    typed = {"descriptor": {**work.config()["model"]["descriptor"]}}
    known = build_model(section_for(**typed))
    swapped = build_model(
        section_for(("B", "A"), **{"descriptor": {**typed["descriptor"], "sel": [30, 20]}})
    )
    take_pretrained(swapped, known, Rule(SINGLE))
    mine, theirs = (m.atomic_model.fitting.nets.networks for m in (swapped, known))
    for a, b in ((0, 1), (1, 0)):
        assert np.array_equal(mine[a].layers[0].w, theirs[b].layers[0].w)
    fewer = build_model(section_for(("A",), **{"descriptor": {**typed["descriptor"], "sel": [20]}}))
    with pytest.raises(InputError, match="pairs of its types"):
        take_pretrained(fewer, known, Rule(SINGLE))


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".yaml", ".dp", ".pt", ".pth"])
def test_every_kind_of_file(suffix, tmp_path):
    if suffix in (".pt", ".pth"):
        pytest.importorskip("torch")
    known = pretrained()
    if suffix == ".pth":
        path = COMPACT / "models" / "dpa1_l0_concat.pth"
        want = Model.deserialize(load_model(path.with_suffix(".dp"))["model"])
    else:
        path, want = tmp_path / f"model{suffix}", known.models[SINGLE]
        backend = Backend.detect_backend_by_model(path)()
        if suffix == ".pt":
            backend.write_checkpoint(path, known)
        else:
            save_model(path, known.model_data())
    found, where = read_pretrained(QuickBackend(), ".dp", str(path))
    assert where == path
    assert found.model_params["type_map"] == want.get_type_map()
    assert difference(found.models[SINGLE].serialize(), want.serialize()) is None


def test_a_prefix_is_that_of_a_checkpoint_of_the_backend(work, run):
    run(work.config(numb_steps=1, validation_data=None), backend=QuickBackend())
    _, path = read_pretrained(QuickBackend(), ".dp", "model.ckpt")
    assert path.name == "model.ckpt-1.dp"


def test_several_tasks_share_what_is_taken_and_the_statistics_of_new_types(work, saved, caplog):
    known = pretrained(("A", "C"), branches=("P", "Q"))
    for model in known.models.values():
        model.atomic_model.descriptor = known.models["P"].atomic_model.descriptor
    given = two_branches({"neuron": [4, 4]})
    given["model"]["shared_dict"]["des"] = {**TEBD, "seed": 3}
    for name, head in (("ice", "Q"), ("gas", RANDOM)):
        given["model"]["model_dict"][name] |= {
            "fitting_net": {"neuron": [4, 4], "seed": 1},
            "finetune_head": head,
        }
    trainer = work.prepare(
        given, finetune=saved(known), skip_neighbor_stat=True, backend=QuickBackend()
    )
    ice, gas = (trainer.tasks[name].model.atomic_model for name in ("ice", "gas"))
    fresh = work.prepare(given, backend=QuickBackend()).tasks["ice"].model.atomic_model
    old = known.models["P"].atomic_model.descriptor
    assert ice.descriptor is gas.descriptor
    assert np.array_equal(ice.descriptor.dstd[0], old.dstd[0])
    assert np.array_equal(ice.descriptor.dstd[1], fresh.descriptor.dstd[1])
    layers = (m.fitting.nets.networks[0].layers[0].w for m in (ice, known.models["Q"].atomic_model))
    assert np.array_equal(*layers)
    assert "branch Q, as ice:" in caplog.text
    saved(pretrained(("A", "C"), branches=("P", "Q")))
    with pytest.raises(ModelFileError, match="ice shares descriptor"):
        work.prepare(given, finetune="pretrained.dp", backend=QuickBackend())


SLOW = pytest.mark.slow  # they compile


@pytest.mark.parametrize(
    "name", ["pytorch", pytest.param("jax", marks=SLOW), pytest.param("tensorflow", marks=SLOW)]
)
def test_the_bias_is_the_same_on_every_backend(name, work, saved):
    pytest.importorskip({"pytorch": "torch"}.get(name, name))
    backend = type("Other", (QuickBackend,), {"evaluator": Backend.get_backend(name)().evaluator})
    path = saved(pretrained())
    want, found = (started(work, path, config(work), backend=b()) for b in (QuickBackend, backend))
    np.testing.assert_allclose(found.atomic_model.out_bias, want.atomic_model.out_bias, atol=1e-12)


# -- the run --------------------------------------------------------------------------------------


def test_the_command(work, saved, caplog):
    saved(pretrained())
    path = work.write(config(work, finetune_head=SINGLE))
    main(["--dp", "train", path, "--finetune", "pretrained.dp", "--skip-neighbor-stat"])
    assert read_checkpoint("model.ckpt-1.dp").step == 1
    assert "Fine-tuning of pretrained.dp:" in caplog.text


def test_a_restart_goes_on(work, saved, run):
    given = config(work, finetune_head=SINGLE)
    given["training"]["numb_steps"] = 2
    path = saved(pretrained())
    whole = run(given, backend=QuickBackend(), finetune=path)
    given["training"]["numb_steps"] = 1
    run(given, backend=QuickBackend(), finetune=path)
    given["training"]["numb_steps"] = 2
    again = run(given, backend=QuickBackend(), restart="model.ckpt")
    a, b = (split(t.stepper.model(SINGLE))[0] for t in (whole, again))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert read_checkpoint("model.ckpt-2.dp").models[SINGLE].get_type_map() == ["A", "B"]


# -- DeePMD-kit -----------------------------------------------------------------------------------

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "finetune"
KNOWN = json.loads((GOLDEN / "cases.json").read_text())


@pytest.mark.parametrize("name", KNOWN)
def test_bias_and_loss_of_deepmd_kit(name, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from runtime.test_step_exact import as_rounded

    from deepmd.dpmodel.loss import build_loss
    from deepmd.dpmodel.neighbors import batch_edges
    from deepmd.np.train_step import NumPyTrainStep
    from deepmd.runtime.step import StepOptions
    from deepmd.schema import normalize
    from deepmd.train.build import make_tasks
    from deepmd.train.plan import Start, make_plan

    shutil.copytree(GOLDEN, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    case = copy.deepcopy(KNOWN[name])
    start, path = read_pretrained(None, ".pt", case["pretrained"])
    rules = make_rules(case["input"]["model"], start, case["model_branch"])
    given = normalize(case["input"])
    plan = make_plan(given, Start(start, path, rules=rules), skip_neighbor_stat=True)
    task, rule = make_tasks(plan)[SINGLE], rules[SINGLE]
    source = start.models[rule.branch]
    take_pretrained(task.model, source, rule)
    sample = Sample(task.data, 10, model=task.model)
    set_new_statistics({SINGLE: Part(task.model, sample, 1.0, rule)}, start)
    descriptor = task.model.atomic_model.descriptor if name != "zbl" else None
    if "type_embedding" in case:  # of which the row of the new type is random
        descriptor.type_embedding.embedding.layers[0].w = np.array(case["type_embedding"])
        np.testing.assert_allclose(descriptor.dstd, case["dstd"], atol=1e-12)
    adjust_bias(task.model, rule, sample)
    atomic = task.model.atomic_model
    np.testing.assert_allclose(atomic.out_bias[0], case["out_bias"], rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(atomic.out_std[0], case["out_std"], rtol=1e-8)
    if "fparam_avg" in case:
        np.testing.assert_allclose(atomic.fitting.fparam_avg, case["fparam_avg"], atol=1e-12)
    if rule.renewed:
        return
    loss = build_loss(given["loss"], 1e-14, task.model)
    loss = as_rounded(loss) if given["loss"]["type"] == "ener" else loss
    loss.take_statistics(task.model)
    step = NumPyTrainStep({SINGLE: task.model}, {SINGLE: loss}, {"type": "Adam"}, StepOptions())
    (system,) = [s for s in task.data.systems if s.natoms == case["natoms"]]
    batch = system.load(np.arange(4), task.data.labels)
    batch.edges = batch_edges(batch, task.model.get_rcut())
    found = float(step.evaluate(SINGLE, batch, 1e-14)["loss"])
    assert found == pytest.approx(case["loss"], rel=1e-8)
