# SPDX-License-Identifier: LGPL-3.0-or-later
"""Killed at any moment, a training goes on from its newest checkpoint as if nothing had been.

The trainings run in forked processes, so that Python starts once only.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import traceback

import numpy as np
import pytest
from train.helpers import NumPyBackend, QuickBackend, same_checkpoints

from deepmd.base import files
from deepmd.base.errors import InputError
from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.train.checkpoints import find_checkpoints, read_newest

LAST = "model.ckpt-12.dp"


@pytest.fixture
def elsewhere(request):
    """Run the test in a process of its own, and say so, where a framework has started threads.

    Forking a process with threads, as those of JAX and PyTorch, may hang.
    """
    if not {"jax", "torch"} & set(sys.modules):
        return False
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"{request.path}::{request.node.name}"],
        cwd=request.config.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return True


class Crashing:
    """A training of 12 steps, with a checkpoint after each, and the result it must have."""

    def __init__(self, work, backend=NumPyBackend, **more):
        self.work, self.backend = work, backend
        self.config = work.config(
            **{"validation_data": None, "save_freq": 1, "disp_freq": 1, "max_ckpt_keep": 2, **more}
        )
        self.config["model"]["descriptor"] |= {"type_one_side": True, "seed": 3}
        self.config["model"]["fitting_net"]["neuron"] = [2]
        self.prepare().run()
        self.last = LAST if (work.path / LAST).exists() else work.names()[-1]
        self.result = read_checkpoint(self.last)
        self.curve = (work.path / "lcurve.out").read_text()
        self.clear()

    def clear(self):
        for path in self.work.path.iterdir():
            if path.name not in ("a", "b", "c"):
                path.unlink()

    def prepare(self):
        """Return a trainer that starts, or goes on where the newest checkpoint was written."""
        return self.work.prepare(self.config, backend=self.backend(), **self.options())

    def options(self):
        """Restart if there is anything to restart from."""
        try:
            find_checkpoints("model.ckpt", ".dp")
        except InputError:
            return {}
        return {"restart": "model.ckpt"}

    def newest(self):
        return read_newest("model.ckpt", ".dp", read_checkpoint)[0].step if self.options() else 0

    def fork(self, before=lambda: None):
        """Train in another process; return its number."""
        pid = os.fork()
        if pid:
            return pid
        try:
            before()
            self.prepare().run()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must end here
            traceback.print_exc()
            os._exit(1)

    def finish(self):
        """Go on to the end; everything must be as without the crashes."""
        self.prepare().run()
        same_checkpoints(self.result, read_checkpoint(self.last))
        assert (self.work.path / "lcurve.out").read_text() == self.curve
        assert not list(self.work.path.glob(".*.tmp*"))


def kill_at_random(crashing, kills, seed, wait):
    rng = np.random.default_rng(seed)
    known = done = finished = 0
    while done < kills:
        pid = crashing.fork()
        time.sleep(rng.uniform(0.0, wait))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        now = crashing.newest()
        assert now >= known, "a checkpoint that was complete is lost"
        known = now
        if os.WIFSIGNALED(status):
            done += 1
            continue
        assert os.waitstatus_to_exitcode(status) == 0
        finished += 1
        crashing.finish()
        crashing.clear()
        known = 0
    crashing.finish()
    return finished


def test_kills_at_random_moments(work, elsewhere):
    if elsewhere:
        return
    kill_at_random(Crashing(work), 12, seed=1, wait=0.5)


@pytest.mark.slow
def test_many_kills_at_random_moments(work, elsewhere):
    if elsewhere:
        return
    kill_at_random(Crashing(work, max_ckpt_keep=1), 200, seed=2, wait=0.5)


class Faulty(files.SystemCalls):
    """Does ``fault`` at one event: before or after a write, an fsync or a rename."""

    def __init__(self, at, fault):
        self.count, self.at, self.fault = 0, at, fault

    def event(self):
        self.count += 1
        if self.count == self.at:
            self.fault()

    def write_done(self, path):
        self.event()

    def fsync(self, path):
        self.event()
        super().fsync(path)
        self.event()

    def rename(self, source, target):
        self.event()
        super().rename(source, target)
        self.event()


def full():
    raise OSError(28, "No space left on device")


def count_events(crashing, monkeypatch):
    counting = Faulty(0, None)
    monkeypatch.setattr(files, "calls", counting)
    crashing.prepare().run()
    monkeypatch.setattr(files, "calls", files.SystemCalls())
    return counting.count


def test_death_before_and_after_every_write_fsync_and_rename(work, monkeypatch, elsewhere):
    if elsewhere:
        return
    crashing = Crashing(work, QuickBackend, numb_steps=2, max_ckpt_keep=1)
    total = count_events(crashing, monkeypatch)
    assert total > 40
    known = []
    for at in range(1, total + 1):
        crashing.clear()

        def arm(at=at):
            files.calls = Faulty(at, lambda: os._exit(99))

        _, status = os.waitpid(crashing.fork(arm), 0)
        assert os.waitstatus_to_exitcode(status) == 99
        known.append(crashing.newest())
        if at % 4 == 0:
            crashing.finish()
    # The later the death, the newer what is left; a step counts from its rename on.
    assert known == sorted(known)
    assert set(known) == {0, 1, 2}


def test_a_full_disk_at_every_write_fsync_and_rename(work, monkeypatch):
    crashing = Crashing(work, QuickBackend, numb_steps=2, max_ckpt_keep=1)
    total = count_events(crashing, monkeypatch)
    known = []
    for at in range(1, total + 1):
        crashing.clear()
        monkeypatch.setattr(files, "calls", Faulty(at, full))
        with pytest.raises((OSError, InputError), match="No space left"):
            crashing.prepare().run()
        monkeypatch.setattr(files, "calls", files.SystemCalls())
        known.append(crashing.newest())
        assert not list(work.path.glob(".*.tmp*"))
    assert known == sorted(known)
    assert set(known) == {0, 1, 2}
    crashing.finish()


def test_a_torn_file_costs_one_checkpoint(work, caplog):
    crashing = Crashing(work, QuickBackend, numb_steps=4)
    crashing.prepare().run()
    size = os.path.getsize("model.ckpt-4.dp")
    for left in (0, 8, size // 2, size - 1):
        shutil.copy("model.ckpt-4.dp", "whole")
        with open("model.ckpt-4.dp", "r+b") as file:
            file.truncate(left)
        caplog.clear()
        trainer = crashing.prepare()
        assert trainer.step == 3
        assert "model.ckpt-3.dp of step 3 is used instead" in caplog.text
        shutil.move("whole", "model.ckpt-4.dp")
    with open("model.ckpt-4.dp", "r+b") as file:
        file.truncate(size // 2)
    crashing.finish()
