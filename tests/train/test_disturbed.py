# SPDX-License-Identifier: LGPL-3.0-or-later
"""Trainings that are disturbed, as processes: what is said, and what is left behind.

| disturbance | end of the process | left behind |
|---|---|---|
| a second training in the folder | status 1, one line | everything of the first, which goes on |
| kill -9, then a restart | signal 9 | complete checkpoints, a lock that the next run takes over |
| SIGUSR1, SIGHUP | status 128 + number | a checkpoint of that step, no lock |
| full disk at a row or checkpoint | status 1, one line | the checkpoint before, no fragment, no lock |
"""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from deepmd.runtime.checkpoint_file import read_checkpoint
from deepmd.train.checkpoints import read_newest
from deepmd.train.folder import LOCK

DP = [sys.executable, "-m", "deepmd", "--dp", "train", "input.json"]


class Process:
    """A training in a process of its own."""

    def __init__(self, work, *more, **training):
        config = work.config(numb_steps=100_000, disp_freq=1, save_freq=2, **training)
        config["model"]["descriptor"]["type_one_side"] = True
        work.write(config)
        self.path = work.path
        self.process = subprocess.Popen(
            [*DP, *more], cwd=work.path, stderr=subprocess.PIPE, text=True
        )

    def wait_for_step(self, step):
        """Wait until a checkpoint of a step, or of a later one, is there."""
        deadline = time.monotonic() + 300
        while self.newest() < step:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def newest(self):
        if not (self.path / "checkpoint").exists():
            return 0
        name = (self.path / "checkpoint").read_text()
        return int(name.removesuffix(".dp").rpartition("-")[2])

    def end(self, number=None):
        """Send a signal; return status, what was said beside the log, and the log."""
        if number is not None:
            self.process.send_signal(number)
        text = self.process.communicate(timeout=300)[1]
        lines = text.splitlines()
        return self.process.returncode, [x for x in lines if x.startswith("dp:")], text


@pytest.fixture
def start(work):
    running = []

    def begin(*more, **training):
        running.append(Process(work, *more, **training))
        return running[-1]

    yield begin
    for one in running:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def left(work):
    """Names of files that should not stay."""
    return sorted(p.name for p in work.path.glob(".*"))


@pytest.mark.slow  # starts Python several times
def test_two_trainings_in_one_folder(work, start):
    first = start()
    first.wait_for_step(2)
    rows = (work.path / "lcurve.out").read_text().splitlines()
    status, said, text = start().end()
    assert status == 1
    assert len(said) == 1 and f"process {first.process.pid} on" in said[0], text
    first.wait_for_step(first.newest() + 2)
    assert first.end(signal.SIGTERM)[0] == 128 + signal.SIGTERM
    curve = (work.path / "lcurve.out").read_text().splitlines()
    assert curve[: len(rows)] == rows
    steps = [int(row.split()[0]) for row in curve[2:]]
    assert steps == list(range(1, len(steps) + 1))
    assert not list(work.path.glob("#*"))
    assert left(work) == []


@pytest.mark.slow  # starts Python several times
def test_kill_9_and_restart(work, start):
    first = start()
    first.wait_for_step(4)
    assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    assert LOCK in left(work)
    known = first.newest()
    assert read_newest("model.ckpt", ".dp", read_checkpoint)[0].step == known
    second = start("--restart", "model.ckpt")
    second.wait_for_step(known + 2)
    status, _, text = second.end(signal.SIGUSR1)
    assert status == 128 + signal.SIGUSR1
    assert text.count("its lock is taken over") == 1
    step = read_newest("model.ckpt", ".dp", read_checkpoint)[0].step
    assert f"stopped by SIGUSR1 after step {step} of" in text
    assert left(work) == []
    steps = [int(x.split()[0]) for x in (work.path / "lcurve.out").read_text().splitlines()[2:]]
    assert steps == list(range(1, step + 1))


def small_disk(work, command, kilobytes):
    """Run a command of the shell where the folder ``disk`` is a file system of that size."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    inner = f"mount -t tmpfs -o size={kilobytes}k,mode=777 tmpfs {work.path / 'disk'} || exit 77\n"
    done = subprocess.run(
        ["unshare", "-r", "-m", "sh", "-c", f"{inner}cd {work.path / 'disk'}\n{command}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode in (1, 77) and "DEEPMD" not in done.stderr:
        pytest.skip("no file system can be mounted here")
    return done


FULL = """
cp ../input.json .
{dp}; echo "status $?" >&2
ls -A >&2
rm filler
{dp} --restart model.ckpt; echo "status $?" >&2
ls -A >&2
"""


@pytest.mark.slow  # starts Python several times
@pytest.mark.parametrize("kilobytes", [230, 270])
def test_full_disk(work, kilobytes):
    (work.path / "disk").mkdir()
    systems = {"systems": str(work.path / "a")}
    config = work.config(
        training_data=systems, validation_data=None, numb_steps=40, disp_freq=1, save_freq=2
    )
    config["training"]["max_ckpt_keep"] = 1
    work.write(config)
    fill = "head -c 120k /dev/zero > filler\n"
    done = small_disk(work, fill + FULL.format(dp=" ".join(DP)), kilobytes)
    first, _, second = done.stderr.partition("status ")
    assert second.startswith("1\n"), done.stderr
    said = [line for line in first.splitlines() if line.startswith("dp:")]
    assert len(said) == 1 and "No space left on device" in said[0], done.stderr
    assert "Traceback" not in done.stderr
    listing, _, after = second.partition("status ")
    assert ".tmp" not in listing and LOCK not in listing, listing
    assert "model.ckpt.dp" in listing
    assert after.startswith("0\n"), done.stderr
    assert "model.ckpt-40.dp" in after


@pytest.mark.slow  # starts Python
def test_a_folder_that_may_not_be_written(work):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    work.write(work.config())
    work.path.chmod(0o500)
    try:
        done = subprocess.run(DP, cwd=work.path, capture_output=True, text=True, check=False)
    finally:
        work.path.chmod(0o700)
    assert done.returncode == 1
    assert "a training cannot write here" in done.stderr.splitlines()[-1]
