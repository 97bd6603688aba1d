# SPDX-License-Identifier: LGPL-3.0-or-later
"""Wrong input around data sets: one clear line, status 1, nothing written."""

import json
from pathlib import Path

import numpy as np
import pytest

from deepmd.base.log import clear_logging
from deepmd.main import main

pytest.importorskip("ase", reason="ase is not installed")

LATTICE = 'Lattice="5 0 0 0 5 0 0 0 5"'
HEAD = f"2\n{LATTICE} Properties=species:S:1:pos:R:3:forces:R:3 energy=-1.0\n"
ATOMS = "O 0 0 0 0 0 1\nH 0 0 1 0 0 -1\n"
GOOD = HEAD + ATOMS
BARE = f"2\n{LATTICE} Properties=species:S:1:pos:R:3 {{}}\nO 0 0 0\nH 0 0 1\n"


def changed(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


#: What is in a.extxyz -> what is said of it.
FILES = {
    "empty": ("", "a.extxyz: "),
    "blank": ("\n\n", "a.extxyz: "),
    "no number": ("two\n\nO 0 0 0\n", "a.extxyz: cannot be read"),
    "negative number": ("-2\n\nO 0 0 0\n", "a.extxyz: "),
    "fewer lines": ("3\n" + GOOD.split("\n", 1)[1], "a.extxyz: cannot be read"),
    "cut off": (GOOD[:-12], "a.extxyz: cannot be read"),
    "letters for numbers": (changed("H 0 0 1 0", "H 0 0 x 0"), "a.extxyz: cannot be read"),
    "binary": ("\x00\x01\x02\x03" * 50, "a.extxyz: cannot be read"),
    "no atoms": ("0\n\n", "a.extxyz: "),
    "unknown element": (changed("H 0", "Hx 0"), "a.extxyz: "),
    "no element": (changed("H 0", "X 0"), "frame 0 has an atom of no element"),
    "NaN energy": (changed("-1.0", "nan"), "NaN or infinite number in energy of frame 0"),
    "infinite force": (changed("0 0 -1\n", "0 0 inf\n"), "in force of frame 0"),
    "NaN position": (changed("H 0 0 1", "H 0 0 nan"), "in coord of frame 0"),
    "huge energy": (changed("-1.0", "1e200"), "the number 1e+200 in energy of frame 0"),
    "NaN in the second frame": (GOOD + changed("-1.0", "nan"), "in energy of frame 1"),
    "slab": (changed("energy", 'pbc="T T F" energy'), "frame 0 is periodic in some directions only (pbc T T F)"),
    "flat cell": (changed("0 0 5", "0 0 0"), "frame 0 is periodic"),
    "parallel vectors": (changed("5 0 0 0 5 0", "5 0 0 5 0 0"), "frame 0 is periodic, but its cell has no volume"),
    "stress of seven": (BARE.format('stress="1 2 3 4 5 6 7" energy=1'), "Got info item stress"),
    "virial of two": (BARE.format('virial="1 2" energy=1'), "Got info item virial"),
    "two energies": (changed("energy=-1.0", "energy=-1.0 REF_energy=-2.0"), 'may be "energy" or "REF_energy"'),
    "half renamed": (GOOD + changed("energy", "REF_energy"), 'may be "energy" or "REF_energy"'),
    "three energies": (BARE.format("ref_energy=1 dft_energy=2"), 'may be "ref_energy" or "dft_energy"'),
    "virial against stress": (
        BARE.format('energy=1 virial="1 0 0 0 1 0 0 0 1" stress="1 0 0 0 1 0 0 0 1"'),
        '"virial" and "stress" differ in frame 0',
    ),
    "energy of letters": (changed("-1.0", "abc"), 'energy of frame 0 is "abc", expected numbers'),
    "letters in the second frame": (GOOD + changed("-1.0", "-1.0eV"), 'energy of frame 1 is "-1.0eV"'),
    "energy of three": (BARE.format('energy="1 2 3"'), "energy"),
    "parameters of two sizes": (
        BARE.format('energy=1 fparam="1 2"') + BARE.format('energy=1 fparam="1 2 3"'),
        "fparam has 3 numbers in frame 1, 2 before",
    ),
}  # fmt: skip

#: Declared keys -> what is said of them.
KEYS = {
    "unknown name": (["energy=enrgy"], 'no frame has "enrgy"'),
    "nearest name": (["energy=energi"], 'did you mean "energy"?'),
    "no equals sign": (["energy"], '--keys: "energy" is not understood; write LABEL=NAME'),
    "no label": (["=energy"], "write LABEL=NAME"),
    "one name twice": (["energy=energy", "atom_ener=energy"], '"energy" is two labels'),
    "virial and stress": (["virial=a", "stress=b"], "virial and stress are both declared"),
    "misspelled label": (["enrgy=energy"], 'keys/enrgy: is no label; did you mean "energy"?'),
    "plural": (["forces=forces"], 'did you mean "force"?'),
    "boundaries": (["pbc=T T"], '"T T" is not understood; write "T T T" or "F F F"'),
    "letters": (["pbc=yes yes yes"], 'write "T T T" or "F F F"'),
    "no boundaries": (["pbc="], "training_data/keys/pbc"),
    "force is energy": (["force=energy"], "expected 2 atoms x 3"),
    "energy is force": (["energy=forces"], "expected 1"),
    "positions": (["atom_ener=positions"], 'no frame has "positions"'),
}

#: Commands on good data -> what is said.
COMMANDS = {
    "no file": (["convert", "b.extxyz", "out"], "b.extxyz: there is no such system or folder"),
    "folder without data": (["convert", "void", "out"], "no system (folder or group with type.raw, or .extxyz)"),
    "target is there": (["convert", "a.extxyz", "taken"], "taken: exists already"),
    "target is the source": (["convert", "a.extxyz", "a.extxyz"], "a.extxyz: exists already"),
    "target below a file": (["convert", "a.extxyz", "a.extxyz/b"], "a.extxyz/b: cannot be written"),
    "hdf5 that is none": (["convert", "bad.hdf5", "out"], "bad.hdf5"),
    "lmdb that is none": (["convert", "bad.lmdb", "out"], "bad.lmdb"),
    "names are no elements": (["convert", "named", "out.extxyz"], 'type "water" is no element'),
    "types without names": (["convert", "nameless", "out.hdf5"], "the types have no names"),
    "other types": (["convert", "a.extxyz", "out", "--type-map", "C", "N"], "is not in the model's type map"),
    "a name twice": (["convert", "a.extxyz", "out", "--type-map", "O", "O", "H"], "a.extxyz: a name occurs twice"),
    "the file and not its cache": (["convert", "a.extxyz", "out", "--type-map", "O"], 'dp: a.extxyz: type "H" is not'),
    "file that is not written": (["convert", "a.extxyz", "out.json"], "out.json: files of this kind are not written"),
    "negative cutoff": (["check", "a.extxyz", "--rcut", "-5"], "--rcut: found -5, expected a positive length"),
    "no cutoff": (["check", "a.extxyz", "--rcut", "0"], "--rcut: found 0, expected a positive length"),
    "cutoff of NaN": (["check", "a.extxyz", "--rcut", "nan"], "--rcut: found nan, expected a positive length"),
    "labels of some atoms": (["convert", "partial", "out.hdf5"], "expected 2 atoms x 3"),
    "label of a wrong size": (["convert", "wide", "out.hdf5"], "virial"),
    "keys with dpdata": (["convert", "a", "out", "--dpdata", "vasp/outcar", "--keys", "energy=e"], "--keys"),
    "fractions": (["split", "a.extxyz", "out", "--fractions", "0.5", "0.6"], "0.5 0.6 are no parts of 1"),
    "one fraction": (["split", "a.extxyz", "out", "--fractions", "1"], "are no parts of 1"),
    "four fractions": (["split", "a.extxyz", "out", "--fractions", *["0.25"] * 4], "4 parts"),
    "negative fraction": (["split", "a.extxyz", "out", "--fractions", "1.5", "-0.5"], "are no parts of 1"),
    "one frame": (["split", "a.extxyz", "out"], "1 different frames cannot be divided into 2 parts"),
    "one composition": (["split", "a.extxyz", "out", "--by", "composition"], "1 different compositions"),
    "parts are there": (["split", "a.extxyz", "."], "exists already"),
    "check of nothing": (["check", "b.extxyz"], "b.extxyz: there is no such system or folder"),
    "check of no input": (["check", "none.json"], "none.json"),
    "check of a broken input": (["check", "broken.json"], "broken.json"),
    "input and validation": (["check", "broken.json", "--valid", "a.extxyz"], "names its validation data"),
    "check without names": (["check", "nameless"], "the types have no names; name the types with --type-map"),
    "check of other types": (["check", "a.extxyz", "--type-map", "C"], "is not in the model's type map"),
}  # fmt: skip


def save_system(folder, names, extra=None):
    root = Path(folder) / "set.000"
    root.mkdir(parents=True)
    Path(folder, "type.raw").write_text("0 1\n")
    if names:
        Path(folder, "type_map.raw").write_text("\n".join(names))
    arrays = {
        "coord": np.arange(6.0)[None],
        "box": 9.0 * np.eye(3).reshape(1, 9),
        "energy": np.ones(1),
    }
    for name, array in (arrays | (extra or {})).items():
        np.save(root / f"{name}.npy", array)


@pytest.fixture
def fails(tmp_path, monkeypatch, capsys):
    """Run ``dp data``; there must be one line on stderr, and no new file."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        before = {p for p in tmp_path.rglob("*") if "data_cache" not in p.parts}
        assert main(["data", *args, "--log-level", "ERROR"]) == 1
        assert {p for p in tmp_path.rglob("*") if "data_cache" not in p.parts} == before
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("dp: ")
        return lines[0]

    yield run
    clear_logging()


@pytest.mark.parametrize("case", FILES)
def test_files(fails, case):
    content, message = FILES[case]
    Path("a.extxyz").write_text(content)
    assert message in fails("convert", "a.extxyz", "out")


@pytest.mark.parametrize("case", KEYS)
def test_keys(fails, case):
    words, message = KEYS[case]
    Path("a.extxyz").write_text(GOOD)
    assert message in fails("convert", "a.extxyz", "out", "--keys", *words)


@pytest.mark.parametrize("case", COMMANDS)
def test_commands(fails, case):
    words, message = COMMANDS[case]
    if "bad.lmdb" in words:
        pytest.importorskip("lmdb", reason="lmdb is not installed")
    Path("a.extxyz").write_text(GOOD)
    for name in ("void", "taken", "train"):
        Path(name).mkdir()
    Path("taken/note").write_text("kept")
    for name in ("bad.hdf5", "bad.lmdb", "broken.json"):
        Path(name).write_text("{ not this")
    save_system("named", ["water", "salt"])
    save_system("nameless", None)
    save_system("partial", ["O", "H"], {"atomic_dipole": np.ones((1, 3))})
    save_system("wide", ["O", "H"], {"virial": np.ones((1, 6))})
    assert message in fails(*words)


@pytest.mark.parametrize(
    "keys", [["energy"], {"energy": 3}, {"energy": ""}, "energy", {"pbc": None}]
)
def test_keys_of_an_input(tmp_path, monkeypatch, capsys, keys):
    monkeypatch.chdir(tmp_path)
    Path("a.extxyz").write_text(GOOD)
    model = {
        "type_map": ["O", "H"],
        "descriptor": {"type": "se_e2_r", "sel": [2, 2], "rcut": 3.0, "neuron": [2]},
        "fitting_net": {"neuron": [2]},
    }
    data = {"systems": ["a.extxyz"], "keys": keys}
    rate = {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5}
    config = {
        "model": model,
        "learning_rate": rate,
        "training": {"training_data": data, "numb_steps": 1},
    }
    Path("input.json").write_text(json.dumps(config))
    assert main(["--dp", "train", "input.json", "--log-level", "ERROR"]) == 1
    assert "keys" in capsys.readouterr().err
    clear_logging()


def test_there_are_many():
    assert len(FILES) + len(KEYS) + len(COMMANDS) >= 60
