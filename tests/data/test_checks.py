# SPDX-License-Identifier: LGPL-3.0-or-later
"""Faults of data are found, with the number that tells them; good data are accused of nothing."""

import copy
import json
import logging

import numpy as np
import pytest
from insight.alloys import LABELS, clusters
from insight.alloys import alloy as crystals

from deepmd.data.checks.labels import check_labels
from deepmd.data.checks.quick import quick_check
from deepmd.data.checks.report import check_data
from deepmd.data.checks.structures import check_copies, check_structures
from deepmd.data.checks.work import check_units, groups_of, works
from deepmd.data.frames import Frames
from deepmd.data.search import open_systems
from deepmd.data.writers import write_frames
from deepmd.main import main


def alloy(count=24, *, gold=8, **options):
    """Make frames of 32 atoms."""
    types = [1] * gold + [0] * (32 - gold)
    given = {"rattle": 0.06, "repeats": (2, 2, 2), "types": types, "rcut": 5.0}
    return crystals(count, **(given | options))


GOOD = alloy()


def scaled(name, factor, frames=GOOD):
    frames = copy.deepcopy(frames)
    for frame in frames.frames:
        frame.labels[name] = factor * frame.labels[name]
    return frames


def codes(findings):
    return {f.code for f in findings if f.level != "note"}


def test_good_data_are_accused_of_nothing():
    assert check_units(works(groups_of(GOOD))) == []
    assert check_labels(GOOD) == []
    assert check_copies(GOOD) == []
    assert check_structures(GOOD, 5.0, sel=None)[0] == []


@pytest.mark.parametrize("slope", [23.0605, 1 / 23.0605, 51.4221, 27.2114, 96.4853, -1.0, 1.88973])
def test_units_of_energy_and_force(slope):
    """The slope names the mistake, whichever of the two is wrong."""
    for frames in (scaled("force", 1 / slope), scaled("virial", slope, scaled("energy", slope))):
        [found] = check_units(works(groups_of(frames)))
        assert (found.level, found.code) == ("error", "units")
        assert 0.7 < found.value / slope < 1.3


@pytest.mark.parametrize("factor", [-1.0, 160.2177, -1602.177])
def test_sign_and_scale_of_the_virial(factor):
    [found] = check_units(works(groups_of(scaled("virial", factor))))
    assert (found.level, found.code) == ("error", "virial")
    assert 0.7 < found.value * factor < 1.3


def test_far_frames_say_nothing():
    frames = copy.deepcopy(GOOD)
    rng = np.random.default_rng(1)
    for frame in frames.frames:
        frame.coord = frame.coord + 2.0 * rng.normal(size=frame.coord.shape)
    assert [f.code for f in check_units(works(groups_of(frames)))] == ["units-unknown"]


@pytest.mark.parametrize("frames", [clusters(48), clusters(48, seed=3), alloy(24, rattle=0.2)])
def test_anharmonic_frames_are_not_accused(frames):
    """Far from each other, energies differ from the work of the mean force by a third order."""
    assert [f.code for f in check_units(works(groups_of(frames))) if f.level != "note"] == []
    told = check_units(works(groups_of(scaled("energy", 23.0605, frames))))
    assert [f.code for f in told] in (["units"], ["units-unknown"])


@pytest.mark.parametrize("seed", range(4))
def test_strained_frames_are_not_accused(seed):
    """At 0.2 Å and strains of some percent the slope is 0.6 to 0.9: no reason to suspect Bohr."""
    options = {"rattle": 0.08, "strain": 0.02, "repeats": (2, 1, 1), "seed": seed}
    frames = alloy(40, **(options | {"types": [0] * 8}))
    assert [f for f in check_units(works(groups_of(frames))) if f.level != "note"] == []
    for name, factor in (("energy", 23.0605), ("virial", -1.0)):
        told = check_units(works(groups_of(scaled(name, factor, frames))))
        assert [f.level for f in told] == ["error"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("slope", [1.0, 23.0605, 1 / 27.2114, 51.4221, -1.0])
def test_units_of_strained_frames_without_a_virial(seed, slope):
    """The energy of the strain is fitted, so that the work of the forces is known beside it."""
    options = {"rattle": 0.08, "strain": 0.02, "repeats": (2, 1, 1), "seed": seed}
    frames = scaled("energy", slope, alloy(40, **(options | {"types": [0] * 8})))
    for frame in frames.frames:
        del frame.labels["virial"]
    told = check_units(works(groups_of(frames)))
    assert [f.code for f in told] == ([] if slope == 1.0 else ["units"])
    assert all(f.level == "error" and f.value * slope > 0 for f in told)


def test_few_strained_frames_without_a_virial_say_nothing():
    frames = alloy(5, strain=0.02)
    for frame in frames.frames:
        del frame.labels["virial"]
    assert [f.code for f in check_units(works(groups_of(frames)))] == ["units-unknown"]


def test_overlaps_and_lonely_atoms():
    frames = copy.deepcopy(GOOD)
    frames.frames[3].coord[1] = frames.frames[3].coord[0] + [0.2, 0, 0]
    [found], *_ = check_structures(frames, 5.0)
    assert found.code == "overlap"
    assert abs(found.value - 0.2) < 1e-12
    assert "frame 3" in found.where
    assert codes(check_structures(GOOD, 1.5)[0]) == {"isolated"}


def test_sel_that_would_do():
    findings, needed, _ = check_structures(GOOD, 5.0, [4, 60])
    assert codes(findings) == {"sel"}
    assert check_structures(GOOD, 5.0, needed)[0] == []
    assert codes(check_structures(GOOD, 5.0, 3)[0]) == {"sel"}


def test_copies_are_found_whatever_their_order():
    frames = copy.deepcopy(GOOD)
    order = np.random.default_rng(0).permutation(32)
    twin = copy.deepcopy(frames.frames[5])
    twin.types, twin.coord, twin.number = twin.types[order], twin.coord[order] + 1.0, 99
    other = Frames(frames.names, LABELS, [twin, *alloy(3, seed=9).frames])
    [found] = check_copies(frames, other)
    assert (found.level, found.code, found.value) == ("error", "leak", 0.25)
    frames.frames.append(twin)
    [found] = check_copies(frames)
    assert found.code == "duplicates"
    assert "frame 99 is frame 5" in found.where


def test_labels_that_stand_out():
    frames = copy.deepcopy(GOOD)
    frames.frames[2].labels["energy"] += 200.0
    frames.frames[4].labels["force"][0] = 500.0
    assert codes(check_labels(frames)) == {"energy-outlier", "force-outliers"}
    assert codes(check_labels(scaled("force", 0.0))) == {"zero-forces"}
    assert codes(check_labels(scaled("energy", 0.0))) == {"constant-energy"}
    assert codes(check_labels(scaled("virial", 1602.0))) == {"virial-size"}
    pushed = copy.deepcopy(GOOD)
    for frame in pushed.frames:
        frame.labels["force"] = frame.labels["force"] + 0.5
    assert codes(check_labels(pushed)) == {"net-force"}


def test_another_reference_energy_of_one_composition():
    frames = Frames(GOOD.names, dict(LABELS), [])
    for gold in (0, 4, 8, 16, 24, 32):
        frames.frames += alloy(6, seed=gold, gold=gold).frames
    assert check_labels(frames) == []
    for frame in frames.frames[12:18]:
        frame.labels["energy"] = frame.labels["energy"] + 32 * 3.0
    [found] = check_labels(frames)
    assert found.code == "energy-offset"
    assert abs(found.value - 3.0) < 0.2


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_frames(GOOD, "train", "npy")
    write_frames(alloy(6, seed=3), "valid", "npy")
    return tmp_path


def test_command(folder, capsys):
    assert (
        main(["data", "check", "train", "--valid", "valid", "--rcut", "4.5", "--json", "r.json"])
        == 0
    )
    report = json.loads((folder / "r.json").read_text())
    assert report["passed"] is True
    assert report["findings"] == []
    assert report["facts"]["frames"] == 24
    assert abs(report["facts"]["slopes"]["virial"]["value"] - 1.0) < 0.15
    with pytest.raises(SystemExit) as ended:
        main(["data", "check", "train", "--valid", "train", "--json", "-"])
    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert [f["code"] for f in found["findings"]] == ["leak"]


def test_what_cannot_be_read_is_a_finding(folder):
    [file] = (folder / "valid").glob("*/set.000/energy.npy")
    array = np.load(file)
    array[2] = np.nan
    np.save(file, array)
    report = check_data(open_systems(["train", "valid"]), rcut=4.5)
    [found] = report.findings
    assert found.code == "unreadable"
    assert "in frame 2" in found.text
    assert not report.passed


def test_missing_and_new_elements(folder):
    write_frames(alloy(4, seed=8, gold=0), "copper", "npy")
    report = check_data(
        open_systems(["copper"]), open_systems(["valid"]), rcut=4.5, type_map=["Cu", "Zn"]
    )
    assert {"missing-element", "untrained-element"} <= codes(report.findings)


def test_quick_half(folder):
    train, valid = open_systems(["train"]), open_systems(["valid"])
    assert quick_check(train, valid, min_nbor_dist=2.0, batch_sizes=[2]) == []
    write_frames(scaled("force", 1 / 51.42), "hartree", "npy")
    bad = open_systems(["hartree"])
    found = quick_check(bad, bad, min_nbor_dist=0.2, batch_sizes=[50], unused=["virial"])
    assert [f.code for f in found] == ["overlap", "units", "leak", "unused", "batch"]
    [box] = (folder / "train").glob("*/set.000/box.npy")
    np.save(box, np.zeros_like(np.load(box)))
    found = quick_check(open_systems(["train"]), None, min_nbor_dist=2.0, batch_sizes=[2])
    assert "zero-box" in {f.code for f in found}


def test_a_training_begins_with_the_quick_half(folder, caplog):
    """From extended XYZ, with forces in other units; at most five lines, and none for good data."""
    pytest.importorskip("ase", reason="ase is not installed")
    write_frames(scaled("force", 1 / 51.42), "bad.extxyz")
    write_frames(GOOD, "good.extxyz")
    descriptor = {"type": "se_e2_r", "sel": [60, 30], "rcut": 4.0, "rcut_smth": 1.0, "neuron": [2]}
    config = {
        "model": {
            "type_map": ["Cu", "Au"],
            "descriptor": descriptor,
            "fitting_net": {"neuron": [4]},
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "loss": {"start_pref_e": 1, "start_pref_f": 1, "limit_pref_e": 1, "limit_pref_f": 1},
        "training": {"numb_steps": 1, "seed": 1, "training_data": {"batch_size": 1}},
    }
    for name, wanted in (("bad", True), ("good", False)):
        config["training"]["training_data"]["systems"] = [f"{name}.extxyz", "valid"]
        (folder / "input.json").write_text(json.dumps(config))
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="deepmd"):
            assert main(["--dp", "train", "input.json", "--skip-neighbor-stat"]) == 0
        assert ("forces are Hartree/Bohr where energies are eV" in caplog.text) is wanted
        assert "the data have virial, which the loss does not use" in caplog.text


def test_labels_of_some_atoms_are_left_out(tmp_path, caplog):
    """As of dipoles with ``sel_type``; a wrong number of forces is still an error."""
    write_frames(GOOD.subset(range(4)), tmp_path / "data")
    [folder] = (tmp_path / "data").glob("*/set.000")
    np.save(folder / "atomic_dipole.npy", np.zeros((4, 8 * 3)))
    systems = open_systems([str(folder.parent)])
    assert "invalid" not in codes(check_data(systems).findings)
    assert [f.text for f in check_data(systems).findings if "atom_dipole" in f.text] == []
    np.save(folder / "force.npy", np.zeros((4, 8 * 3)))
    assert any("force" in f.text for f in check_data(systems).findings if f.level == "error")
