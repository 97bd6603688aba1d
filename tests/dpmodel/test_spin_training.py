# SPDX-License-Identifier: LGPL-3.0-or-later
"""The loss of models with spins, their statistics and training: numbers of DeePMD-kit."""

import json

import numpy as np
import pytest
from golden.cases import named, path

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.data.system import System
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.loss import EnergySpinLoss, Labels, build_loss
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import split
from deepmd.io import load_model
from deepmd.np.train_step import NumPyTrainStep
from deepmd.runtime.step import StepOptions
from deepmd.schema.cross import check_loss

#: DeePMD-kit's class takes 0 for prefactors that are not given, its input something else.
NOTHING = {f"{when}_pref_{t}": 0.0 for when in ("start", "limit") for t in EnergySpinLoss.terms}
SPIN = Label("spin", 3, True, required=True)

# -- loss -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spin_mse", "spin_mae"])
def test_loss_values(name, reference):
    cases = json.loads((reference / "train/loss_values.json").read_text())
    case = next(c for c in cases if c["name"] == name)
    z = np.load(reference / "train/loss_values.npz")
    nf, na = z["mask"].shape

    def read(names):
        arrays = {k: z[p] for k, p in names.items()}
        return {k: v if v.ndim == 2 else v.reshape(nf * na, -1) for k, v in arrays.items()}

    values, pred = read(case["label"]), read(case["pred"])
    assert 0 < pred["mask_mag"].sum() < nf * na
    labels = Labels(
        values,
        dict.fromkeys(values, 1.0),
        np.full(nf, float(na)),
        np.repeat(np.arange(nf), na),
        np.ones(nf),
    )
    loss = EnergySpinLoss(**NOTHING | case["config"])
    total, figures = loss(case["learning_rate"], pred, labels)
    assert total == pytest.approx(case["loss"], rel=1e-12)
    assert sorted(figures) == sorted(loss.metric_names())
    for key, value in figures.items():
        assert value == pytest.approx(case["more"][key], rel=1e-12), key
    # Without a label, its term is gone.
    labels.find["force_mag"] = 0.0
    less, figures = loss(case["learning_rate"], pred, labels)
    assert less < total
    assert np.isnan(figures[f"{'mae' if name.endswith('mae') else 'rmse'}_fm"])


def test_loss_without_magnetic_atoms_is_finite():
    zero = np.zeros((2, 3))
    pred = {"force_mag": zero, "mask_mag": np.zeros((2, 1))}
    values = {"force_mag": zero + 1.0}
    labels = Labels(values, {"force_mag": 1.0}, np.array([2.0]), np.zeros(2, np.int64), np.ones(1))
    loss = EnergySpinLoss(1e-3, **NOTHING | {"start_pref_fm": 1.0, "limit_pref_fm": 1.0})
    assert loss(1e-3, pred, labels)[0] == 0.0


def test_loss_dictionary_and_options():
    loss = EnergySpinLoss(1e-3, **NOTHING | {"start_pref_fm": 1.0, "start_pref_v": 1.0})
    data = loss.serialize()
    assert (data["@class"], data["@version"]) == ("EnergySpinLoss", 2)
    assert EnergySpinLoss.deserialize(data).serialize() == data
    old = {k: v for k, v in data.items() if k not in ("loss_func", "intensive_ener_virial")}
    assert EnergySpinLoss.deserialize({**old, "@version": 1}).serialize() == data
    assert loss.derivatives() == ("force", "virial")
    assert [label.name for label in loss.label_requirements()] == ["force_mag", "virial"]
    with pytest.raises(TypeError, match="start_pref_f"):
        EnergySpinLoss(1e-3, start_pref_f=1.0)
    with pytest.raises(NotAvailableError, match="start_pref_pf"):
        EnergySpinLoss(1e-3, start_pref_pf=1.0)
    with pytest.raises(NotAvailableError, match="relative_f"):
        EnergySpinLoss(1e-3, relative_f=0.0)
    with pytest.raises(NotAvailableError, match="limit_pref_pf"):
        check_loss({"type": "ener_spin", "limit_pref_pf": 1.0})  # before any model is built


def test_loss_needs_a_model_with_spins(reference):
    case = named("spin_se_e2_a")
    model = Model.deserialize(load_model(path(case, "dp"))["model"])
    assert build_loss({"type": "ener_spin"}, 1e-3, model).metric_names()[-1] == "rmse_fr"
    with pytest.raises(InputError, match="loss/type"):
        build_loss({"type": "ener_spin"}, 1e-3, Model(model.atomic_model))


# -- training -------------------------------------------------------------------------------------


def worst(got, want):
    assert set(got) == set(want)
    return max(
        np.abs(np.asarray(got[k]) - want[k]).max() / (np.abs(want[k]).max() or 1.0) for k in want
    )


@pytest.fixture
def training(reference):
    folder = reference / "train/step_spin"
    about = json.loads((folder / "input.json").read_text())
    records = json.loads((folder / "steps.json").read_text())["steps"]
    return folder, about, records


def read(folder, name):
    return Model.deserialize(load_model(folder / f"{name}.dp")["model"])


def test_statistics(training):
    """The sample is the whole system, one batch of ten frames."""
    folder, about, _ = training
    system = System(
        str(folder / about["training"]["training_data"]["systems"][0]),
        type_map=about["model"]["type_map"],
    )
    model, fresh = read(folder, "init"), read(folder, "init")
    batch = fresh.expand(system.load(range(10), [SPIN]), all_centers=True)
    descriptor = fresh.atomic_model.descriptor
    descriptor.set_statistics(descriptor.environment_sums(batch))
    want = model.atomic_model.descriptor
    np.testing.assert_allclose(descriptor.davg, want.davg, rtol=0, atol=1e-14)
    np.testing.assert_allclose(descriptor.dstd, want.dstd, rtol=0, atol=1e-14)


def test_five_steps(training):
    folder, about, records = training
    model = read(folder, "init")
    system = System(str(folder / records[0]["system"]), type_map=model.get_type_map())
    # DeePMD-kit rounds 1/natoms to float32.
    n = system.natoms
    for key in about["loss"]:
        if key.endswith(("pref_e", "pref_v")):
            about["loss"][key] *= float(np.float32(1 / n)) * n
    loss = build_loss(about["loss"], about["learning_rate"]["start_lr"], model)
    step = NumPyTrainStep({"Default": model}, {"Default": loss}, {"type": "Adam"}, StepOptions())

    def load(record):
        return system.load(record["frames"], [*loss.label_requirements(), SPIN])

    first = records[0]
    _, grads = step.gradients("Default", load(first), first["learning_rate"])
    stored = np.load(folder / "grad_step0.npz")
    names = {
        k: k.replace("backbone_model", "atomic_model").replace("/@variables", "").replace("/", ".")
        for k in stored
    }
    assert worst(grads, {names[k]: stored[k] for k in stored}) < 1e-9
    for k, record in enumerate(records):
        figures = step.step("Default", load(record), record["learning_rate"])
        assert figures["loss"] == pytest.approx(record["loss"], rel=1e-9)
        for key in set(figures) & set(record["more_loss"]):
            assert figures[key] == pytest.approx(record["more_loss"][key], rel=1e-9), key
        if k in (0, 4):
            after = split(read(folder, f"after_step{k + 1}"))[0]
            assert worst(split(step.model("Default"))[0], after) < 1e-9


def test_gradients_are_finite_where_spins_vanish(training):
    folder, about, records = training
    model = read(folder, "init")
    system = System(str(folder / records[0]["system"]), type_map=model.get_type_map())
    loss = build_loss(about["loss"], about["learning_rate"]["start_lr"], model)
    batch = system.load([0], [*loss.label_requirements(), SPIN])
    batch.spin[:8] = 0.0
    step = NumPyTrainStep({"Default": model}, {"Default": loss}, {"type": "Adam"}, StepOptions())
    figures, grads = step.gradients("Default", batch, 1e-3)
    assert np.isfinite(figures["loss"])
    assert all(np.isfinite(g).all() for g in grads.values())
    assert np.abs(grads["atomic_model.descriptor.embeddings.networks.8.layers.0.w"]).max() > 0
