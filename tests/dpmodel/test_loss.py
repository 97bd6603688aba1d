# SPDX-License-Identifier: LGPL-3.0-or-later
"""Loss functions against stored values of random predictions and labels."""

import json

import numpy as np
import pytest
from conftest import REFERENCE

from deepmd.base.errors import InputError
from deepmd.dpmodel.loss import EnergyLoss, Labels


def _cases():
    cases = json.loads((REFERENCE / "train/loss_values.json").read_text())
    return [c for c in cases if c["loss_class"].startswith("EnergyStd")]


#: DeePMD-kit's class takes 0 for prefactors that are not given, its input something else.
NOTHING = {f"{when}_pref_{t}": 0.0 for when in ("start", "limit") for t in EnergyLoss.terms}


def _rows(array, kept):
    return array.reshape(-1, int(np.prod(array.shape[2:])))[kept]


@pytest.mark.parametrize("case", _cases(), ids=lambda c: c["name"])
def test_values(case, reference):
    z = np.load(reference / "train/loss_values.npz")
    mask = z["mask"] if case["uses_mask"] else np.ones(z["mask"].shape)
    kept = mask.reshape(-1) > 0
    frame = np.repeat(np.arange(len(mask)), mask.shape[1])[kept]

    def read(names):
        out = {}
        for name, path in names.items():
            array = z[path]
            out[name] = array if array.ndim == 2 else _rows(array, kept)
        return out

    values = read(case["label"])
    find = dict.fromkeys(values, 1.0)
    if isinstance(case["find"], dict):
        find.update(case["find"])
    labels = Labels(values, find, mask.sum(axis=1), frame, np.ones(len(mask)))
    loss = EnergyLoss(**NOTHING | case["config"])
    loss, more = loss(case["learning_rate"], read(case["pred"]), labels)
    assert loss == pytest.approx(case["loss"], rel=1e-12)
    for name, value in more.items():
        assert value == pytest.approx(case["more"][name], rel=1e-12, nan_ok=True), name


def test_names_of_metrics():
    loss = EnergyLoss(1e-3, start_pref_e=0.02, limit_pref_e=1, start_pref_f=1000, limit_pref_f=1)
    assert loss.metric_names() == ["rmse", "rmse_e", "rmse_f"]
    assert loss.derivatives() == ("force",)


@pytest.mark.parametrize(
    "wrong",
    [
        {"f_use_norm": True, "start_pref_f": 1.0},
        {"use_huber": True, "start_pref_pf": 1.0},
        {"start_pref_gf": 1.0},
    ],
)
def test_wrong_combinations_are_refused(wrong):
    with pytest.raises(InputError, match="loss"):
        EnergyLoss(1e-3, **wrong)
    with pytest.raises(TypeError, match="start_pref_x"):
        EnergyLoss(1e-3, start_pref_x=1.0)


def test_defaults_are_those_of_the_input():
    loss = EnergyLoss(1e-3)
    assert [t for t in loss.terms if loss.has(t)] == ["e", "f"]
    assert (loss.start_pref_e, loss.limit_pref_e) == (0.02, 1.0)
    assert (loss.start_pref_f, loss.limit_pref_f) == (1000.0, 1.0)
    assert isinstance(loss.start_pref_f, float)
