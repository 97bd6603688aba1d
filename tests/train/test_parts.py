# SPDX-License-Identifier: LGPL-3.0-or-later
"""Several tasks, events, the bar on a terminal, counts of checkpoints."""

import io
import logging
import sys

import numpy as np
import pytest
from train.helpers import NumPyBackend, same_checkpoints

from deepmd.dpmodel.schedule import learning_rate
from deepmd.runtime.checkpoint_file import read_checkpoint, write_checkpoint
from deepmd.runtime.step import StepOptions
from deepmd.schema import normalize
from deepmd.train.build import make_tasks, set_all_statistics
from deepmd.train.checkpoints import CheckpointStore
from deepmd.train.plan import make_plan
from deepmd.train.progress import Clock, progress_bar, summary_table, units_line
from deepmd.train.start import differing_keys
from deepmd.train.trainer import Trainer


def two_tasks(work, start=None, **training):
    """Return a trainer of two models, on systems a and b."""
    tasks = {}
    for name, system, weight in (("one", "a", 3.0), ("two", "b", 1.0)):
        data = {"systems": [system], "batch_size": 1}
        config = work.config(training_data=data, validation_data=None, seed=1)
        plan = make_plan(normalize(config))
        task = make_tasks(plan)["Default"]
        set_all_statistics(plan, {"Default": task})
        task.weight = weight
        tasks[name] = task
    if start is not None:
        for name, task in tasks.items():
            task.model = start.models[name]
    stepper = NumPyBackend.train_step(
        {k: t.model for k, t in tasks.items()},
        {k: t.loss for k, t in tasks.items()},
        {},
        StepOptions(),
    )
    return Trainer(
        tasks,
        stepper,
        learning_rate({"start_lr": 0.01, "stop_lr": 1e-4, "decay_steps": 2}, 8),
        CheckpointStore("model.ckpt", ".dp", write_checkpoint),
        {"disp_freq": 1, "save_freq": 5, **training},
        numb_steps=8,
        model_params={"model_dict": {"one": {}, "two": {}}},
        seed=5,
    )


def test_tasks_are_chosen_by_weight_and_seed(work):
    trainer = two_tasks(work)
    chosen = [trainer.choose_task(k) for k in range(4000)]
    assert chosen.count("one") / 4000 == pytest.approx(0.75, abs=0.03)
    assert chosen[:50] == [two_tasks(work).choose_task(k) for k in range(50)]


def test_two_tasks_and_their_restart(work):
    two_tasks(work).run()
    whole, curve = read_checkpoint("model.ckpt-8.dp"), (work.path / "lcurve.out").read_text()
    head = curve.splitlines()[0].split()
    assert head[2:5] == ["rmse_trn_one", "rmse_e_trn_one", "rmse_f_trn_one"]
    assert head[5:] == ["rmse_trn_two", "rmse_e_trn_two", "rmse_f_trn_two", "lr"]
    middle = read_checkpoint("model.ckpt-5.dp")
    (work.path / "model.ckpt-8.dp").unlink()
    trainer = two_tasks(work, middle)
    trainer.restore(middle)
    trainer.run()
    same_checkpoints(whole, read_checkpoint("model.ckpt-8.dp"))
    assert (work.path / "lcurve.out").read_text() == curve


def test_tasks_without_a_step_show_their_next_batch(work):
    """Rows have the figures of every task; showing them uses no batch."""
    trainer = two_tasks(work)
    first = trainer.choose_task(0)
    (other,) = {"one", "two"} - {first}
    batch = trainer.tasks[other].data.next()
    two_tasks(work).run()
    rows, curve = np.loadtxt("lcurve.out"), (work.path / "model.ckpt-8.dp").read_bytes()
    assert np.isfinite(rows).all()
    trainer = two_tasks(work)
    taken = trainer.stepper.step(first, trainer.tasks[first].data.next(), trainer.schedule.value(0))
    want = [trainer.stepper.evaluate(other, batch, trainer.schedule.value(0)), taken]
    columns = [slice(4, 7), slice(1, 4)] if first == "one" else [slice(1, 4), slice(4, 7)]
    for found, figures in zip(columns, want, strict=True):
        expected = [figures[k] for k in ("rmse", "rmse_e", "rmse_f")]
        np.testing.assert_allclose(rows[0, found], expected, rtol=6e-3)
    two_tasks(work, disp_freq=8).run()
    assert (work.path / "model.ckpt-8.dp").read_bytes() == curve


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"max_ckpt_keep": 2}, [9, 12]),
        ({"ckpt_keep_ratio": 0.7}, [6, 9, 12]),
        ({"save_dir": "kept", "max_ckpt_keep": 1}, [12]),
        ({"save_freq": 5}, [5, 10, 12]),
    ],
)
def test_how_many_checkpoints_stay(work, run, more, kept):
    run(work.config(**more))
    folder = work.path / more.get("save_dir", ".")
    found = sorted(int(p.name[11:-3]) for p in folder.glob("model.ckpt-*.dp"))
    assert found == kept
    assert read_checkpoint("model.ckpt.dp").step == 12


def test_events_are_written(work, monkeypatch):
    import deepmd.train.tensorboard as module

    seen = []

    class Writer:
        def __init__(self, folder):
            seen.append(folder)

        def add_scalar(self, name, value, step):
            seen.append((name, step))

        def close(self):
            seen.append("closed")

    monkeypatch.setattr(module, "_writer", Writer)
    config = work.config(numb_steps=6, tensorboard=True, tensorboard_freq=3, disp_freq=100)
    work.prepare(config).run()
    assert seen[0] == "log"
    assert seen[-1] == "closed"
    assert {s for _, s in seen[1:-1]} == {1, 3, 6}
    assert ("rmse_f", 3) in seen
    assert ("lr", 6) in seen


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_bar_on_a_terminal_leaves_log_lines_whole(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    log = logging.getLogger("deepmd.test_bar")
    log.addHandler(handler)
    try:
        with progress_bar(10, 0) as advance:
            advance(3, lambda: "0.4 s/step, data wait 25 %")
            log.warning("a line")
        log.warning("another line")
    finally:
        log.removeHandler(handler)
    assert handler.stream is terminal
    assert "a line" in terminal.getvalue()
    assert terminal.getvalue().endswith("another line\n")


def test_no_bar_elsewhere(capsys):
    with progress_bar(10, 0) as advance:
        advance(3, lambda: 1 / 0)
    assert capsys.readouterr().err == ""


def test_clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("deepmd.train.progress.time.monotonic", lambda: now[0])
    clock = Clock(100, done=10)
    with clock.waiting():
        now[0] = 1.0
    now[0] = 4.0
    clock.tick(20)
    assert clock.row() == (
        "total wall time = 4.00 s, eta = 0:00:32, 0.4000 s per step, data wait = 25 %"
    )
    assert clock.status() == "0.4 s/step, data wait 25 %"
    assert clock.summary() == "average training time: 0.4000 s/batch"


def test_units_and_summary():
    assert units_line(["rmse", "rmse_e", "mae_f"]) == "units: rmse_e [eV/atom], mae_f [eV/Å]"
    assert units_line(["rmse", "rmse_dos"]) == ""
    last = {"rmse": 1.0, "rmse_f": 0.25}
    assert list(
        summary_table({"Default": last}, {"Default": last}, {"Default": {"rmse": 2.0}})
    ) == [
        "error          first batch  last batch  validation  unit",
        "rmse              2.00e+00    1.00e+00    1.00e+00",
        "rmse_f                 nan    2.50e-01    2.50e-01  eV/Å",
    ]
    long = {"rmse_global_polarizability": 1.0, "mae_f": 1.0}
    lines = list(summary_table({"Default": long}, {"Default": long}, {}))
    assert max(map(len, lines)) <= 80
    assert [line.index("1.00e") for line in lines[1:]] == [44, 44]  # below each other
    two = list(summary_table({"a": last, "b": last}, {}, {}))
    assert [line.split()[0] for line in two] == ["a", "rmse", "rmse_f", "b", "rmse", "rmse_f"]


def test_differing_keys():
    a = {"x": {"y": 1, "z": [1, 2]}, "same": 0}
    b = {"x": {"y": 2, "z": [1, 3]}, "same": 0, "new": None, "more": 1}
    assert differing_keys(a, b) == ["x/y", "x/z", "more"]
