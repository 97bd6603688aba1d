# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every input of a model through every front end: none is dropped."""

import importlib.util
import sys
import types

import numpy as np
import pytest
from infer.models import make_section

from deepmd.base.errors import InputError
from deepmd.base.native import library
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.io import save_model
from deepmd.runtime.probes import model_file_dict
from deepmd.testing.systems import save_system

NAMES, TYPES = ["O", "H", "H", "O", "H"], [0, 1, 1, 0, 1]
CELL = np.array([[5.0, 0.2, 0.1], [0.3, 5.4, 0.0], [0.0, -0.4, 5.2]])
N_FRAMES = 2
rng = np.random.default_rng(0)
COORD = rng.uniform(0, 5, (N_FRAMES, 5, 3))
#: Input -> values of all frames, and others.
VALUES = {
    "fparam": rng.normal(size=(2, N_FRAMES, 2)),
    "aparam": rng.normal(size=(2, N_FRAMES, 5, 1)),
    "charge_spin": np.array([[[0.0, 1.0], [1.0, 2.0]], [[-1.0, 2.0], [2.0, 3.0]]]),
    "spin": rng.normal(size=(2, N_FRAMES, 5, 3)),
}


def spin_section():
    section = make_section(numb_fparam=2, numb_aparam=1)
    section["spin"] = {"use_spin": ["O"], "virtual_scale": [0.3]}
    return section


def charge_section():
    flow = {
        "n_dim": 6, "e_dim": 4, "a_dim": 4, "nlayers": 1, "axis_neuron": 2,
        "e_rcut": 3.0, "e_rcut_smth": 1.0, "e_sel": 40,
        "a_rcut": 2.5, "a_rcut_smth": 1.0, "a_sel": 30,
    }  # fmt: skip
    section = make_section(numb_fparam=2, numb_aparam=1)
    return section | {
        "descriptor": {"type": "dpa3", "repflow": flow, "add_chg_spin_ebd": True, "seed": 1}
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model of charges and one of spins, both with parameters of frames and of atoms."""
    folder, found = tmp_path_factory.mktemp("inputs"), {}
    for name, section in (("charge_spin", charge_section()), ("spin", spin_section())):
        model = build_model(section)
        found[name] = folder / f"{name}.dp"
        save_model(found[name], model_file_dict(model, section, 0.9, "NumPy"))
    return found


@pytest.fixture
def frames(tmp_path, monkeypatch):
    """Run in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# -- front ends: (file, inputs) -> energies (n_frames,) ------------------------------------------


def by_evaluate(file, given):
    return DeepPot(file).evaluate(COORD, CELL, TYPES, derivatives=(), **given)["energy"][:, 0]


def by_ase(file, given):
    """One calculator for all frames: what changes is the input alone, or with the positions."""
    ase = pytest.importorskip("ase")
    from deepmd.calculator import DP

    given, energies = dict(given), []
    spin = given.pop("spin", None)
    atoms = ase.Atoms(NAMES, COORD[0], cell=CELL, pbc=True, calculator=DP(file))
    for k in range(N_FRAMES):
        atoms.positions = COORD[k]
        for changed in (1 - k, k):
            atoms.info |= {name: v[changed] for name, v in given.items()}
            if spin is not None:
                atoms.set_initial_magnetic_moments(spin[changed])
            energy = atoms.get_potential_energy()
        energies.append(energy)
    return energies


def by_driver(file, given):
    with pytest.MonkeyPatch.context() as patch:
        return labeled_by_driver(file, given, patch)


def labeled_by_driver(file, given, monkeypatch):
    if importlib.util.find_spec("dpdata") is None:
        package, module = types.ModuleType("dpdata"), types.ModuleType("dpdata.driver")
        module.Driver = type("Driver", (), {"register": staticmethod(lambda _: lambda c: c)})
        monkeypatch.setitem(sys.modules, "dpdata", package)
        monkeypatch.setitem(sys.modules, "dpdata.driver", module)
        monkeypatch.delitem(sys.modules, "deepmd.driver", raising=False)
    from deepmd.driver import DPDriver

    monkeypatch.delitem(sys.modules, "deepmd.driver")
    names = {"spin": "spins"}
    data = {"coords": COORD, "cells": np.tile(CELL, (N_FRAMES, 1, 1)), "atom_types": TYPES}
    data |= {"atom_names": ["O", "H"], **{names.get(k, k): v for k, v in given.items()}}
    return DPDriver(file).label(data)["energies"]


def write_data(folder, given):
    arrays = {"coord": COORD, "box": np.tile(CELL, (N_FRAMES, 1, 1)), "energy": np.zeros(N_FRAMES)}
    rows = {name: np.reshape(v, (N_FRAMES, -1)) for name, v in {**arrays, **given}.items()}
    save_system(folder, TYPES, ["O", "H"], rows)


def by_dp_test(file, given):
    from deepmd.entrypoints.test import test

    test(model=str(file), system="data", detail_file="out")
    return np.loadtxt("out.e.out")[:, 1]


def by_model_devi(file, given):
    """The error of one model against labels of zero is its energy."""
    from deepmd.entrypoints.model_devi import model_devi

    (rows,) = model_devi(models=[str(file)], system="data", real_error=True)
    return rows[:, 7] * len(TYPES)


def by_c(file, given):
    pytest.importorskip("torch")
    from cxx import c_api

    if library("deepmd_backend_torch") is None:
        pytest.skip("the C library with PyTorch was not built (make native)")
    from deepmd.entrypoints.convert_backend import convert_backend

    compiled = file.with_suffix(".pth")
    if not compiled.exists():
        convert_backend(INPUT=str(file), OUTPUT=str(compiled))
    part = "DeepSpin" if "spin" in given else "DeepPot"
    opened = c_api.Handle(c_api.load(library("deepmd_c")), part, compiled)
    cells = np.tile(CELL, (N_FRAMES, 1, 1))
    found = opened.compute(COORD, cells, np.array(TYPES), **given)["energy"][:, 0]
    opened.close()
    return found


FRONT_ENDS = {
    "evaluate": by_evaluate,
    "ase": by_ase,
    "driver": by_driver,
    "dp-test": by_dp_test,
    "dp-model-devi": by_model_devi,
    "c": by_c,
}


def inputs_with(changed):
    """Inputs of the model that takes ``changed``, this one with its other values."""
    kind = "spin" if changed == "spin" else "charge_spin"
    given = {n: v[0] for n, v in VALUES.items() if n in ("fparam", "aparam", kind)}
    return kind, given | {changed: VALUES[changed][1]}


def cases():
    for front_end in FRONT_ENDS:
        for name in VALUES:
            if (name, front_end) == ("spin", "dp-model-devi"):
                continue  # deviations of models with spins are not built
            # The program of a model with spins takes long to trace; tests/cxx has golden ones.
            marks = [pytest.mark.slow] if (name, front_end) == ("spin", "c") else []
            yield pytest.param(name, front_end, id=f"{name}-{front_end}", marks=marks)


@pytest.mark.parametrize(("name", "front_end"), list(cases()))
def test_input_arrives(files, frames, name, front_end):
    kind, given = inputs_with(name)
    model = DeepPot(files[kind])
    want = model.eval(COORD, CELL, TYPES, **given)[0][:, 0]
    usual = model.eval(COORD, CELL, TYPES, **given | {name: VALUES[name][0]})[0][:, 0]
    assert np.abs(want - usual).min() > 1e-5
    write_data(frames / "data", given)
    found = FRONT_ENDS[front_end](files[kind], given)
    if front_end == "dp-model-devi":
        want = np.abs(want)
    np.testing.assert_allclose(found, want, rtol=1e-10)


@pytest.mark.parametrize("name", ["charge_spin", "spin"])
def test_eval_desc(files, frames, name):
    from deepmd.entrypoints.eval_desc import eval_desc

    kind, given = inputs_with(name)
    model = DeepPot(files[kind])
    want = model.eval_descriptor(COORD, CELL, TYPES, **given)
    usual = model.eval_descriptor(COORD, CELL, TYPES, **given | {name: VALUES[name][0]})
    assert np.abs(want - usual).max() > 1e-4
    write_data(frames / "data", given)
    (file,) = eval_desc(model=str(files[kind]), system="data")
    np.testing.assert_allclose(np.load(file), want, rtol=1e-10)


@pytest.mark.parametrize("name", VALUES)
def test_change_bias(files, frames, name):
    """Labels that are the predictions leave no bias to add, unless an input was dropped."""
    from deepmd.entrypoints.change_bias import change_bias

    kind, given = inputs_with(name)
    energy = DeepPot(files[kind]).eval(COORD, CELL, TYPES, **given)[0]
    write_data(frames / "data", given | {"energy": energy})
    change_bias(INPUT=str(files[kind]), system="data", output="changed.dp")
    found = DeepPot("changed.dp").eval(COORD, CELL, TYPES, **given)[0]
    np.testing.assert_allclose(found, energy, rtol=0, atol=1e-9)


def test_unknown_inputs_are_refused(files):
    _, given = inputs_with("charge_spin")
    model = DeepPot(files["charge_spin"])
    given["charge_spn"] = given.pop("charge_spin")
    for call in (model.eval, model.eval_descriptor):
        with pytest.raises(InputError, match=r'charge_spn: .*did you mean "charge_spin"'):
            call(COORD, CELL, TYPES, **given)
