# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every loss passes the tests that plugins inherit, and every one of these tests can fail."""

import inspect
from pathlib import Path

import pytest

from deepmd.dpmodel import ops
from deepmd.dpmodel.loss import EnergyLoss, Loss, labels_of
from deepmd.dpmodel.model import build_model
from deepmd.testing import LossTests
from deepmd.testing.systems import randomize
from tests.members import section

BACKENDS = ("numpy", "torch")


def weights(*terms):
    """Prefactors of terms, others at the start than in the limit."""
    return {f"{when}_pref_{t}": w for t in terms for when, w in (("start", 0.5), ("limit", 1.0))}


NO_MORE = {f"{when}_pref_{t}": 0.0 for t in "ef" for when in ("start", "limit")}


class TestEnergy(LossTests):
    loss = "ener"
    cases = {
        "all": {**weights("e", "f", "v", "ae", "pf", "gf"), "numb_generalized_coord": 2},
        "huber": {
            **weights("e", "f", "v", "ae"),
            "use_huber": True,
            "huber_delta": [0.1, 0.3, 0.2],
        },
        "absolute": {**weights("e", "f", "v", "ae"), "loss_func": "mae"},
        "norm": {**NO_MORE, **weights("f"), "loss_func": "mae", "f_use_norm": True},
        "relative": {**NO_MORE, **weights("f"), "relative_f": 1.0},
        "coefficients": {**NO_MORE, **weights("e"), "enable_atom_ener_coeff": True},
        "intensive": {**weights("e", "v"), "intensive_ener_virial": True},
    }
    backends = BACKENDS


class TestHessian(LossTests):
    """PyTorch's training on second derivatives is tested against stored values."""

    loss = "ener_hess"
    cases = {"plain": weights("e", "h")}


class TestSpin(LossTests):
    loss = "ener_spin"
    cases = {
        "all": weights("e", "fr", "fm", "v", "ae"),
        "absolute": {**weights("e", "fr", "fm"), "loss_func": "mae"},
    }
    model_section = section("spin", Path())
    backends = BACKENDS


class TestTensor(LossTests):
    loss = "tensor"
    cases = {
        "both": {"pref": 0.5, "pref_atomic": 2.0},
        "weights": {"pref": 0.0, "pref_atomic": 2.0, "enable_atomic_weight": True},
    }
    model_section = section("polar", Path())
    backends = BACKENDS


class TestDipole(LossTests):
    loss = "tensor"
    cases = {"both": {"pref": 0.5, "pref_atomic": 2.0}}
    model_section = section("dipole", Path())


class TestDos(LossTests):
    loss = "dos"
    cases = {"all": weights("dos", "cdf", "ados", "acdf")}
    model_section = section("dos", Path())
    backends = BACKENDS


class TestProperty(LossTests):
    loss = "property"
    cases = {
        name: {"loss_func": name, "metric": ["mae", "rmse", "mse", "smooth_mae"]}
        for name in ("smooth_mae", "mae", "mse", "rmse")
    }
    model_section = section("property", Path())
    backends = BACKENDS


class TestPopulation(LossTests):
    loss = "population"
    cases = {
        "smooth": {"beta": 0.5, **weights("spin", "pop_alpha_total")},
        "absolute": {"loss_func": "mae", "metric": ["rmse"]},
    }
    model_section = section("population", Path())
    backends = BACKENDS


def test_every_loss_is_tested():
    tested = {kind.loss for kind in LossTests.__subclasses__() if kind.__module__ == __name__}
    classes = {Loss.registry.get(name) for name in tested}
    ours = {Loss.registry.get(name) for name in Loss.registry}
    assert {kind for kind in ours if kind.__module__.startswith("deepmd.")} == classes


# -- wrong losses -----------------------------------------------------------------------------------


class Wrong(EnergyLoss):
    """The energy loss with one fault."""

    fault = ""
    calls = 0

    def serialize(self):
        data = super().serialize()
        return data | {"start_pref_e": 9.0} if self.fault == "dictionary" else data

    def label_requirements(self):
        virial = EnergyLoss(1.0, **weights("v")).label_requirements()[-1]
        return super().label_requirements() + [virial] * (self.fault == "label")

    def metric_names(self):
        return super().metric_names() + ["rmse_x"] * (self.fault == "name")

    def call(self, lr, pred, labels, reduce=None):
        if self.fault == "rank":
            return super().call(lr, pred, labels)
        if self.fault == "padding":
            labels = labels._replace(weight=1.0 + 0.0 * labels.weight)
        if self.fault == "missing":
            labels = labels._replace(find=dict.fromkeys(labels.find, 1.0))
        total, metrics = super().call(lr, pred, labels, reduce)
        first = pred["energy"][0, 0] - labels.values["energy"][0, 0]
        Wrong.calls += 1
        more = {
            "offset": lambda: 0.1,
            "order": lambda: first * first,
            "jump": lambda: 5.0 * (abs(first) < 0.3),
            "nothing": lambda: float("nan") if min(labels.natoms) == 0 else 0.0,
            "slope": lambda: ops.stop_gradient(total),
            "torch": lambda: total if type(total).__module__ == "torch" else 0.0,
            "memory": lambda: total * Wrong.calls,
        }
        return total + more.get(self.fault, float)(), metrics


FAULTS = {
    "test_dictionary_round_trip": "dictionary",
    "test_metrics_have_names": "name",
    "test_right_predictions_cost_nothing": "offset",
    "test_every_label_counts": "label",
    "test_missing_labels_cost_nothing": "missing",
    "test_order": "order",
    "test_padding": "padding",
    "test_ranks_are_one_batch": "rank",
    "test_few_atoms": "nothing",
    "test_it_is_continuous": "jump",
    "test_it_is_differentiated": "slope",
    "test_backends_agree": "torch",
    "test_restart": "memory",
}


def run(check, fault, folder):
    """Run a check on the energy loss with a fault, or on the right one."""
    tests, case = TestEnergy(), {**weights("e", "f"), "relative_f": None}
    kind = type("Faulty", (Wrong,), {"fault": fault})
    tests.build = lambda case, model: kind(starter_learning_rate=1e-3, **case)
    model = randomize(build_model(tests.section()))
    made = tests.build(case, model)
    batch = tests.frames(made, model, (3, 5, 2, 4))
    given = {"case": case, "first_case": case, "model": model, "made": made, "batch": batch}
    given |= {"labels": labels_of(batch), "pred": tests.predict(made, model, batch)}
    given |= {"backend": "torch", "writer": "numpy", "tmp_path": folder}
    method = getattr(tests, check)
    method(**{name: given[name] for name in inspect.signature(method).parameters})


@pytest.mark.parametrize("check", FAULTS)
def test_every_check_can_fail(check, tmp_path):
    if check == "test_backends_agree":
        pytest.importorskip("torch")
    run(check, "", tmp_path)
    with pytest.raises(AssertionError):
        run(check, FAULTS[check], tmp_path)


def test_every_check_has_a_fault():
    assert {name for name in vars(LossTests) if name.startswith("test_")} == set(FAULTS)
