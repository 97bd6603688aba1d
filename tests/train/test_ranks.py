# SPDX-License-Identifier: LGPL-3.0-or-later
"""Processes that train together do what one does with a larger batch, and end together."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from train.helpers import write_system
from train.ranks import Ranks, free_port

from deepmd.backend.backend import Backend
from deepmd.dpmodel.module import split

pytest.importorskip("torch")


@pytest.fixture
def pytorch():
    return Backend.get_backend("pytorch")()


@pytest.fixture(params=["pytorch", "jax"])
def backend(request):
    if request.param == "jax":
        pytest.importorskip("jax")
        request.getfixturevalue("quick_programs")
    return Backend.get_backend(request.param)()


@pytest.fixture
def config(work):
    """An input with one frame per batch; one system has fewer frames than there are processes."""
    write_system(work.path / "d", seed=4, frames=1)
    config = work.config(numb_steps=8, save_freq=4, disp_freq=1, training_data=None)
    config["training"]["training_data"] = {"systems": ["a", "b", "d"], "batch_size": 1}
    config["training"]["validation_data"] = {"systems": ["c"], "batch_size": 1}
    config["model"]["descriptor"]["type_one_side"] = True
    config["model"]["descriptor"].pop("seed")  # the numbers of the first process are used
    config["training"]["gradient_max_norm"] = 0.5
    config["loss"] |= {"start_pref_e": 1.0, "start_pref_f": 10.0}
    return config


def doubled(config):
    """The same for one process."""
    for kind in {"training_data", "validation_data"} & {*config["training"]}:
        config["training"][kind]["batch_size"] = 2
    return config


def curve():
    return np.loadtxt("lcurve.out", ndmin=2)


def close(a, b):
    """Checkpoints agree to rounding: parameters, statistics, biases, moments."""
    pairs = [(a.optimizer, b.optimizer)]
    pairs += zip(split(a.models["Default"]), split(b.models["Default"]), strict=True)
    for x, y in pairs:
        assert x.keys() == y.keys()
        for name in x:
            assert np.abs(np.asarray(x[name]) - np.asarray(y[name])).max(initial=0) < 1e-10, name
    for name in ("data.Default.cursor", "data.Default.pass", "data.Default.step"):
        assert np.array_equal(a.trainer[name], b.trainer[name]), name


def test_two_processes_train_like_one_and_one_goes_on(work, config, run, backend, caplog):
    extras = backend.key == "pytorch"  # a program each for JAX
    if extras:
        config["training"] |= {"enable_ema": True, "ema_decay": 0.5}
        config["validating"] = {"full_validation": True, "validation_freq": 4, "full_val_start": 0}
    else:
        config["training"].pop("validation_data")
    work.write(config)
    flag, suffix = f"--{backend.key}", backend.checkpoint_suffix
    status, written = Ranks(work.path, work.path, backend=flag).wait()
    assert status == [0, 0], written
    assert "2 processes train together" in written[0]
    assert not written[1], "the second process is silent"
    assert not list(work.path.glob("#*")), "one process owns the folder"
    both, read = curve(), backend.read_checkpoint
    first, last = read(f"model.ckpt-4{suffix}"), read(f"model.ckpt-8{suffix}")
    if extras:
        mean, errors = read("model_ema.ckpt-8.pt"), (work.path / "val.log").read_text()
    assert last.trainer["ranks"] == 2
    # One process, from the same numbers and with the batches of both.
    work.write(doubled(config))
    for path in work.path.glob("model.ckpt*"):
        if path.name != f"model.ckpt-4{suffix}":
            path.unlink()
    run(config, backend=backend, restart=f"model.ckpt-4{suffix}")
    assert "2 process(es) wrote the checkpoint, 1 continue: a step takes 1 batches" in caplog.text
    close(read(f"model.ckpt-8{suffix}"), last)
    if extras:
        close(read("model_ema.ckpt-8.pt"), mean)
        assert (work.path / "val.log").read_text() == errors
    one = curve()
    assert one[:, 0].tolist() == both[:, 0].tolist()
    assert np.abs(one - both).max() <= 1e-2 * np.abs(both).max()  # figures have three digits
    # The statistics of two processes are those of one.
    trainer = work.prepare(config, backend=backend)
    new, old = (split(m) for m in (trainer.tasks["Default"].model, first.models["Default"]))
    for name in new[1]:
        assert np.abs(new[1][name] - old[1][name]).max(initial=0) < 1e-12, name


@pytest.mark.slow  # two processes, twice; tests/pt/test_distributed.py has the steps
def test_parameters_are_divided_and_any_number_goes_on(work, config, run, pytorch):
    config["training"]["zero_stage"] = 3
    work.write(config)
    status, written = Ranks(work.path, work.path).wait()
    assert status == [0, 0], written
    last = pytorch.read_checkpoint("model.ckpt-8.pt")
    (work.path / "model.ckpt-8.pt").unlink()
    status, written = Ranks(work.path, work.path, options=("--restart", "model.ckpt-4.pt")).wait()
    assert status == [0, 0], written
    again = pytorch.read_checkpoint("model.ckpt-8.pt")
    for x, y in zip(split(again.models["Default"]), split(last.models["Default"]), strict=True):
        assert all(np.array_equal(x[name], y[name]) for name in y), "exact"
    (work.path / "model.ckpt-8.pt").unlink()
    config["training"]["zero_stage"] = 0
    run(doubled(config), backend=pytorch, restart="model.ckpt-4.pt")
    close(pytorch.read_checkpoint("model.ckpt-8.pt"), last)


@pytest.mark.slow  # two processes; tests/runtime/test_control.py has the same with threads
def test_an_error_of_one_process_ends_both_with_one_line(work, config):
    work.write(config)
    other = work.path / "other"
    shutil.copytree(work.path, other)
    (other / "d/set.000/force.npy").unlink()
    np.save(other / "d/set.000/force.npy", np.zeros((1, 21)))
    status, written = Ranks(work.path, other).wait()
    assert status == [1, 1]
    assert written[1] == ""
    assert [line for line in written[0].splitlines() if line.startswith("dp: ")] == [
        line for line in written[0].splitlines() if "force.npy" in line
    ]
    assert "Traceback" not in "".join(written)
    assert not (work.path / "lcurve.out").exists()


@pytest.mark.slow  # two processes
def test_numbers_that_break_end_both_with_one_line(work, config):
    config["learning_rate"] |= {"start_lr": 1e200, "stop_lr": 1e200}
    config["loss"] = {"type": "ener", "start_pref_e": 1.0, "start_pref_f": 1.0}
    del config["training"]["gradient_max_norm"]
    work.write(config)
    status, written = Ranks(work.path, work.path).wait()
    assert status == [1, 1]
    assert written[1] == ""
    lines = [line for line in written[0].splitlines() if line.startswith("dp: ")]
    assert len(lines) == 1
    assert "Å apart" in lines[0]
    assert len(list(work.path.glob("diverged-step-*.npz"))) == 2
    assert len(list(work.path.glob("diverged-step-*-rank-1.npz"))) == 1


def started(ranks, path, steps=2):
    """Wait until a number of rows is written."""
    end = time.monotonic() + 200
    while time.monotonic() < end:
        if path.exists() and len(path.read_text().splitlines()) > 2 + steps:
            return
        if any(p.poll() is not None for p in ranks.processes):
            pytest.fail(str(ranks.wait()))
        time.sleep(0.02)
    ranks.kill()
    pytest.fail("no step was taken")


def endless(config):
    config["training"] |= {"numb_steps": 100000, "save_freq": 100000, "disp_freq": 1}
    config["training"].pop("validation_data")
    config["learning_rate"] |= {"start_lr": 1e-3, "stop_lr": 1e-3}  # whatever its length
    return config


@pytest.mark.slow  # two processes
def test_a_signal_of_one_process_stops_both(work, config, pytorch):
    work.write(endless(config))
    ranks = Ranks(work.path, work.path)
    started(ranks, work.path / "lcurve.out")
    ranks.processes[1].send_signal(signal.SIGUSR1)
    status, written = ranks.wait()
    assert status == [128 + signal.SIGUSR1] * 2
    assert "stopped by SIGUSR1 after step" in written[0]
    assert written[1] == ""
    assert len(list(work.path.glob("model.ckpt-*.pt"))) == 1


def kill_one(work, config, pytorch, run, victim, after):
    """Kill a process; the other ends within 30 s, and its last complete step is saved."""
    work.write(endless(config))
    ranks = Ranks(work.path, work.path)
    started(ranks, work.path / "lcurve.out")
    time.sleep(after)
    ranks.processes[victim].kill()
    begin = time.monotonic()
    status, written = ranks.wait(timeout=60)
    assert time.monotonic() - begin < 30
    other = 1 - victim
    assert status[victim] == -signal.SIGKILL
    assert status[other] == 1
    lines = [line for line in written[other].splitlines() if line.startswith("dp: ")]
    assert len(lines) == 1
    assert f"process {victim} of 2 ended without a message" in lines[0]
    assert "Traceback" not in written[other]
    if victim == 0:
        return
    [path] = work.path.glob("model.ckpt-*.pt")
    step = int(path.stem.split("-")[1])
    assert f"saved {path.name}" in written[0]
    saved = pytorch.read_checkpoint(path)
    for old in work.path.glob("model.ckpt*"):
        old.unlink()
    # One process that was not disturbed, with the batches of both.
    config = doubled_training(config)
    config["training"] |= {"numb_steps": step + 2, "save_freq": step}
    config["model"]["descriptor"]["seed"] = 1
    run(config, backend=pytorch)
    close(pytorch.read_checkpoint(path.name), saved)
    end = work.path / f"model.ckpt-{step + 2}.pt"
    undisturbed = pytorch.read_checkpoint(end)
    # The checkpoint of the process that was left goes on.
    end.unlink()
    pytorch.write_checkpoint(path, saved)
    run(config, backend=pytorch, restart=path.name)
    close(pytorch.read_checkpoint(end), undisturbed)


def doubled_training(config):
    config["training"]["training_data"]["batch_size"] = 2
    return config


def test_one_ends_when_the_other_is_killed(work, config, pytorch, run):
    config["model"]["descriptor"]["seed"] = 1
    kill_one(work, config, pytorch, run, 1, random.random())


@pytest.mark.slow  # two processes
def test_the_others_end_when_the_first_is_killed(work, config, pytorch, run):
    kill_one(work, config, pytorch, run, 0, random.random())


@pytest.mark.slow  # 20 trainings
@pytest.mark.parametrize("moment", range(20))
def test_killed_at_many_moments(work, config, pytorch, run, moment):
    config["model"]["descriptor"]["seed"] = 1
    kill_one(work, config, pytorch, run, moment % 2, 3 * random.Random(moment).random())


@pytest.mark.slow  # two processes
def test_srun_trains_like_torchrun(work, config, pytorch):
    """The variables of srun, with two processes of this computer in place of its tasks."""
    config["training"] |= {"numb_steps": 2, "save_freq": 2}
    work.write(config)
    names = ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID")
    status, written = Ranks(work.path, work.path, names=names).wait()
    assert status == [0, 0], written
    assert "2 processes train together (srun)" in written[0]
    assert pytorch.read_checkpoint("model.ckpt-2.pt").trainer["ranks"] == 2


@pytest.mark.slow  # two processes
@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun")
def test_mpirun_trains(work, config, pytorch):
    config["training"] |= {"numb_steps": 2, "save_freq": 2}
    work.write(config)
    command = ["mpirun", "-n", "2", sys.executable, "-m", "deepmd", "--pt", "train", "input.json"]
    where = {"PYTHONPATH": str(Path(__file__).parents[2]), "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(
        command,
        env={**os.environ, **where, "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"},
        cwd=work.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "2 processes train together (mpirun)" in done.stderr
    assert pytorch.read_checkpoint("model.ckpt-2.pt").trainer["ranks"] == 2


@pytest.mark.parametrize("backend", ["--tf", "--dp"])
def test_backends_of_one_process_refuse(work, config, backend):
    if backend == "--tf":
        pytest.importorskip("tensorflow")
    work.write(config)
    status, written = Ranks(work.path, work.path, backend=backend).wait()
    assert status == [1, 1]
    assert re.search(r"^dp: WORLD_SIZE=2: .* trains in one process only", written[0], re.MULTILINE)
    assert len("".join(written).splitlines()) == 1
