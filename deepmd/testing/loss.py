# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests of every loss."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.loss import Labels, Loss, build_loss, labels_of
from deepmd.dpmodel.model import Model, build_model, prepare
from deepmd.dpmodel.module import split
from deepmd.testing.backends import open_backend
from deepmd.testing.systems import randomize
from deepmd.testing.training import assert_exact_restart, labeled_batch, new_step

#: Learning rate at the start of a training, and that of the comparisons.
START, RATE = 1e-3, 3e-4
#: Atoms of frames.
SIZES = (3, 5, 2, 4)
Arrays = dict[str, Any]


class LossTests:
    """Dictionaries, labels, ranks, derivatives, backends and restarts of losses.

    A loss takes what a small model predicts for frames of different size, and random labels.

    Attributes
    ----------
    loss : str
        Its type.
    cases : dict of str to dict
        Its options by name, without ``type``.
    model_section : dict
        The model that it is for.
    compares : dict of str to str
        Predictions by the label that they are compared with, where names differ.
    weights : tuple of str
        Labels that are weights, and not negative.
    backends : tuple of str
        Who trains with it: ``numpy``, ``torch``, ``jax``, ``tensorflow``. Those not installed are skipped.
    writers : tuple of str
        Of these, who restarts from a checkpoint.
    tolerance : float
        By how much of a result equal ones may differ.
    """

    loss: ClassVar[str] = ""
    cases: ClassVar[dict[str, dict[str, Any]]] = {}
    model_section: ClassVar[dict[str, Any]] = {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_e2_a", "rcut": 4.0, "rcut_smth": 1.0, "sel": [30, 30]},
        "fitting_net": {"neuron": [5], "seed": 2},
    }
    compares: ClassVar[dict[str, str]] = {
        "atom_ener": "atom_energy",
        "polarizability": "polar",
        "atom_polarizability": "atom_polar",
    }
    weights: ClassVar[tuple[str, ...]] = ("atom_pref", "atom_weight", "atom_ener_coeff")
    backends: ClassVar[tuple[str, ...]] = ("numpy",)
    writers: ClassVar[tuple[str, ...]] = ("numpy", "torch")
    tolerance: ClassVar[float] = 1e-10

    # -- what is tested -----------------------------------------------------------------------

    def section(self) -> dict[str, Any]:
        """Return the model section."""
        section: dict[str, Any] = json.loads(json.dumps(self.model_section))
        if section.get("descriptor", {}).get("type") == "se_e2_a":
            small = {"neuron": [3, 6], "axis_neuron": 2, "seed": 1}
            section["descriptor"] = {**small, **section["descriptor"]}
        return section

    def build(self, case: dict[str, Any], model: Model) -> Loss:
        """Return the loss of a case."""
        return build_loss({"type": self.loss, **case}, START, model)

    @pytest.fixture
    def model(self) -> Model:
        """The neutral model, with random statistics."""
        return randomize(build_model(self.section()))

    @pytest.fixture
    def made(self, case: dict[str, Any], model: Model) -> Loss:
        """The loss."""
        return self.build(case, model)

    @pytest.fixture
    def batch(self, made: Loss, model: Model) -> Batch:
        """Frames of different size, with random labels."""
        return self.frames(made, model, SIZES)

    def frames(self, made: Loss, model: Model, natoms: Sequence[int]) -> Batch:
        """Return frames with random labels."""
        batch = labeled_batch(model, made, natoms=natoms)
        for name in batch.labels.keys() & set(self.weights):
            batch.labels[name] = np.abs(batch.labels[name])
        return batch

    @pytest.fixture
    def labels(self, batch: Batch) -> Labels:
        """Those of the batch."""
        return labels_of(batch)

    @pytest.fixture
    def pred(self, made: Loss, model: Model, batch: Batch) -> Arrays:
        """What the model predicts."""
        return self.predict(made, model, batch)

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run every test for all cases and backends."""
        if "case" in metafunc.fixturenames or "made" in metafunc.fixturenames:
            metafunc.parametrize("case", list(self.cases.values()), ids=list(self.cases))
        if "first_case" in metafunc.fixturenames:
            metafunc.parametrize(
                "first_case", list(self.cases.values())[:1], ids=list(self.cases)[:1]
            )
        if "backend" in metafunc.fixturenames:
            metafunc.parametrize("backend", [b for b in self.backends if b != "numpy"])
        if "writer" in metafunc.fixturenames:
            metafunc.parametrize("writer", [b for b in self.backends if b in self.writers])

    def predict(self, made: Loss, model: Model, batch: Batch) -> Arrays:
        """Evaluate a model for the comparison."""
        inputs = prepare(model.expand(batch), model.packings())
        found = made.predict(model, inputs, batch.n_frames, labels_of(batch), order=1)
        return {name: np.asarray(value) for name, value in found.items()}

    def assert_same(self, got: Any, want: Any, name: str = "") -> None:
        """Compare within the tolerance: numbers, arrays, or entries of dictionaries and tuples."""
        if isinstance(want, dict):
            assert set(got) == set(want)
            for key, value in want.items():
                self.assert_same(got[key], value, key)
            return
        if isinstance(want, tuple):
            for a, b in zip(got, want, strict=True):
                self.assert_same(a, b, name)
            return
        want = np.asarray(want, dtype=float)
        limit = self.tolerance * max(float(np.abs(want).max(initial=0.0)), 1.0)
        np.testing.assert_allclose(np.asarray(got, float), want, rtol=0, atol=limit, err_msg=name)

    # -- dictionaries and figures -------------------------------------------------------------

    def test_dictionary_round_trip(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """A loss made from its dictionary is the same loss."""
        data = json.loads(json.dumps(made.serialize()))
        again = type(made).deserialize(data)
        assert again.serialize() == made.serialize()
        assert again.metric_names() == made.metric_names()
        assert again.derivatives() == made.derivatives()
        assert float(again(RATE, pred, labels)[0]) == float(made(RATE, pred, labels)[0])

    def test_metrics_have_names(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """What is shown is what is announced, each name once, and is a number."""
        metrics = made(RATE, pred, labels)[1]
        assert len(set(made.metric_names())) == len(made.metric_names())
        assert set(metrics) == set(made.metric_names())
        assert all(np.isfinite(float(value)) for value in metrics.values())

    # -- labels -------------------------------------------------------------------------------

    def test_right_predictions_cost_nothing(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """The loss is zero where labels are what is predicted, and positive elsewhere."""
        assert float(made(RATE, pred, labels)[0]) > 1e-8
        assert abs(float(made(RATE, pred, self.right(pred, labels))[0])) < 1e-14

    def right(self, pred: Arrays, labels: Labels, part: float = 1.0) -> Labels:
        """Return labels moved to what is predicted, all the way or a part of it; weights are 1."""
        values = {}
        for name, value in labels.values.items():
            found = pred.get(self.compares.get(name, name))
            right = np.ones_like(value) if found is None else np.reshape(found, value.shape)
            values[name] = value + part * (right - value)
        return labels._replace(values=values)

    def test_every_label_counts(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """Labels that are asked for change the loss, and nothing else does."""
        assert made.label_requirements()
        want = float(made(RATE, pred, labels)[0])
        for label in made.label_requirements():
            other = {**labels.values, label.name: labels.values[label.name] + 0.3}
            assert abs(float(made(RATE, pred, labels._replace(values=other))[0]) - want) > 1e-8

    def test_missing_labels_cost_nothing(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """Values do not matter where a label is not there, and what it is for is not shown."""
        for name, value in labels.values.items():
            if self.compares.get(name, name) not in pred:
                continue  # a weight: its values are filled in
            absent = labels._replace(find={**labels.find, name: 0.0})
            other = absent._replace(values={**labels.values, name: value + 0.3})
            (loss, metrics), (same, _) = (made(RATE, pred, given) for given in (absent, other))
            self.assert_same(same, loss, name)
            assert any(np.isnan(float(metric)) for metric in metrics.values()), name
        nothing = labels._replace(find=dict.fromkeys(labels.find, 0.0))
        assert float(made(RATE, pred, nothing)[0]) == 0.0

    # -- frames and atoms ---------------------------------------------------------------------

    def frames_of(
        self, pred: Arrays, labels: Labels, frames: Sequence[int]
    ) -> tuple[Arrays, Labels]:
        """Return predictions and labels of some frames, in the order in which they are named."""
        atoms = np.concatenate([np.flatnonzero(labels.frame == k) for k in frames])
        rows = {len(labels.natoms): np.asarray(frames), len(labels.frame): atoms}
        natoms = labels.natoms[np.asarray(frames)]
        values = {name: v[rows[len(v)]] for name, v in labels.values.items()}
        owner = np.repeat(np.arange(len(frames)), natoms.astype(int))
        part = Labels(values, labels.find, natoms, owner, labels.weight[np.asarray(frames)])
        return {name: v[rows[len(v)]] for name, v in pred.items()}, part

    def test_order(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """Neither the order of the frames nor that of the atoms matters."""
        want = made(RATE, pred, labels)
        self.assert_same(made(RATE, *self.frames_of(pred, labels, [2, 0, 3, 1])), want)
        rng = np.random.default_rng(1)
        order = np.lexsort([rng.random(len(labels.frame)), labels.frame])
        n = len(order)
        mixed = {name: v[order] if len(v) == n else v for name, v in pred.items()}
        values = {name: v[order] if len(v) == n else v for name, v in labels.values.items()}
        self.assert_same(made(RATE, mixed, labels._replace(values=values)), want)

    def test_padding(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """Frames without weight, with which batches are filled up, do not count."""
        padded = labels._replace(weight=np.array([1.0, 1.0, 0.0, 1.0]))
        want = made(RATE, *self.frames_of(pred, labels, [0, 1, 3]))
        self.assert_same(made(RATE, pred, padded), want)

    def test_ranks_are_one_batch(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """Processes that have some frames each find the loss, figures and slopes of all."""
        autograd = pytest.importorskip("autograd")
        divided = [[0], [1, 2, 3]]
        parts = [self.frames_of(pred, labels, frames) for frames in divided]
        held: list[np.ndarray] = []

        def keep(x: Any) -> Any:
            held.append(np.array(x))
            return x

        for found, own in parts:  # what every process has to add
            made(RATE, found, own, keep)
        figures: Arrays = {}

        def objective(given: Arrays, own: Labels, reduce: Any) -> Any:
            value, metrics = made(RATE, given, own, reduce)
            figures.update(metrics)
            return value

        with_slopes = autograd.value_and_grad(objective)
        want, slopes = with_slopes(pred, labels, None)
        shown = {name: float(value) for name, value in figures.items()}
        for (found, own), frames in zip(parts, divided, strict=True):
            value, mine = with_slopes(found, own, lambda x: sum(held))
            self.assert_same(value, want)
            self.assert_same({name: float(figures[name]) for name in shown}, shown)
            every = self.frames_of(slopes, labels, frames)[0]
            compared = [name for name in every if not name.startswith("mask")]
            self.assert_same({k: mine[k] for k in compared}, {k: every[k] for k in compared})

    def test_few_atoms(self, case: dict[str, Any], model: Model) -> None:
        """Frames of one and of two atoms, and one without any beside them."""
        for natoms in ((1,), (2,), (0, 2)):
            made = self.build(case, model)
            batch = self.frames(made, model, natoms)
            value, metrics = made(RATE, self.predict(made, model, batch), labels_of(batch))
            assert np.isfinite([float(x) for x in (value, *metrics.values())]).all()
            assert value > 0

    # -- derivatives --------------------------------------------------------------------------

    def test_it_is_continuous(self, made: Loss, pred: Arrays, labels: Labels) -> None:
        """Nothing jumps on the way from random labels to those that are right, and beyond."""
        jumps = []
        for n in (100, 1000):
            ways = [self.right(pred, labels, k / n * 1.3) for k in range(n + 1)]
            jumps.append(np.abs(np.diff([float(made(RATE, pred, way)[0]) for way in ways])).max())
        assert jumps[1] < 0.25 * jumps[0]

    def test_it_is_differentiated(self, made: Loss, model: Model, batch: Batch) -> None:
        """Derivatives by the parameters of the model, along a random direction."""
        backend = open_backend("numpy")
        step: Any = new_step(backend, model, made)
        grads = step.gradients("Default", batch, RATE)[1]
        rng, h = np.random.default_rng(2), 1e-5
        here = step.parameters("Default")
        along = {name: rng.normal(size=np.shape(value)) for name, value in here.items()}
        values = []
        for k in (-2, -1, 1, 2):
            moved = {name: value + k * h * along[name] for name, value in here.items()}
            step.replace("Default", moved)
            values.append(float(step.evaluate("Default", batch, RATE)["loss"]))
        slope = np.array([1.0, -8.0, 8.0, -1.0]) @ values / (12 * h)
        want = sum(float((grads[name] * along[name]).sum()) for name in along)
        assert abs(want) > 1e-8
        np.testing.assert_allclose(slope, want, rtol=1e-6)

    # -- trainings ----------------------------------------------------------------------------

    def test_backends_agree(self, made: Loss, model: Model, batch: Batch, backend: str) -> None:
        """Two steps have the figures, and the parameters after them, of the reference."""
        other = open_backend(backend)
        results = []
        for who in (open_backend("numpy"), other):
            step = new_step(who, model, made)
            figures = [step.step("Default", batch, RATE) for _ in range(2)]
            shown = [{name: float(value) for name, value in one.items()} for one in figures]
            arrays = split(step.model("Default"))[0]
            results.append((shown, {name: np.asarray(value) for name, value in arrays.items()}))
        for got, want in zip(results[1][0], results[0][0], strict=True):
            self.assert_same(got, want)
        self.assert_same(results[1][1], results[0][1])

    def test_restart(self, first_case: dict[str, Any], writer: str, tmp_path: Path) -> None:
        """Two steps, a checkpoint and two more are four steps, bit for bit."""
        model = randomize(build_model(self.section()))
        made = self.build(first_case, model)
        batch = self.frames(made, model, (3, 2))
        backend = open_backend(writer)
        assert_exact_restart(backend, model, self.section(), tmp_path, loss=made, batch=batch)
