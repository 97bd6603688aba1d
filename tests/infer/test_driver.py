# SPDX-License-Identifier: LGPL-3.0-or-later
"""The dpdata driver, with dpdata's registry or a stand-in for it."""

import importlib
import sys
import types

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.infer import DeepPot

CELL = np.diag([5.0, 5.5, 6.0])


@pytest.fixture
def driver(monkeypatch):
    registered = {}

    class Driver:
        @staticmethod
        def register(key):
            return lambda cls: registered.setdefault(key, cls)

    if importlib.util.find_spec("dpdata") is None:
        package, module = types.ModuleType("dpdata"), types.ModuleType("dpdata.driver")
        module.Driver = Driver
        monkeypatch.setitem(sys.modules, "dpdata", package)
        monkeypatch.setitem(sys.modules, "dpdata.driver", module)
        monkeypatch.delitem(sys.modules, "deepmd.driver", raising=False)
        found = importlib.import_module("deepmd.driver")
        assert set(registered) == {"dp", "deepmd", "deepmd-kit"}
        monkeypatch.delitem(sys.modules, "deepmd.driver")
        return found.DPDriver
    return importlib.import_module("deepmd.driver").DPDriver


def data(**changes):
    coords = np.random.default_rng(0).uniform(0, 5, (2, 4, 3))
    return {
        "coords": coords,
        "cells": np.tile(CELL, (2, 1, 1)),
        "atom_types": np.array([1, 0, 2, 1]),
        "atom_names": ["H", "O", "H"],
        "orig": np.zeros(3),
        **changes,
    }


def test_label(driver, model_file):
    given = data()
    out = driver(str(model_file)).label(given)
    e, f, v = DeepPot(model_file).eval(given["coords"], CELL, [0, 1, 1, 0])
    np.testing.assert_allclose(out["energies"], e[:, 0])
    np.testing.assert_allclose(out["forces"], f)
    np.testing.assert_allclose(out["virials"], v.reshape(2, 3, 3))
    assert out["energies"].shape == (2,)
    assert out["atom_names"] == given["atom_names"]
    np.testing.assert_array_equal(out["atom_types"], given["atom_types"])
    assert "energies" not in given


def test_open_systems_and_an_open_model(driver, model_file):
    given = data(nopbc=True)
    out = driver(DeepPot(model_file)).label(given)
    e, _, _ = DeepPot(model_file).eval(given["coords"], None, [0, 1, 1, 0])
    np.testing.assert_allclose(out["energies"], e[:, 0])


def test_unknown_elements(driver, model_file):
    with pytest.raises(InputError, match="the system has C"):
        driver(model_file).label(data(atom_names=["H", "O", "C"]))
    driver(model_file).label(data(atom_names=["H", "O", "H", "C"]))
