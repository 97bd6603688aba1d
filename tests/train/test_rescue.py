# SPDX-License-Identifier: LGPL-3.0-or-later
"""A run that ends with an error saves the steps it has taken, and continues as if nothing had been."""

import errno
import os

import pytest
from train.helpers import NumPyBackend, QuickBackend, same_checkpoints

from deepmd.base.errors import DataError, InputError, TrainingDivergedError
from deepmd.data.dataset import Dataset
from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.train.learning_curve import LearningCurve

LATE = {"save_freq": 100, "disp_freq": 1, "numb_steps": 6}


def failing(monkeypatch, owner, name, at, error):
    """Let the ``at``-th call of a method raise an error."""
    method = getattr(owner, name)
    count = 0

    def call(self, *args, **options):
        nonlocal count
        count += 1
        if count == at:
            raise error
        return method(self, *args, **options)

    monkeypatch.setattr(owner, name, call)


PLACES = {
    "data": (Dataset, "next", 5, DataError("gone", where="a/set.000")),
    "step": (QuickBackend.train_step, "gradients", 4, MemoryError("too large")),
    "device": (NumPyBackend.train_step, "step", 4, RuntimeError("device lost")),
    "validation": (QuickBackend.train_step, "evaluate", 8, DataError("gone", where="c/set.000")),
    "curve": (LearningCurve, "write", 4, InputError("disk full", where="lcurve.out")),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_was_learned_is_saved(work, run, monkeypatch, caplog, place):
    # The step and the reading of data serve validation, too.
    more = {"validation_data": None} if place in ("step", "data") else {}
    config = work.config(**LATE | more)
    run(config, backend=QuickBackend())
    whole, curve = read_checkpoint("model.ckpt-6.dp"), (work.path / "lcurve.out").read_text()
    for path in work.path.glob("model.ckpt*"):
        path.unlink()
    owner, name, at, error = PLACES[place]
    with monkeypatch.context() as patch:
        failing(patch, owner, name, at, error)
        with pytest.raises(type(error), match=str(error)):
            run(config, backend=QuickBackend())
    (saved,) = work.names()
    step = read_checkpoint(saved).step
    assert 2 <= step <= 4
    assert f"step {step + 1} of 6 failed; saved {saved}; continue with --restart" in caplog.text
    run(config, backend=QuickBackend(), restart="model.ckpt")
    again = read_checkpoint("model.ckpt-6.dp")
    if place not in ("validation", "curve"):  # a row is not written, or with other frames
        same_checkpoints(whole, again)
        assert (work.path / "lcurve.out").read_text() == curve
    assert all((whole.optimizer[k] == again.optimizer[k]).all() for k in whole.optimizer)


def test_an_error_before_the_first_step_saves_nothing(work, run, monkeypatch):
    failing(monkeypatch, QuickBackend.train_step, "step", 1, InputError("no"))
    with pytest.raises(InputError, match="no"):
        run(work.config(**LATE), backend=QuickBackend())
    assert not work.names()


def test_nothing_broken_is_saved(work, run, monkeypatch):
    failing(monkeypatch, QuickBackend.train_step, "step", 4, TrainingDivergedError("broken"))
    with pytest.raises(TrainingDivergedError):
        run(work.config(**LATE), backend=QuickBackend())
    assert not work.names()


def test_the_first_error_is_the_one_that_is_shown(work, monkeypatch):
    trainer = work.prepare(work.config(**LATE), backend=QuickBackend())

    def full(path, checkpoint):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trainer.store, "write", full)
    failing(monkeypatch, Dataset, "next", 4, DataError("gone"))
    with pytest.raises(DataError, match="gone"):
        trainer.run()
    assert not work.names()
