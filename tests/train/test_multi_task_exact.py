# SPDX-License-Identifier: LGPL-3.0-or-later
"""Multi-task trainings of DeePMD-kit 3.2.0, step by step: statistics, parameters, figures."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from runtime.test_step_exact import as_rounded

from deepmd.dpmodel.module import assign, split
from deepmd.dpmodel.schedule import learning_rate
from deepmd.runtime.step import StepOptions
from deepmd.schema import normalize
from deepmd.testing.systems import save_system
from deepmd.train.build import make_tasks, set_all_statistics
from deepmd.train.plan import make_plan

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "multi_task"
STEPS = {
    "numpy": ("autograd", "deepmd.np.train_step", "NumPyTrainStep"),
    "torch": ("torch", "deepmd.pt.train_step", "TorchTrainStep"),
    "jax": ("jax", "deepmd.jax.train_step", "JaxTrainStep"),
    "tensorflow": ("tensorflow", "deepmd.tf.train_step", "TfTrainStep"),
}
NAMES = sorted(path.stem for path in GOLDEN.glob("*.json"))
SLOW = [pytest.mark.slow]  # compiles for some ten seconds
CASES = [
    pytest.param(name, kind, id=f"{name}-{kind}", marks=SLOW if kind == "jax" else [])
    for name in NAMES
    for kind in STEPS
]


@pytest.fixture
def training(request, tmp_path, monkeypatch):
    """Return what is stored of a training, and our tasks for it with their statistics."""
    monkeypatch.chdir(tmp_path)
    about = json.loads((GOLDEN / f"{request.param}.json").read_text())
    stored = dict(np.load(GOLDEN / f"{request.param}.npz"))
    for branch, types in about["types"].items():
        frame = {k.split("/")[2]: v for k, v in stored.items() if k.startswith(f"data/{branch}/")}
        save_system(tmp_path / branch, types, ["O", "H"], frame)
    plan = make_plan(normalize(about["input"]), skip_neighbor_stat=True)
    tasks = make_tasks(plan)
    set_all_statistics(plan, tasks)
    return about, stored, tasks


def init_of(stored, branch):
    start = f"init/{branch}/"
    return {k.removeprefix(start): v for k, v in stored.items() if k.startswith(start)}


@pytest.mark.parametrize("training", NAMES, indirect=True)
def test_statistics(training):
    """Shared descriptors: all data alike; parameters of fittings: by probability; own biases."""
    _, stored, tasks = training
    for branch, task in tasks.items():
        want = init_of(stored, branch)
        trained, fixed = split(task.model)
        assert {*trained, *fixed} == set(want)
        for path, array in fixed.items():
            np.testing.assert_allclose(array, want[path], rtol=1e-9, atol=1e-11, err_msg=path)


@pytest.mark.parametrize(("training", "kind"), CASES, indirect=["training"])
def test_every_step(training, kind, request):
    about, stored, tasks = training
    package, module, name = STEPS[kind]
    pytest.importorskip(package)
    if kind in ("jax", "tensorflow"):
        request.getfixturevalue("quick_programs" if kind == "jax" else "eager_functions")
    for branch, task in tasks.items():
        assign(task.model, init_of(stored, branch))
    models = {k: task.model for k, task in tasks.items()}
    losses = {k: as_rounded(task.loss) for k, task in tasks.items()}
    widths = {k: model.get_sel() for k, model in models.items()}
    stepper = getattr(importlib.import_module(module), name)(
        models, losses, {"type": "Adam"}, StepOptions(widths=widths)
    )
    config, columns = about["input"], about["columns"]
    schedule = learning_rate(config["learning_rate"], config["training"]["numb_steps"])
    batches = {k: task.data.next() for k, task in tasks.items()}
    for k, branch in enumerate(about["branches"]):
        lr = schedule.value(k)
        figures = {branch: stepper.step(branch, batches[branch], lr)}
        for other in set(tasks) - {branch}:
            figures[other] = stepper.evaluate(other, batches[other], lr)
        for column, value in zip(columns, stored["lcurve"][k], strict=True):
            name, _, of = column.partition("_trn_")
            if of:
                assert float(figures[of][name]) == pytest.approx(value, rel=6e-3), (k, column)
        if k:
            compare(stepper, stored, k - 1, tasks)


def compare(stepper, stored, row, names):
    """Compare trained arrays with those after a step; shared ones stand under the first branch."""
    first = next(iter(names))
    for branch in names:
        for path, array in split(stepper.model(branch))[0].items():
            key = f"after/{branch}/{path}"
            want = stored[key if key in stored else f"after/{first}/{path}"][row]
            # Adam divides by the size of gradients, which brings out the rounding of the smallest.
            atol = 1e-8 * np.abs(want).max()
            np.testing.assert_allclose(array, want, rtol=0, atol=atol, err_msg=path)
