# SPDX-License-Identifier: LGPL-3.0-or-later
"""Losses of tensors, densities of states and properties."""

import json
import shutil

import numpy as np
import pytest
from conftest import REFERENCE, reference_path

from deepmd.base.errors import InputError
from deepmd.data.search import open_systems
from deepmd.dpmodel.loss import DOSLoss, Labels, PropertyLoss, TensorLoss, build_loss
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.module import split
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io import load_model
from deepmd.np.train_step import NumPyTrainStep
from deepmd.runtime.step import StepOptions
from deepmd.schema import normalize
from tests.members import FITTINGS, section

CLASSES = {"DOSLoss": DOSLoss, "PropertyLoss": PropertyLoss, "TensorLoss": TensorLoss}


def _cases():
    cases = json.loads((REFERENCE / "train/loss_values.json").read_text())
    return [c for c in cases if c["loss_class"] in CLASSES]


def flat(array):
    """(frames, size), or (frames * atoms, size)."""
    return array if array.ndim == 2 else array.reshape(-1, *array.shape[2:])


@pytest.mark.parametrize("case", _cases(), ids=lambda c: c["name"])
def test_values(case, reference):
    assert not case["uses_mask"] and case["find"] == 1.0
    z = np.load(reference / "train/loss_values.npz")
    nf, na = z["mask"].shape
    pred = {k: flat(z[path]) for k, path in case["pred"].items()}
    if case["loss_class"] == "TensorLoss":
        # There the name of the tensor is that of the atoms' values.
        name = case["config"]["tensor_name"]
        pred = {f"atom_{name}": pred[name], name: pred[f"global_{name}"]}
    values = {k: flat(z[path]) for k, path in case["label"].items()}
    frame = np.repeat(np.arange(nf), na)
    labels = Labels(values, dict.fromkeys(values, 1.0), np.full(nf, float(na)), frame, np.ones(nf))
    loss = CLASSES[case["loss_class"]](**case["config"])
    assert {label.name for label in loss.label_requirements()} <= set(values)
    value, figures = loss(case["learning_rate"], pred, labels)
    assert value == pytest.approx(case["loss"], rel=1e-12)
    shown = {k: v for k, v in case["more"].items() if not k.startswith("l2_")}
    assert figures == pytest.approx(shown, rel=1e-12)
    assert set(figures) == set(loss.metric_names())


# -- five steps of a training -----------------------------------------------------------------------


def _read(folder, name):
    return Model.deserialize(load_model(folder / f"{name}.dp")["model"])


def _worst(got, want):
    assert set(got) == set(want)
    scale = max(np.abs(v).max() for v in want.values())
    return max(np.abs(got[k] - want[k]).max() for k in want) / scale


@pytest.mark.parametrize("kind", ["dipole", "polar", "dos", "property"])
def test_five_steps(kind, reference):
    """Losses, figures, gradients and parameters of DeePMD-kit 3.2.0 on stored batches.

    Nothing that is minimized here is divided by a number of atoms, so its single precision of
    1/natoms does not show.
    """
    folder = reference_path(f"train/step_{kind}")
    about = json.loads((folder / "steps.json").read_text())
    model = _read(folder, "init")
    loss = build_loss(about["loss"], about["learning_rate"]["start_lr"], model)
    step = NumPyTrainStep({"a": model}, {"a": loss}, {"type": "Adam"}, StepOptions())

    def batch(record):
        (system,) = open_systems([str(folder / record["system"])], type_map=model.type_map)
        out = system.load(record["frames"], loss.label_requirements())
        out.edges = batch_edges(out, model.rcut)
        return out

    first = about["steps"][0]
    _, grads = step.gradients("a", batch(first), first["learning_rate"])
    stored = np.load(folder / "grad_step0.npz")
    names = {k: "atomic_model." + k.replace("/@variables", "").replace("/", ".") for k in stored}
    assert _worst(grads, {names[k]: stored[k] for k in stored}) < 1e-12

    for k, record in enumerate(about["steps"]):
        figures = step.step("a", batch(record), record["learning_rate"])
        assert figures["loss"] == pytest.approx(record["loss"], rel=1e-10)
        for name in loss.metric_names():
            want = record["more_loss"].get(name, float("nan"))
            assert figures[name] == pytest.approx(want, rel=1e-10, nan_ok=True), name
        if k in (0, 4):
            after = split(_read(folder, f"after_step{k + 1}"))[0]
            assert _worst(split(step.model("a"))[0], after) < 1e-10


# -- behavior --------------------------------------------------------------------------------------

RNG = np.random.default_rng(0)


def batch_of(natoms, sizes):
    """Random labels of frames (F, size) or atoms (N, size) by name, and predictions alike."""
    natoms = np.asarray(natoms)
    rows = {True: int(natoms.sum()), False: len(natoms)}
    values = {n: RNG.normal(size=(rows[n.startswith("atom_")], s)) for n, s in sizes.items()}
    weight = np.ones(len(natoms))
    frame = np.repeat(np.arange(len(natoms)), natoms)
    labels = Labels(values, dict.fromkeys(values, 1.0), natoms.astype(float), frame, weight)
    return {k: RNG.normal(size=v.shape) for k, v in values.items()}, labels


NO_ADOS = {"start_pref_ados": 0.0, "limit_pref_ados": 0.0}
LOSSES = {
    "tensor": (TensorLoss("t", 3, "t", pref=0.5, pref_atomic=2.0), {"t": 3, "atom_t": 3}),
    "weights": (
        TensorLoss("t", 3, "t", pref=0.0, pref_atomic=2.0, enable_atomic_weight=True),
        {"atom_t": 3, "atom_weight": 1},
    ),
    "dos": (
        DOSLoss(1.0, 4, start_pref_dos=1.0, start_pref_acdf=2.0, **NO_ADOS),
        {"dos": 4, "atom_dos": 4},
    ),
    "property": (PropertyLoss(2, "p", metric=["mae", "rmse"], out_std=[0.5, 2.0]), {"p": 2}),
    "rmse": (PropertyLoss(2, "p", loss_func="rmse", metric=["mse"], intensive=True), {"p": 2}),
}


@pytest.mark.parametrize("name", ["tensor", "dos"])
def test_absent_labels_count_nothing(name):
    loss, sizes = LOSSES[name]
    pred, labels = batch_of([3, 3], sizes)
    full, figures = loss(1.0, pred, labels)
    (frames, atoms) = sorted(sizes, key=len)
    parts = 0.0
    for present, absent in ((frames, atoms), (atoms, frames)):
        value, shown = loss(1.0, pred, labels._replace(find={present: 1.0, absent: 0.0}))
        parts += value
        assert sum(np.isnan(v) for v in shown.values()) == len(figures) / 2
    assert full == pytest.approx(parts)


def test_excluded_atoms_do_not_count():
    loss, sizes = LOSSES["tensor"]
    pred, labels = batch_of([3, 4], sizes)
    mask = np.array([1.0, 0, 1, 0, 0, 1, 0])[:, None]
    value, figures = loss(1.0, {**pred, "mask": mask}, labels)
    kept = mask[:, 0] > 0
    d = {k: pred[k] - labels.values[k] for k in sizes}
    local = np.mean(d["atom_t"][kept] ** 2)
    assert value == pytest.approx(0.5 * np.mean(d["t"] ** 2) + 2.0 * local)
    assert figures["rmse_local_t"] == pytest.approx(np.sqrt(local))
    per_atom = d["t"] / np.array([[2.0], [1.0]])
    assert figures["rmse_global_t"] == pytest.approx(np.sqrt(np.mean(per_atom**2)))


def test_prefactors_of_dos_follow_the_learning_rate():
    loss = DOSLoss(1e-3, 4, start_pref_dos=1.0, limit_pref_dos=3.0, **NO_ADOS)
    pred, labels = batch_of([2, 2], {"dos": 4})
    values = [loss(lr, pred, labels)[0] for lr in (1e-3, 5e-4, 0.0)]
    assert values[1] == pytest.approx(2 * values[0]) and values[2] == pytest.approx(3 * values[0])
    assert [label.name for label in loss.label_requirements()] == ["dos"]


def test_order_of_figures():
    loss = PropertyLoss(1, "p", metric=["smooth_mae", "mae", "rmse"])
    assert loss.metric_names() == ["mae", "rmse", "smooth_mae"]
    assert LOSSES["tensor"][0].metric_names() == ["rmse_global_t", "rmse_local_t"]
    assert LOSSES["dos"][0].metric_names() == ["rmse_global_dos", "rmse_local_cdf"]


def test_a_selected_type_may_have_short_files(reference, tmp_path):
    """A file of the selected atoms only gives the labels of the whole file, zero elsewhere."""
    model = _read(reference / "train/step_dipole", "init")
    loss = build_loss({"type": "tensor", "pref": 0.0, "pref_atomic": 1.0}, 1e-3, model)
    whole = reference / "data/dipole/training_atomic"
    short = tmp_path / "short"
    shutil.copytree(whole, short)
    values = np.load(whole / "set.000/atomic_dipole.npy")
    oxygen = np.loadtxt(whole / "type.raw") == 0
    values = values.reshape(len(values), -1, 3)[:, oxygen].reshape(len(values), -1)
    np.save(short / "set.000/atomic_dipole.npy", values)
    read = []
    for path in (whole, short):
        (system,) = open_systems([str(path)], type_map=model.type_map)
        read.append(system.load([0, 2], loss.label_requirements()).labels["atom_dipole"])
    np.testing.assert_array_equal(read[0], read[1])


def test_wrong_losses():
    with pytest.raises(InputError, match="nothing is compared"):
        TensorLoss("t", 3, "t", pref=0.0, pref_atomic=0.0)
    with pytest.raises(TypeError, match="start_pref_x"):
        DOSLoss(1.0, 4, start_pref_x=1.0)
    with pytest.raises(InputError, match=r"'mea'.* must be some of smooth_mae, mae"):
        PropertyLoss(1, "p", metric=["mea"])
    with pytest.raises(InputError, match="for 2 numbers"):
        PropertyLoss(2, "p", out_std=[1.0])
    for kind in ("tensor", "dos", "property"):
        with pytest.raises(InputError, match="does not fit the model"):
            build_loss({"type": kind}, 1e-3, None)


@pytest.mark.parametrize("name", FITTINGS)
def test_losses_of_other_models(name, tmp_path):
    model = build_model(section(name, tmp_path))
    own = {"dipole": "tensor", "polar": "tensor"}.get(name, name)
    for kind in {"ener", "tensor", "dos", "property"} - {own}:
        with pytest.raises(InputError, match=f"does not fit the model, which predicts {name}"):
            build_loss({"type": kind}, 1e-3, model)


def test_labels_that_do_not_vary_have_no_scale(reference):
    model = _read(reference / "train/step_property", "init")
    loss = build_loss({"type": "property"}, 1e-3, model)
    assert loss.out_std == model.atomic_model.out_std[0, 0].tolist()
    model.atomic_model.out_std[:] = 0.0
    with pytest.raises(InputError, match="band_prop do not vary"):
        loss.take_statistics(model)


# -- input keys -------------------------------------------------------------------------------------


def checked(loss, **fitting):
    data = {
        "model": {
            "type_map": ["O"],
            "descriptor": {"type": "se_e2_a", "rcut": 3.0, "rcut_smth": 1.0, "sel": [6]},
            "fitting_net": fitting,
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "training": {"numb_steps": 1, "training_data": {"systems": ["x"]}},
    }
    if loss is not None:
        data["loss"] = loss
    return normalize(data)["loss"]


def test_the_loss_follows_from_the_fitting():
    assert checked(None, type="dos")["start_pref_ados"] == 1.0
    section = checked(None, type="property", property_name="gap")
    assert section == {
        "type": "property",
        "loss_func": "smooth_mae",
        "metric": ["mae"],
        "beta": 1.0,
    }
    with pytest.raises(InputError, match='"pref" is missing'):
        checked(None, type="dipole")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"type": "tensor", "pref": -1.0, "pref_atomic": 1.0}, "loss/pref"),
        ({"type": "tensor", "pref": 1.0, "pref_atomic": 1.0, "beta": 1.0}, "loss/beta"),
        ({"type": "property", "loss_func": "huber"}, "loss/loss_func"),
        ({"type": "property", "metric": []}, "loss/metric"),
        ({"type": "dos", "start_pref_dso": 1.0}, 'did you mean "start_pref_dos"'),
    ],
)
def test_wrong_keys(wrong, message):
    with pytest.raises(InputError, match=message):
        checked(wrong, type="dos")
