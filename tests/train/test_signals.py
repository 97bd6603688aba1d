# SPDX-License-Identifier: LGPL-3.0-or-later
"""A signal lets the step finish, writes a checkpoint and says how to go on."""

import os
import signal

import pytest
from train.helpers import NumPyBackend

from deepmd.train.entry import train
from deepmd.train.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal(work, number, monkeypatch, caplog):
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    take = NumPyBackend.train_step.step

    def step(self, task, batch, lr):
        step.count += 1
        if step.count == 4:
            os.kill(os.getpid(), number)
        return take(self, task, batch, lr)

    step.count = 0
    monkeypatch.setattr(NumPyBackend.train_step, "step", step)
    with pytest.raises(SystemExit) as info:
        train(INPUT=work.write(work.config()), backend=NumPyBackend())
    assert info.value.code == 128 + number
    assert work.names() == ["model.ckpt-3.dp", "model.ckpt-4.dp"]
    assert f"stopped by {number.name} after step 4 of 12; saved model.ckpt-4.dp" in caplog.text
    assert "continue with --restart model.ckpt" in caplog.text
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == handlers


@pytest.fixture
def interruptible():
    """Python's own reaction to SIGINT, which programs in the background of a shell do not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_second_signal_ends_at_once(interruptible):
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signal is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_in_the_last_step_is_no_interruption(work, monkeypatch, caplog):
    take = NumPyBackend.train_step.step

    def step(self, *args):
        os.kill(os.getpid(), signal.SIGTERM)
        return take(self, *args)

    monkeypatch.setattr(NumPyBackend.train_step, "step", step)
    train(INPUT=work.write(work.config(numb_steps=1)), backend=NumPyBackend())
    assert "Trained model has been saved" in caplog.text
