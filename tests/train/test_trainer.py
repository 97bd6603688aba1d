# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whole trainings: output files, restart, length."""

import json
import math
from signal import SIGTERM

import numpy as np
import pytest
from train.helpers import QuickBackend, same_checkpoints

from deepmd.dpmodel.module import split
from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.runtime.distributed import Distributed
from deepmd.train.statistics import Sample


def stop_after(trainer, step):
    """Make a trainer get a signal while it takes a step."""
    import os
    import signal

    take = trainer.stepper.step

    def stepping(*args):
        if trainer.step + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(*args)

    trainer.stepper.step = stepping


def test_a_training_learns_and_leaves_its_files(work, run, caplog):
    trainer = run(work.config(numb_steps=40, disp_freq=10, save_freq=100))
    assert trainer.ended.step == 40
    assert work.names() == ["model.ckpt-40.dp"]
    assert (work.path / "model.ckpt.dp").resolve().name == "model.ckpt-40.dp"
    assert (work.path / "checkpoint").read_text() == "model.ckpt-40.dp"
    rows = np.loadtxt("lcurve.out")
    assert rows[:, 0].tolist() == [1, 10, 20, 30, 40]
    assert rows[-1, 2] < 0.8 * rows[0, 2]
    out = json.loads((work.path / "out.json").read_text())
    assert out["training"]["max_ckpt_keep"] == 5
    assert "max_ckpt_keep" not in (work.path / "input_v2_compat.json").read_text()
    text = caplog.text
    for part in (
        "minimal neighbor distance",
        "Model Params",
        "Start to train 40 steps",
        "Batch      1: trn: rmse = ",
        "Batch     40: val: rmse = ",
        "lr = 1.00e-02",
        "total wall time = ",
        "data wait = ",
        "units: rmse_e [eV/atom], rmse_f [eV/Å]",
        "error          first batch  last batch",
        "Saved model to model.ckpt-40.dp",
        "Trained model has been saved to: model.ckpt-40.dp",
        "after the fit of a bias per type",
    ):
        assert part in text, part


@pytest.mark.parametrize("stop", [1, 5, 6, 11])
@pytest.mark.parametrize("average", [False, True])
def test_n_steps_and_m_more_are_n_plus_m(work, run, stop, average):
    config = work.config(disp_avg=average)
    run(config)
    whole, rows = read_checkpoint("model.ckpt-12.dp"), (work.path / "lcurve.out").read_text()
    for path in work.path.glob("model.ckpt*"):
        path.unlink()
    trainer = work.prepare(config)
    stop_after(trainer, stop)
    ended = trainer.run()
    assert ended.step == stop
    assert ended.path.name == f"model.ckpt-{stop}.dp"
    restarted = run(config, restart="model.ckpt")
    assert restarted.ended.step == 12
    same_checkpoints(whole, read_checkpoint("model.ckpt-12.dp"))
    assert (work.path / "lcurve.out").read_text() == rows


def test_a_restart_from_the_middle_removes_later_rows(work, run):
    run(work.config(max_ckpt_keep=9))
    rows = (work.path / "lcurve.out").read_text()
    trainer = work.prepare(work.config(max_ckpt_keep=9), restart="model.ckpt-6")
    stop_after(trainer, 7)
    trainer.run()
    assert np.loadtxt("lcurve.out")[:, 0].tolist() == [1, 2, 4, 6]
    run(work.config(max_ckpt_keep=9), restart="model.ckpt")
    assert (work.path / "lcurve.out").read_text() == rows


def test_more_steps_than_before(work, run, caplog):
    run(work.config(numb_steps=3))
    trainer = run(work.config(numb_steps=5), restart="model.ckpt")
    assert trainer.ended.step == 5
    assert "the input differs from that of the checkpoint: training/numb_steps" in caplog.text


def test_nothing_left_to_do(work, run, caplog):
    run(work.config(numb_steps=3))
    before = (work.path / "model.ckpt-3.dp").read_bytes()
    run(work.config(numb_steps=3), restart="model.ckpt")
    assert "Nothing to do: 3 of 3 steps" in caplog.text
    assert (work.path / "model.ckpt-3.dp").read_bytes() == before


def test_no_steps_write_the_initial_model(work, run):
    run(work.config(numb_steps=0))
    assert read_checkpoint("model.ckpt.dp").step == 0


def test_seeds_decide(work, run):
    def trained(**more):
        run(work.config(numb_steps=2, **more))
        return split(read_checkpoint("model.ckpt-2.dp").models["Default"])[0]

    first, again, other = trained(), trained(), trained(seed=8)
    assert all(np.array_equal(first[k], again[k]) for k in first)
    assert not all(np.array_equal(first[k], other[k]) for k in first)


def test_without_a_seed_it_is_logged_and_kept(work, run, caplog):
    config = work.config(seed=None, numb_steps=4, save_freq=2)
    run(config)
    seed = int(caplog.text.split("training/seed is not given; ")[1].split(" ")[0])
    assert int(read_checkpoint("model.ckpt-2.dp").trainer["data.Default.seed"]) == seed
    whole = read_checkpoint("model.ckpt-4.dp")
    run(config, restart="model.ckpt-2.dp")
    same_checkpoints(whole, read_checkpoint("model.ckpt-4.dp"))


def test_epochs(work, run):
    # Two systems of 3 and 1 batches, drawn 3:1: four steps per epoch.
    trainer = run(work.config(numb_steps=None, numb_epoch=1.2))
    assert trainer.ended.step == math.ceil(1.2 * 4)


def test_init_model_starts_anew_with_the_parameters(work, run):
    run(work.config(numb_steps=4))
    old = read_checkpoint("model.ckpt-4.dp")
    trainer = work.prepare(work.config(numb_steps=4), init_model="model.ckpt-4.dp")
    assert trainer.step == 0
    a, b = split(old.models["Default"]), split(trainer.stepper.model("Default"))
    for x, y in zip(a, b, strict=True):
        assert all(np.array_equal(x[k], y[k]) for k in x)
    assert not [k for k in trainer.stepper.state() if "first." in k]
    assert np.loadtxt("lcurve.out")[-1, 0] == 4
    trainer.run()
    assert np.loadtxt("lcurve.out")[:, 0].tolist() == [1, 2, 4]


def test_validation_is_averaged_and_optional(work, run):
    run(work.config(validation_data=None, numb_steps=2))
    assert np.loadtxt("lcurve.out").shape[1] == 5
    trainer = work.prepare(work.config(numb_steps=2))
    batches = [trainer.tasks["Default"].validation.next() for _ in range(2)]
    alone = [trainer.stepper.evaluate("Default", b, 0.01)["rmse_f"] for b in batches]
    trainer = work.prepare(work.config(numb_steps=2))
    assert trainer.validate(0.01)["Default"]["rmse_f"] == pytest.approx(np.mean(alone), rel=1e-12)


def test_auto_sel_is_counted_once_and_kept_at_restart(work, run, caplog):
    config = work.config(numb_steps=2)
    config["model"]["descriptor"]["sel"] = "auto"
    run(config)
    sel = json.loads((work.path / "out.json").read_text())["model"]["descriptor"]["sel"]
    assert all(isinstance(n, int) and n % 4 == 0 for n in sel)
    first = read_checkpoint("model.ckpt-2.dp")
    assert 1.0 < first.min_nbor_dist < 2.5
    caplog.clear()
    config["training"]["numb_steps"] = 3
    run(config, restart="model.ckpt")
    assert "minimal neighbor distance" not in caplog.text
    assert read_checkpoint("model.ckpt-3.dp").min_nbor_dist == first.min_nbor_dist


def test_the_model_of_a_checkpoint_is_what_is_evaluated(work, run):
    trainer = run(work.config(numb_steps=3))
    data = read_checkpoint("model.ckpt-3.dp").model_data()
    assert data["model_def_script"]["info"]["observed_type"] == ["A", "B"]
    stored, here = data["model"], trainer.stepper.model("Default").serialize()
    x, y = (d["@variables"]["out_bias"] for d in (stored, here))
    assert np.array_equal(x, y)


def test_change_bias_after_training(work, run):
    run(work.config(numb_steps=2))
    plain = read_checkpoint("model.ckpt-2.dp").models["Default"]
    config = work.config(numb_steps=2, change_bias_after_training=True)
    trainer = run(config)
    changed = read_checkpoint("model.ckpt-2.dp").models["Default"]
    assert not np.array_equal(plain.atomic_model.out_bias, changed.atomic_model.out_bias)
    from deepmd.np.evaluator import NumPyEvaluator

    sample = list(Sample(trainer.tasks["Default"].data, 10).batches())

    def offset(model):
        evaluator = NumPyEvaluator(model)
        rest = [
            b.labels["energy"] - evaluator.evaluate(b, derivatives=())["energy"] for b in sample
        ]
        return abs(np.concatenate(rest).mean())

    assert offset(changed) < 1e-10 < offset(plain)


class _OtherRank(Distributed):
    """The second of two processes; the first one got a signal after three steps."""

    rank, size = 1, 2

    def __init__(self):
        self.calls = 0

    def agree(self, *numbers):
        self.calls += 1
        signal, *others = numbers
        return (int(SIGTERM) if self.calls >= 3 else signal, *others)


def test_a_second_process_writes_nothing_and_stops_with_the_first(work):
    """Signals, which one process gets, end all of them; files are those of the first."""
    trainer = work.prepare(backend=QuickBackend())
    trainer.ranks = _OtherRank()
    ended = trainer.run()
    assert (ended.step, ended.signal) == (3, SIGTERM)
    assert trainer.ranks.calls == ended.step, "one exchange per step"
    assert not work.names()
    assert not (work.path / "lcurve.out").exists()
