# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training stops where a number breaks, and nothing broken is saved."""

import math

import numpy as np
import pytest

from deepmd.base.errors import TrainingDivergedError
from deepmd.runtime.checkpoint_file import read_checkpoint


class Late:
    """A number that notes when it is waited for."""

    def __init__(self, value, step, log):
        self.value, self.step, self.log = value, step, log

    def __float__(self):
        self.log.append(("read", self.step))
        return float(self.value)


def breaking(trainer, at, *, value=math.nan):
    """Let the loss of one step be NaN."""
    take = trainer.stepper.step

    def step(task, batch, lr):
        metrics = take(task, batch, lr)
        return {**metrics, "loss": value} if trainer.step + 1 == at else metrics

    trainer.stepper.step = step


@pytest.mark.parametrize("at", [1, 4, 5, 6, 12])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_training_stops_before_a_broken_step_is_saved(work, at, value):
    trainer = work.prepare(work.config(save_freq=3, max_ckpt_keep=9))
    breaking(trainer, at, value=value)
    with pytest.raises(TrainingDivergedError, match=f"the loss of step {at} is {value}") as info:
        trainer.run()
    assert work.names() == [f"model.ckpt-{s}.dp" for s in (3, 6, 9) if s < at]
    steps = [row[0] for row in np.loadtxt("lcurve.out", ndmin=2)] if at > 1 else []
    assert all(s < at for s in steps)
    text = str(info.value)
    assert "\n" not in text
    assert "Å apart" in text
    for part in ("diverged-step-", "start_lr", "restart"):
        assert part in text


def test_the_batches_are_dumped_and_named(work):
    folder = work.path / "b/set.000"
    coord = np.load(folder / "coord.npy")
    coord[1, 3:6] = coord[1, 0:3] + [0.31, 0, 0]
    np.save(folder / "coord.npy", coord)
    config = work.config(training_data={"systems": ["b"], "batch_size": 3})
    trainer = work.prepare(config)
    breaking(trainer, 4)
    with pytest.raises(TrainingDivergedError, match=r"0.31 Å .*atoms \d and \d of frame 1 of b"):
        trainer.run()
    file = next(work.path.glob("diverged-step-*.npz"))
    with np.load(file) as dumped:
        assert int(dumped["step"]) == 4
        assert dumped["system"].tolist() == ["b", "b", "b"]
        expected = coord.reshape(3, 8, 3)[dumped["frames"]].reshape(-1, 3)
        assert np.array_equal(dumped["coord"], expected)
        for name in ("label_energy", "label_force", "before_coord", "before_frames", "natoms"):
            assert name in dumped


def test_the_frames_of_a_batch_are_found_again(work):
    trainer = work.prepare(work.config(numb_steps=8))
    seen = []
    follow = trainer.guard.follow
    trainer.guard.follow = lambda taken: (seen.append(taken), follow(taken))
    trainer.run()
    assert len(seen) == 8
    for taken in seen:
        paths, frames = taken.source()
        stored = [
            np.load(work.path / path / "set.000/coord.npy")[frame].reshape(-1, 3)
            for path, frame in zip(paths, frames, strict=True)
        ]
        assert np.array_equal(np.concatenate(stored), taken.batch.coord)


def test_a_loss_is_read_after_the_next_step_is_queued(work):
    log = []
    trainer = work.prepare(work.config(numb_steps=6, disp_freq=100, save_freq=100))
    take = trainer.stepper.step

    def step(task, batch, lr):
        number = trainer.step + 1
        log.append(("step", number))
        metrics = take(task, batch, lr)
        return {**metrics, "loss": Late(metrics["loss"], number, log)}

    trainer.stepper.step = step
    trainer.run()
    # The row of step 1 and the last checkpoint need their numbers at once.
    expected = [("step", 1), ("read", 1), ("step", 2), ("step", 3), ("read", 2), ("step", 4)]
    expected += [("read", 3), ("step", 5), ("read", 4), ("step", 6), ("read", 5), ("read", 6)]
    assert log == expected


def test_broken_parameters_are_not_saved(work):
    trainer = work.prepare(work.config(numb_steps=3, save_freq=3))
    take = trainer.stepper.step

    def step(task, batch, lr):
        metrics = take(task, batch, lr)
        if trainer.step + 1 == 3:
            next(iter(trainer.stepper._params[task].values()))[...] = math.nan
        return metrics

    trainer.stepper.step = step
    with pytest.raises(TrainingDivergedError, match=r"parameter .* is not finite after step 3"):
        trainer.run()
    assert not work.names()


def test_a_broken_optimizer_is_not_saved(work):
    trainer = work.prepare(work.config(numb_steps=3, save_freq=3))
    state = trainer.stepper.state
    trainer.stepper.state = lambda: {**state(), "first.x": np.array([np.inf])}
    with pytest.raises(TrainingDivergedError, match=r"the optimizer's first.x is not finite"):
        trainer.run()
    assert not work.names()


def test_a_real_divergence_is_caught_and_can_be_continued(work, run):
    config = work.config(numb_steps=40, save_freq=1)
    trainer = work.prepare(config)
    take = trainer.stepper.step

    def step(task, batch, lr):
        if trainer.step + 1 == 7:
            batch.labels["force"] = batch.labels["force"] * 1e200
        with np.errstate(all="ignore"):
            return take(task, batch, lr)

    trainer.stepper.step = step
    with np.errstate(all="ignore"), pytest.raises(TrainingDivergedError):
        trainer.run()
    assert read_checkpoint("model.ckpt.dp").step == 6
    assert run(config, restart="model.ckpt").ended.step == 40
