# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models that are made of models, and models with spins, pass the tests that plugins inherit."""

import copy
import inspect

import numpy as np
import pytest

from deepmd.dpmodel.model import build_model
from deepmd.runtime.probes import write_model
from deepmd.schema.check import normalize_model
from deepmd.testing import ModelTests, SpinTests
from deepmd.testing.backends import evaluator
from deepmd.testing.systems import randomize, small_system
from tests.dpmodel import test_pairwise as pairwise
from tests.members import SE_A, section

BACKENDS = ("numpy", "torch")
NAMES = ("zbl", "bare_table", "linear_ener", "weights", "frozen", "type_embedding")


def with_file(folder):
    """Section of a sum whose first member is a model file."""
    given = section("linear_ener", folder)
    del given["models"][1]
    given["models"].append({**copy.deepcopy(given["models"][0])})
    types = given["type_map"]
    network = randomize(build_model({"type_map": types, **copy.deepcopy(given["models"][0])}))
    path = folder / "first.dp"
    write_model(path, {"model": network.serialize(), "model_def_script": {}})
    given["models"][0] = {"type": "frozen", "model_file": str(path)}
    return given


class TestComposites(ModelTests):
    """Sums of networks, tables and files, and networks that give way to a table."""

    cases = {name: {"name": name} for name in NAMES}
    backends = BACKENDS
    step = 1e-4  # between the nodes of tables

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path):
        self.folder = tmp_path

    def section(self, case):
        name = case["name"]
        if name == "frozen":
            return with_file(self.folder)
        # The mean distance has no cutoff of its own: a neighbor at r has the weight exp(-r / alpha).
        near = {**section("zbl", self.folder), "smin_alpha": 0.05}
        if name == "zbl":
            return near
        if name == "bare_table":
            return {**near, "srtab_add_bias": False}
        if name == "weights":
            return {**section("linear_ener", self.folder), "weights": [0.3, 0.9]}
        return section(name, self.folder)


class TestSpins(SpinTests):
    cases = {
        "one type": {k: v for k, v in section("spin", None).items() if k != "type_map"},
        "both": {
            "descriptor": {**SE_A, "precision": "float64", "seed": 1},
            "fitting_net": {"neuron": [6], "seed": 1},
            "spin": {"use_spin": [True, True], "virtual_scale": [0.3, 0.2]},
        },
    }
    backends = BACKENDS

    def reach(self, rcut):
        return rcut + 2.0


class TestFragments(ModelTests):
    """Sums over a QM region with each fragment around it, which are given as a parameter of atoms."""

    cases = {"plain": {**copy.deepcopy(pairwise.SECTION), "type_map": ["O", "H"]}}
    backends = BACKENDS
    files = ("numpy",)
    test_supercell = None  # fragments of the same number are one; those of two cells are not alike

    def section(self, case):
        given = copy.deepcopy(case)
        for part in ("qm_model", "qmmm_model"):  # else nothing is smooth, and the first atom counts
            given[part]["descriptor"]["set_davg_zero"] = True
        return normalize_model(given)

    def extra(self, n_atoms):
        if n_atoms <= 2:  # both in the QM region
            return {"aparam": np.zeros((n_atoms, 1))}
        return {"aparam": np.array([0.0, 1.0, 1.0, 0.0, 2.0])[np.arange(n_atoms) % 5, None]}


class Wrong(TestSpins):
    """Results with errors that depend on where atoms are, on their order and on other frames."""

    __test__ = False
    constant = False

    def evaluate(self, potential, coord, cell, atype, **more):
        out = super().evaluate(potential, coord, cell, atype, **more)
        frames = np.asarray(coord) if np.ndim(coord) == 3 else np.asarray(coord)[None]
        row = 1e-3 * np.arange(frames.shape[1])[None, :, None]
        outside = np.abs(frames).max(axis=(1, 2), initial=0.0) > 4.0
        wrong = {
            "energy": out["energy"] + 1e-3 * len(frames) + outside[:, None],
            "atom_energy": out["atom_energy"] + frames.sum(axis=-1, keepdims=True) + row,
            "force": out["force"] + 1e-5 + 1e-2 * row,
            "force_mag": out["force_mag"] + 1e-5,
            "virial": out["virial"] + 1e-5,
        }
        return {
            name: 0.0 * value if self.constant else value for name, value in (out | wrong).items()
        }


def checks():
    """Names of all tests of models with spins, but for those of files, which are elsewhere."""
    formats = {"test_dictionary_round_trip", "test_export", "test_restart"}
    return sorted({name for name in dir(SpinTests) if name.startswith("test_")} - formats)


@pytest.mark.parametrize("check", checks())
def test_every_check_can_fail(check):
    wrong, right = Wrong(), TestSpins()
    wrong.constant = check == "test_it_is_no_constant"
    model = randomize(build_model(wrong.section(TestSpins.cases["both"])))
    potential = right.opened(evaluator("numpy", model))
    system = small_system(model.get_ntypes(), model.get_rcut())
    given = {"model": model, "potential": potential, "system": system, "periodic": True}
    given["more"] = right.extra(len(system[0]))
    names = inspect.signature(getattr(right, check)).parameters
    getattr(right, check)(**{name: given[name] for name in names})
    if check == "test_backends_agree":  # a backend that is wrong, and one that is right
        each = iter([TestSpins.evaluate, Wrong.evaluate] * 2)
        wrong.evaluate = lambda *a, **k: next(each)(wrong, *a, **k)
    with pytest.raises(AssertionError):
        getattr(wrong, check)(**{name: given[name] for name in names})
