# SPDX-License-Identifier: LGPL-3.0-or-later
"""A signal lets the step finish, writes a checkpoint and says how to go on."""

import os
import signal

import pytest
from train.helpers import NumPyBackend

from deepmd.train.entry import train
from deepmd.train.signals import SIGNALS, StopRequest


@pytest.mark.parametrize("number", SIGNALS)
def test_signal(work, number, monkeypatch, caplog):
    handlers = [signal.getsignal(s) for s in SIGNALS]
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
    assert [signal.getsignal(s) for s in SIGNALS] == handlers


@pytest.fixture
def interruptible():
    """Python's own reaction to SIGINT, which programs in the background of a shell do not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_signals_of_schedulers_are_among_them():
    assert {"SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"} <= {s.name for s in SIGNALS}


def test_several_signals_at_once_do_not_disturb_the_end():
    with StopRequest() as stop:
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
        assert stop.signal is signal.SIGUSR1


def test_what_nohup_ignores_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


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
