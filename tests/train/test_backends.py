# SPDX-License-Identifier: LGPL-3.0-or-later
"""Whole trainings and their restarts on every backend that is here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from train.helpers import same_checkpoints, two_branches

from deepmd.backend.backend import Backend
from deepmd.base.errors import InputError
from deepmd.dpmodel.module import split
from deepmd.train.checkpoints import find_checkpoints, read_newest

# Modules that must be importable, and the backend's name.
BACKENDS = {
    "dpmodel": ["autograd"],
    "jax": ["jax", "optax"],
    "pytorch": ["torch"],
    "tensorflow": ["tensorflow"],
}


@pytest.fixture(params=list(BACKENDS))
def backend(request):
    for module in BACKENDS[request.param]:
        pytest.importorskip(module)
    if request.param == "jax":
        request.getfixturevalue("quick_programs")
    chosen = Backend.get_backend(request.param)()
    try:
        chosen.train_step  # noqa: B018 - imports it
        chosen.read_checkpoint  # noqa: B018
    except ImportError as error:
        pytest.skip(f"not built yet: {error}")
    return chosen


def small(work, **more):
    given = {"numb_steps": 6, "save_freq": 1, "disp_freq": 1, "max_ckpt_keep": 2}
    config = work.config(**{**given, "validation_data": None, **more})
    config["model"]["descriptor"]["type_one_side"] = True
    return config


def paths(work, backend):
    suffix = backend.checkpoint_suffix
    return lambda step: work.path / f"model.ckpt-{step}{suffix}"


def test_n_and_m_steps_are_n_plus_m(work, run, backend):
    config, path = small(work), paths(work, backend)
    run(config, backend=backend)
    whole, rows = backend.read_checkpoint(path(6)), (work.path / "lcurve.out").read_text()
    assert np.isfinite(np.loadtxt("lcurve.out")).all()
    trainer = work.prepare(config, backend=backend)
    take = trainer.stepper.step

    def step(*args):
        if trainer.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(*args)

    trainer.stepper.step = step
    assert trainer.run().step == 3
    path(6).unlink()
    trainer = run(config, backend=backend, restart="model.ckpt")
    same_checkpoints(whole, backend.read_checkpoint(path(6)))
    assert (work.path / "lcurve.out").read_text() == rows


def test_backends_agree_in_the_first_steps(work, run, backend):
    if backend.key == "dpmodel":
        pytest.skip("the others are compared with it")
    config = small(work, numb_steps=3)
    trainers = [run(config, backend=b) for b in (Backend.get_backend("dpmodel")(), backend)]
    a, b = (split(t.stepper.model("Default"))[0] for t in trainers)
    assert a.keys() == b.keys()
    for k in a:
        np.testing.assert_allclose(a[k], b[k], rtol=1e-8, atol=1e-9, err_msg=k)


def test_branches_agree_and_continue(work, run, backend, request):
    """Two tasks, with shared parameters and with own ones; a restart is exact."""
    if backend.key == "dpmodel":
        pytest.skip("the others are compared with it")
    if backend.key == "tensorflow":
        request.getfixturevalue("eager_functions")
    config, path = two_branches({"neuron": [4], "seed": 2}), paths(work, backend)
    config["training"] |= {"numb_steps": 6, "save_freq": 3, "disp_freq": 3}
    reference = run(config, backend=Backend.get_backend("dpmodel")())
    tested = run(config, backend=backend)
    chosen = {tested.choose_task(k) for k in range(6)}
    assert chosen == {"ice", "gas"}
    for name in chosen:
        a, b = (split(t.stepper.model(name))[0] for t in (reference, tested))
        assert a.keys() == b.keys()
        for k in a:
            np.testing.assert_allclose(a[k], b[k], rtol=1e-7, atol=1e-8, err_msg=k)
    whole, rows = backend.read_checkpoint(path(6)), (work.path / "lcurve.out").read_text()
    for file in work.path.glob("model.ckpt-6*"):
        file.unlink()
    run(config, backend=backend, restart=path(3).name)
    same_checkpoints(whole, backend.read_checkpoint(path(6)))
    assert (work.path / "lcurve.out").read_text() == rows


SCRIPT = """
import sys
if sys.argv[1] == "jax":  # as the fixture quick_programs: other programs would round otherwise
    sys.path.insert(0, sys.argv[2])
    from conftest import compile_quickly
    compile_quickly()
from deepmd.backend.backend import Backend
from deepmd.train.entry import train
options = {"restart": "model.ckpt"} if len(sys.argv) > 3 else {}
train(INPUT="input.json", backend=Backend.get_backend(sys.argv[1])(), **options)
"""


@pytest.mark.slow
def test_kills_of_a_real_process(work, run, backend):
    """Three kills while it trains; slow since every process imports the framework anew."""
    suffix = backend.checkpoint_suffix
    config = small(work) | {}
    config["training"]["numb_steps"] = 60
    run(config, backend=backend)
    path = paths(work, backend)
    whole, rows = backend.read_checkpoint(path(60)), (work.path / "lcurve.out").read_text()
    for file in [*work.path.glob("model.ckpt*"), work.path / "lcurve.out"]:
        file.unlink()

    def newest():
        try:
            find_checkpoints("model.ckpt", suffix)
        except InputError:
            return 0
        return read_newest("model.ckpt", suffix, backend.read_checkpoint)[0].step

    tests = str(Path(__file__).resolve().parents[1])
    rng = np.random.default_rng(0)
    for _ in range(3):
        before = newest()
        command = [sys.executable, "-c", SCRIPT, backend.key, tests]
        command += ["restart"] if before else []
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            end = time.monotonic() + 120
            while newest() <= before and time.monotonic() < end and process.poll() is None:
                time.sleep(0.05)
            time.sleep(rng.uniform(0, 0.2))
            process.kill()
        assert newest() > before
    run(config, backend=backend, restart="model.ckpt")
    same_checkpoints(whole, backend.read_checkpoint(path(60)))
    assert (work.path / "lcurve.out").read_text() == rows
