# SPDX-License-Identifier: LGPL-3.0-or-later
"""Five steps of DeePMD-kit 3.2.0 on stored batches: losses, gradients and parameters."""

import importlib
import json

import numpy as np
import pytest
from conftest import reference_path

from deepmd.data.system import System
from deepmd.dpmodel import ops
from deepmd.dpmodel.loss import build_loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io import load_model
from deepmd.runtime.step import StepOptions

STEPS = {
    "numpy": ("autograd", "deepmd.np.train_step", "NumPyTrainStep"),
    "torch": ("torch", "deepmd.pt.train_step", "TorchTrainStep"),
    "jax": ("jax", "deepmd.jax.train_step", "JaxTrainStep"),
    "tensorflow": ("tensorflow", "deepmd.tf.train_step", "TfTrainStep"),
}
NAMES = ["step_se_e2_a", "step_se_e2_a_virial", "step_dpa1", "step_dpa1_mixed_padded"]


def read(folder, name):
    return Model.deserialize(load_model(folder / f"{name}.dp")["model"])


def load(folder, record, loss, model):
    system = System(str(folder / record["system"]), type_map=model.get_type_map())
    batch = system.load(record["frames"], loss.label_requirements())
    batch.edges = batch_edges(batch, model.rcut)
    return batch


def as_rounded(loss):
    """Round the 1/natoms of energy and virial to float32, as DeePMD-kit does."""
    exact = loss.of_frame

    def of_frame(difference, labels, which, mask):
        assert mask is None
        inverse = ops.cast(ops.cast(1.0 / labels.natoms, "float32"), "float64")
        return exact(difference, labels._replace(natoms=1.0 / inverse), which)

    loss.of_frame = of_frame
    return loss


def worst(got, want):
    assert set(got) == set(want)
    return max(np.abs(np.asarray(got[k]) - want[k]).max() / np.abs(want[k]).max() for k in want)


def cases():
    """Every training on every backend; JAX compiles for some ten seconds."""
    for name in NAMES:
        for backend in STEPS:
            slow = backend == "jax" and name != "step_se_e2_a_virial"
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(name, backend, id=f"{name}-{backend}", marks=marks)


@pytest.mark.parametrize(("name", "backend"), list(cases()))
def test_five_steps(name, backend, reference, request):
    package, module, kind = STEPS[backend]
    pytest.importorskip(package)
    quick = {"jax": "quick_programs", "tensorflow": "eager_functions"}
    if backend in quick:
        request.getfixturevalue(quick[backend])
    kind = getattr(importlib.import_module(module), kind)
    folder = reference_path(f"train/{name}/grad_step0.npz").parent
    about = json.loads((folder / "input.json").read_text())
    records = json.loads((folder / "steps.json").read_text())["steps"]
    model = read(folder, "init")
    loss = as_rounded(build_loss(about["loss"], about["learning_rate"]["start_lr"]))
    # Of JAX: tables wide enough for every frame, so that one program serves all steps.
    options = StepOptions(widths={"Default": model.get_sel()})
    step = kind({"Default": model}, {"Default": loss}, {"type": "Adam"}, options)

    first = records[0]
    if backend != "jax" or "virial" in name:  # there it is one more compilation
        batch = load(folder, first, loss, model)
        _, grads = step.gradients("Default", batch, first["learning_rate"])
        stored = np.load(folder / "grad_step0.npz")
        names = {
            k: "atomic_model." + k.replace("/@variables", "").replace("/", ".") for k in stored
        }
        assert worst(grads, {names[k]: stored[k] for k in stored}) < 1e-9

    for k, record in enumerate(records):
        batch = load(folder, record, loss, model)
        figures = step.step("Default", batch, record["learning_rate"])
        assert float(figures["loss"]) == pytest.approx(record["loss"], rel=1e-9)
        for key in set(figures) & set(record["more_loss"]):
            assert float(figures[key]) == pytest.approx(record["more_loss"][key], rel=1e-7), key
        if k in (0, 4):
            after = split(read(folder, f"after_step{k + 1}"))[0]
            assert worst(split(step.model("Default"))[0], after) < 1e-9
    if backend == "jax" and "mixed" not in name:  # there the frames differ in size
        assert step.compilations == 1 + ("virial" in name)
