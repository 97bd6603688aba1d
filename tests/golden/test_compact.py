# SPDX-License-Identifier: LGPL-3.0-or-later
"""The compact golden set is a faithful part of the full one, with a case of every component."""

import json

import pytest
from conftest import COMPACT, REFERENCE
from golden.select_compact import LIMIT, differences, packed_size, select

from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.dpmodel.loss import Loss

MANIFEST = json.loads((COMPACT / "manifest.json").read_text())
CASES = MANIFEST["cases"]


def test_it_is_a_part_of_the_full_set():
    if REFERENCE == COMPACT:
        pytest.skip("the full set is not here")
    assert not differences(select(REFERENCE))


def test_it_is_small_and_complete():
    files = {str(p.relative_to(COMPACT)): p.read_bytes() for p in COMPACT.rglob("*") if p.is_file()}
    assert packed_size(files) <= LIMIT
    named = {f for c in CASES for f in (*c["files"].values(), c["npz"])}
    named |= {c["npz"] for c in MANIFEST["checkpoints"]}
    extra = json.loads((COMPACT / "extra/manifest.json").read_text())
    named |= {f"extra/{f}" for c in extra for f in (*c["files"].values(), c["npz"])}
    runs = json.loads((COMPACT / "lammps/lammps.json").read_text())["runs"]
    named |= {f"lammps/{f}" for r in runs for f in (r["input"], r["data"], r["outputs"])}
    assert not named - set(files)
    assert all((COMPACT / c["file"]).exists() for c in MANIFEST["checkpoints"])


def classes(registry, names):
    return {registry.get(name) for name in names if name in registry}


def test_every_component_has_a_case():
    descriptors = {c["descriptor"] for c in CASES}
    lacking = set(classes(Descriptor.registry, Descriptor.registry))
    lacking -= classes(Descriptor.registry, descriptors)
    # That of loc_frame is TensorFlow's alone; Radial is the example of the documentation. Results
    # with type embeddings and masks, made by DeePMD-kit 3.2.0, are in tests/graphs/test_files.py.
    elsewhere = {"DescrptLocFrame", "Radial", "DescrptSeAEbdV2", "DescrptSeATebd", "DescrptSeAMask"}
    assert {c.__name__ for c in lacking} <= elsewhere
    fittings = {c["fitting"] for c in CASES} - {None}
    lacking = classes(Fitting.registry, Fitting.registry) - classes(Fitting.registry, fittings)
    # Results of populations, made by DeePMD-kit 3.2.0, are in tests/dpmodel/test_population.py.
    assert {c.__name__ for c in lacking} <= {"InvarFitting", "PopulationFitting"}
    assert {c["model"] for c in CASES} == {"standard", "zbl", "linear_ener", "spin"}
    inputs = [json.loads(p.read_text()) for p in sorted(COMPACT.glob("train/step_*/input.json"))]
    losses = {i["loss"].get("type", "ener") for i in inputs}
    lacking = classes(Loss.registry, Loss.registry) - classes(Loss.registry, losses)
    assert {c.__name__ for c in lacking} <= {"PopulationLoss"}


@pytest.mark.parametrize("suffix", ["dp", "yaml", "pth", "hlo", "pb", "pt"])
def test_every_format_has_a_case(suffix):
    assert any(suffix in c["files"] for c in CASES)
