# SPDX-License-Identifier: LGPL-3.0-or-later
"""Statistics of descriptors and parameters, biases, and their cache."""

import json
import math

import numpy as np
import pytest

from deepmd.base.errors import DataError, InputError
from deepmd.data.statistics import descriptor_key
from deepmd.dpmodel.model import Model, prepare
from deepmd.entrypoints.change_bias import change_bias as change_bias_command
from deepmd.io import load_model
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.schema import normalize
from deepmd.train.build import make_tasks, set_all_statistics
from deepmd.train.plan import make_plan
from deepmd.train.statistics import (
    Sample,
    change_bias,
    given_bias,
    output_bias,
    table_widths,
)


def tasks_of(config):
    config["training"].pop("validation_data", None)
    plan = make_plan(normalize(config))
    return plan, make_tasks(plan)


@pytest.mark.parametrize("case", ["step_se_e2_a", "step_se_e2_a_virial"])
def test_reference_statistics(case, reference, monkeypatch):
    folder = reference / "train" / case
    monkeypatch.chdir(folder)
    config = json.loads((folder / "input.json").read_text())
    config.pop("_batches")
    plan, tasks = tasks_of(config)
    set_all_statistics(plan, tasks)
    ours = tasks["Default"].model.atomic_model
    theirs = Model.deserialize(load_model(folder / "init.dp")["model"]).atomic_model
    for a, b in (
        (ours.descriptor.davg, theirs.descriptor.davg),
        (ours.descriptor.dstd, theirs.descriptor.dstd),
        (ours.out_bias, theirs.out_bias),
        (ours.out_std, theirs.out_std),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert plan.config["model"]["info"]["observed_type"] == ["O", "H"]


def test_statistics_are_cached(work, caplog):
    plan, tasks = tasks_of(work.config(validation_data=None, stat_file="stat"))
    first = tasks["Default"]
    set_all_statistics(plan, tasks)
    key = descriptor_key(first.model.atomic_model.descriptor.statistics_key())
    group = work.path / "stat" / "A B" / key
    assert sorted(p.name for p in group.iterdir()) == ["a_0", "a_1", "r_0", "r_1"]
    assert np.load(work.path / "stat/A B/bias_atom_energy").shape == (2, 1)

    config = work.config(validation_data=None, stat_file="stat", stat_file_mode="read")
    plan, tasks = tasks_of(config)
    second = tasks["Default"]

    def never(*args):
        raise AssertionError("the data were read although the cache is complete")

    second.data.load = second.data.systems[0].load = never
    set_all_statistics(plan, tasks)
    for name in ("out_bias", "out_std"):
        a, b = getattr(first.model.atomic_model, name), getattr(second.model.atomic_model, name)
        assert np.array_equal(a, b)
    assert np.array_equal(
        first.model.atomic_model.descriptor.dstd, second.model.atomic_model.descriptor.dstd
    )


def test_training_with_a_statistics_file(work, run):
    run(work.config(numb_steps=1, stat_file="stat.h5"))
    first = (work.path / "lcurve.out").read_text()
    run(work.config(numb_steps=1, stat_file="stat.h5", stat_file_mode="read"))
    assert (work.path / "lcurve.out").read_text() == first


def test_read_mode_needs_a_complete_cache(work):
    with pytest.raises(DataError, match="is missing"):
        work.prepare(work.config(stat_file="nothing", stat_file_mode="read"))


@pytest.mark.parametrize(
    ("preset", "atom_ener", "fixed"),
    [
        ({"energy": [None, 0.25]}, [], [math.nan, 0.25]),
        ({"energy": [[-1.0], None]}, [], [-1.0, math.nan]),
        (None, [None, -0.5], [math.nan, -0.5]),
        ({"energy": [None, 0.25]}, [2.0, -0.5], [2.0, 0.25]),
        (None, [], None),
    ],
)
def test_given_biases_stay_and_the_rest_is_fitted(work, preset, atom_ener, fixed):
    config = work.config()
    config["model"]["preset_out_bias"] = preset
    config["model"]["fitting_net"]["atom_ener"] = atom_ener
    _, tasks = tasks_of(config)
    task = tasks["Default"]
    (variable,) = task.model.output_def().get_data().values()
    known = given_bias(task.model, variable)
    if fixed is None:
        assert known is None
    else:
        assert np.array_equal(known[:, 0], fixed, equal_nan=True)
    batches = list(Sample(task.data, 10).batches())
    bias, _ = output_bias(task.model, variable, batches)
    mean = np.mean(np.concatenate([b.labels["energy"] for b in batches]))
    for t, value in enumerate(fixed or []):
        if not math.isnan(value):
            assert bias[t, 0] == value
    if fixed is None or np.isnan(fixed).any():
        # All frames are A3 B5: what is not fixed takes up the mean.
        assert 3 * bias[0, 0] + 5 * bias[1, 0] == pytest.approx(mean, rel=1e-12)


def test_a_preset_of_wrong_width_is_refused(work):
    config = work.config()
    config["model"]["preset_out_bias"] = {"energy": [None, [0.0, 1.0]]}
    with pytest.raises(InputError, match="type 1 has 2 numbers, expected 1"):
        work.prepare(config)


GIVEN = [
    ({"energy": [None, 0.25]}, [], {1: 0.25}),
    (None, [None, -0.5], {1: -0.5}),
    (None, [2.0, -0.5], {0: 2.0, 1: -0.5}),
]


def given_config(work, preset, atom_ener, **training):
    config = work.config(**training)
    config["model"]["preset_out_bias"] = preset
    config["model"]["fitting_net"]["atom_ener"] = atom_ener
    return config


@pytest.mark.parametrize("moved", [0.0, 3.0])
@pytest.mark.parametrize(("preset", "atom_ener", "fixed"), GIVEN)
def test_given_biases_stay_when_the_bias_is_changed(work, preset, atom_ener, fixed, moved):
    plan, tasks = tasks_of(given_config(work, preset, atom_ener))
    task = tasks["Default"]
    batches = list(Sample(task.data, 10).batches())
    set_all_statistics(plan, tasks)
    task.model.atomic_model.out_bias += moved
    for b in batches:
        b.labels["energy"] = b.labels["energy"] + 8.0
    change_bias(task.model, batches)
    bias = task.model.atomic_model.out_bias[0, :, 0]
    assert {t: bias[t] for t in fixed} == fixed
    if len(fixed) == 1:  # the other type takes up all that is left
        evaluator = NumPyEvaluator(task.model)
        rest = [
            b.labels["energy"] - evaluator.evaluate(b, derivatives=())["energy"] for b in batches
        ]
        assert abs(np.concatenate(rest).mean()) < 1e-10


@pytest.mark.parametrize(("preset", "atom_ener", "fixed"), GIVEN)
def test_given_biases_stay_after_training(work, run, preset, atom_ener, fixed):
    run(given_config(work, preset, atom_ener, numb_steps=2, change_bias_after_training=True))
    bias = read_checkpoint("model.ckpt-2.dp").models["Default"].atomic_model.out_bias[0, :, 0]
    assert {t: bias[t] for t in fixed} == fixed


def test_given_biases_are_not_taken_from_the_cache(work):
    set_all_statistics(*tasks_of(work.config(stat_file="stat")))
    config = given_config(
        work, {"energy": [None, 0.25]}, [], stat_file="stat", stat_file_mode="read"
    )
    plan, tasks = tasks_of(config)
    set_all_statistics(plan, tasks)
    assert tasks["Default"].model.atomic_model.out_bias[0, 1, 0] == 0.25


@pytest.mark.parametrize("source", ["init_model", "init_frz_model"])
def test_given_biases_replace_those_of_the_first_model(work, run, source):
    run(work.config(numb_steps=2))
    before = read_checkpoint("model.ckpt-2.dp").models["Default"].atomic_model.out_bias[0, :, 0]
    config = given_config(work, {"energy": [None, 0.25]}, [], numb_steps=1)
    trainer = work.prepare(config, **{source: "model.ckpt-2.dp"})
    found = trainer.stepper.model("Default").atomic_model.out_bias[0, :, 0]
    assert found.tolist() == [before[0], 0.25]


def test_a_restart_keeps_the_bias_of_its_checkpoint(work, run):
    config = given_config(work, {"energy": [None, 0.25]}, [], numb_steps=2)
    run(config)
    change_bias_command(INPUT="model.ckpt-2.dp", bias_value=[1.0, 2.0], output="model.ckpt-2.dp")
    trainer = work.prepare(config, restart="model.ckpt-2.dp")
    assert trainer.stepper.model("Default").atomic_model.out_bias[0, :, 0].tolist() == [1.0, 2.0]


@pytest.mark.parametrize("given", [[0.5, 0.5], [0.5, 0.25], [None, 0.5]])
def test_one_bias_for_all_types(work, given):
    """A property that does not distinguish types has one bias, given or fitted."""
    for name, frames in (("a", 6), ("b", 3), ("c", 4)):
        np.save(work.path / name / "set.000/gap.npy", np.linspace(1.0, 2.0, frames)[:, None])
    config = work.config()
    config["model"]["fitting_net"] = {
        "type": "property", "property_name": "gap", "neuron": [4], "distinguish_types": False,
        "intensive": True,
    }  # fmt: skip
    config["model"]["preset_out_bias"] = {"gap": given}
    config["loss"] = {"type": "property"}
    plan, tasks = tasks_of(config)
    task = tasks["Default"]
    if len(set(given)) > 1:
        with pytest.raises(InputError, match="one bias serves for all types"):
            set_all_statistics(plan, tasks)
        return
    set_all_statistics(plan, tasks)
    assert task.model.atomic_model.out_bias[0, :, 0].tolist() == given
    change_bias(task.model, Sample(task.data, 10).batches())
    assert task.model.atomic_model.out_bias[0, :, 0].tolist() == given


def test_no_energy_label_leaves_the_bias_at_zero(work, run, caplog):
    for name in "abc":
        (work.path / name / "set.000/energy.npy").unlink()
    trainer = run(work.config(numb_steps=2))
    assert not trainer.stepper.model("Default").atomic_model.out_bias.any()
    assert "no label energy" in caplog.text
    assert "no system has energy.npy" in caplog.text
    row = np.loadtxt("lcurve.out")[-1]
    assert np.isnan(row[3:5]).all()
    assert np.isfinite(row[[1, 2, 5, 6]]).all()


def test_change_bias_fits_the_rest(work):
    plan, tasks = tasks_of(work.config())
    task = tasks["Default"]
    batches = list(Sample(task.data, 10).batches())
    set_all_statistics(plan, tasks)
    for b in batches:
        b.labels["energy"] = b.labels["energy"] + 8.0

    def rest():
        evaluator = NumPyEvaluator(task.model)
        parts = [
            b.labels["energy"] - evaluator.evaluate(b, derivatives=())["energy"] for b in batches
        ]
        return np.concatenate(parts).mean()

    before, missing = task.model.atomic_model.out_bias.copy(), rest()
    change_bias(task.model, batches)
    shift = (task.model.atomic_model.out_bias - before)[0, :, 0]
    assert missing > 0.1
    assert 3 * shift[0] + 5 * shift[1] == pytest.approx(missing, rel=1e-10)
    assert abs(rest()) < 1e-10


def test_parameter_statistics(work):
    rng = np.random.default_rng(0)
    for name, frames in (("a", 6), ("b", 3), ("c", 4)):
        folder = work.path / name / "set.000"
        np.save(folder / "fparam.npy", rng.normal(2.0, 3.0, (frames, 2)))
        np.save(folder / "aparam.npy", rng.normal(-1.0, 0.5, (frames, 8)))
    config = work.config(numb_steps=1)
    config["model"]["fitting_net"] |= {"numb_fparam": 2, "numb_aparam": 1}
    trainer = work.prepare(config)
    fitting = trainer.stepper.model("Default").atomic_model.fitting
    data = [np.load(work.path / n / "set.000/fparam.npy") for n in "ab"]
    everything = np.concatenate(data)
    np.testing.assert_allclose(fitting.fparam_avg, everything.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(fitting.fparam_inv_std, 1 / everything.std(axis=0), rtol=1e-10)
    atoms = np.concatenate([np.load(work.path / n / "set.000/aparam.npy").ravel() for n in "ab"])
    np.testing.assert_allclose(fitting.aparam_avg, [atoms.mean()], rtol=1e-12)
    trainer.run()


def test_widths_of_the_tables(work):
    config = work.config()
    config["model"]["descriptor"]["sel"] = [10, 40]
    _, tasks = tasks_of(config)
    task = tasks["Default"]
    batches = list(Sample(task.data, 10).batches())
    widths = table_widths(task.model, batches)
    found = [prepare(b, task.model.packings()).slots for b in batches]
    needed = [max(n) for n in zip(*([t.shape[1] for t in s if t.ndim == 2] for s in found))]
    assert len(widths) == len(needed) == 4
    for width, need, sel in zip(widths, needed, [10, 40, 10, 40], strict=True):
        assert need <= width <= sel
        assert width % 4 == 0 or width == sel


def test_types_in_another_order(work):
    _, tasks = tasks_of(work.config())
    task = tasks["Default"]
    sample = Sample(task.data, 10, model=task.model)
    other = sample.of_types(["B", "C", "A"])
    for a, b in zip(sample.batches(), other.batches(), strict=True):
        assert np.array_equal(np.array([2, 0])[a.atype], b.atype)
        assert np.array_equal(a.coord, b.coord)


@pytest.mark.parametrize("name", ["bias_atom_energy", "std_atom_energy", "r_1"])
def test_a_cache_of_another_model_is_refused(work, run, name):
    run(work.config(numb_steps=0, stat_file="stat"))
    (file,) = (work.path / "stat").rglob(name)
    with file.open("wb") as handle:
        np.save(handle, np.ones(7))
    with pytest.raises(DataError, match=rf"{name}: has shape \(7,\), expected .* remove it"):
        work.prepare(work.config(stat_file="stat"))


def test_smallest_deviation_of_parameters(work):
    for name in ("a", "b", "c"):
        frames = len(np.load(work.path / name / "set.000/energy.npy"))
        np.save(work.path / name / "set.000/fparam.npy", np.full((frames, 1), 2.0))
    config = work.config()
    config["model"] |= {"data_stat_protect": 0.25}
    config["model"]["fitting_net"]["numb_fparam"] = 1
    trainer = work.prepare(config)
    fitting = trainer.tasks["Default"].model.atomic_model.fitting
    assert fitting.fparam_inv_std == pytest.approx([4.0])
    assert fitting.fparam_avg == pytest.approx([2.0])
