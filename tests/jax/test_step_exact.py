# SPDX-License-Identifier: LGPL-3.0-or-later
"""Five steps of DeePMD-kit 3.2.0 on stored batches: losses, gradients and parameters."""

import json

import numpy as np
import pytest

pytest.importorskip("jax")

from deepmd.data.system import System
from deepmd.dpmodel.loss import EnergyLoss, build_loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.training.step import StepOptions
from deepmd.io import load_model
from deepmd.jax.train_step import JaxTrainStep


def read(folder, name):
    return Model.deserialize(load_model(folder / f"{name}.dp")["model"])


def load(folder, record, loss, model):
    system = System(str(folder / record["system"]), type_map=model.get_type_map())
    batch = system.load(record["frames"], loss.label_requirements())
    batch.edges = batch_edges(batch, model.rcut)
    return batch


def worst(got, want):
    assert set(got) == set(want)
    return max(np.abs(got[k] - want[k]).max() / np.abs(want[k]).max() for k in want)


def check_gradients(step, folder, batch, record):
    _, grads = step.gradients("Default", batch, record["learning_rate"])
    stored = np.load(folder / "grad_step0.npz")
    names = {k: "atomic_model." + k.replace("/@variables", "").replace("/", ".") for k in stored}
    assert worst(grads, {names[k]: stored[k] for k in stored}) < 1e-9


@pytest.mark.parametrize("name", ["step_se_e2_a", "step_se_e2_a_virial"])
def test_five_steps(name, reference):
    folder = reference / "train" / name
    about = json.loads((folder / "input.json").read_text())
    records = json.loads((folder / "steps.json").read_text())["steps"]
    model = read(folder, "init")
    # DeePMD-kit rounds 1/natoms to float32.
    n = load(folder, records[0], EnergyLoss(1e-3), model).n_atoms / len(records[0]["frames"])
    for key in about["loss"]:
        if key.endswith(("pref_e", "pref_v")):
            about["loss"][key] *= float(np.float32(1 / n)) * n
    loss = build_loss(about["loss"], about["learning_rate"]["start_lr"])
    # Wide enough for every frame: one program serves all steps.
    options = StepOptions(widths={"Default": model.get_sel()})
    step = JaxTrainStep({"Default": model}, {"Default": loss}, {"type": "Adam"}, options)

    if "virial" in name:  # of one case only: each is a compilation
        check_gradients(step, folder, load(folder, records[0], loss, model), records[0])
    for k, record in enumerate(records):
        batch = load(folder, record, loss, model)
        figures = step.step("Default", batch, record["learning_rate"])
        assert float(figures["loss"]) == pytest.approx(record["loss"], rel=1e-9)
        for key in set(figures) & set(record["more_loss"]):
            assert float(figures[key]) == pytest.approx(record["more_loss"][key], rel=1e-7), key
        if k in (0, 4):
            after = split(read(folder, f"after_step{k + 1}"))[0]
            assert worst(split(step.model("Default"))[0], after) < 1e-9
    assert step.compilations == 1 + ("virial" in name)
