# SPDX-License-Identifier: LGPL-3.0-or-later
"""The stored runs: same atoms, same numbers."""

import json
import re

import numpy as np
import pytest
from conftest import REFERENCE, reference_path

from deepmd.base import native

CASES = json.loads((REFERENCE / "lammps/lammps.json").read_text())["runs"]
TOLERANCE = 1e-10
#: Long: 100 steps of another model, or writing our file; the short suite has one of each kind.
LONG = {"water_dpa1_pth", "water_se_e2_a_tri", "water_dpa2", "water_dpa2_mpi2"}


def parameter(case):
    name = case["name"]
    marks = []
    if ".pb" in case["pair_style"]:
        marks = pytest.mark.skip(reason="the same model as water_se_e2_a_pth in TensorFlow's file")
    elif name in LONG:
        marks = pytest.mark.slow  # half a minute each
    return pytest.param(case, id=name, marks=marks)


def close(a, b, tolerance=TOLERANCE):
    """Maximum difference relative to the largest number."""
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 0.01)


def script(case, model):
    """Return the stored input with our model files."""
    text = (REFERENCE / "lammps" / case["input"]).read_text()
    return re.sub(r"(\S+)\.pth", lambda m: model(m[1]), text)


@pytest.mark.parametrize("case", [parameter(c) for c in CASES])
def test_case(case, lammps, model, reference):
    """Thermodynamic output, coordinates, forces, energies and virials of atoms."""
    run = lammps(script(case, model), ranks=case["mpi_ranks"])
    compare(run, case, reference)
    for name in case["files"]:
        ours, stored = ((f / name).read_text() for f in (run.folder, reference / "lammps"))
        assert ours.splitlines()[0] == stored.splitlines()[0]
        assert widths(ours) == widths(stored)
        np.testing.assert_allclose(numbers(ours), numbers(stored), rtol=2e-6, atol=1e-9)


@pytest.mark.parametrize(
    "name",
    [
        "water_se_e2_a_pth",
        "water_se_e2_a_mpi2",
        "water_fparam_aparam",
        "water_model_devi",
        pytest.param("water_dpa1_tri", marks=pytest.mark.slow),
    ],
)
def test_native_engine(name, lammps, reference):
    """The neutral files of the models, without a framework."""
    case = next(c for c in CASES if c["name"] == name)
    if native.library("deepmd_backend_native") is None:
        pytest.skip("libdeepmd_backend_native is not built")
    run = lammps(
        script(case, lambda stem: str(reference_path(f"lammps/{stem}.dp"))),
        ranks=case["mpi_ranks"],
    )
    compare(run, case, reference)


def compare(run, case, reference):
    stored = np.load(reference / "lammps" / case["outputs"])
    thermo = run.thermo()
    for k, name in enumerate(stored["thermo_columns"]):
        close(thermo[name], stored["thermo"][:, k])
    dump, expected = run.dump(f"{case['name']}.dump"), stored["dump"]
    for columns in (slice(2, 5), slice(5, 8), slice(8, 9)):
        close(dump[..., columns], expected[..., columns])
    # To which atom a part of the virial belongs is a matter of taste where messages are passed.
    axis = () if "dpa1" in case["name"] or "dpa" not in case["name"] else -2
    close(dump[..., 9:].sum(axis), expected[..., 9:].sum(axis))


def widths(text):
    return [len(line) for line in text.splitlines()]


def numbers(text):
    return np.array([line.split() for line in text.splitlines()[1:]], dtype=float)


@pytest.mark.parametrize(
    "stem", ["water_se_e2_a", "water_dpa1", "water_dpa2", "water_dpa3", "nio_spin"]
)
def test_files_of_deepmd_kit(stem, lammps, reference):
    """Files made by DeePMD-kit itself are evaluated as they are."""
    file = reference_path(f"lammps/{stem}.pth")
    case = next(
        c for c in CASES if c["pair_style"].endswith(f" {stem}.pth") and c["mpi_ranks"] == 1
    )
    text = (reference / "lammps" / case["input"]).read_text()
    text = text.replace(f"{stem}.pth", str(file), 1)
    text = re.sub(r"run +\d+", "run 0", text)
    run = lammps(text)
    stored = np.load(reference / "lammps" / case["outputs"])
    close(run.dump(f"{case['name']}.dump")[0], stored["dump"][0])
