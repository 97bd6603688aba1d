# SPDX-License-Identifier: LGPL-3.0-or-later
"""The rows of the table of pair_coeff in docs/lammps.md."""

import re

import numpy as np
import pytest

from deepmd.infer import DeepPot

BOX = 8.0
NATOMS = 27


def positions():
    rng = np.random.default_rng(1)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    return 2.6 * grid + 0.2 * rng.random((NATOMS, 3))


def types(ntypes):
    return 1 + np.arange(NATOMS) % ntypes


def commands(path, coeff, *, ntypes, present=None, style="deepmd {}", more=""):
    """Commands that end with one evaluation; types above ``present`` have no atoms."""
    rows = zip(types(present or ntypes), positions(), strict=True)
    return [
        "clear",
        "units metal",
        "atom_modify map yes",
        f"region b block 0 {BOX} 0 {BOX} 0 {BOX}",
        f"create_box {ntypes} b",
        *(f"create_atoms {t} single {a:.17g} {b:.17g} {c:.17g}" for t, (a, b, c) in rows),
        "mass * 1.0",
        "pair_style " + style.format(path),
        f"pair_coeff {coeff}",
        *([more] if more else []),
        "thermo_style custom step pe",
        "thermo_modify norm no format float %.15g",
        "run 0",
    ]


@pytest.fixture(scope="module")
def path(tmp_path_factory, random_model):
    return random_model(tmp_path_factory.mktemp("types") / "one.pth", fitting={}, sel=[20, 40])


#: What follows pair_coeff, the number of LAMMPS's types, the model's type of each, a warning.
ACCEPTED = [
    ("* * O H", 2, [0, 1], ""),
    ("* * H O", 2, [1, 0], ""),
    ("* * O O", 2, [0, 0], ""),
    ("* * O H NULL", 3, [0, 1, -1], ""),
    ("* * NULL H O", 3, [-1, 1, 0], ""),
    ("* * H NULL O", 3, [1, -1, 0], ""),
    ("* *", 2, [0, 1], ""),
    ("* *", 1, [0], "type 1 is taken for the first of O H"),
    ("* *", 3, [0, 1, -1], "type 3 is ignored by the model, which has only O H"),
    ("* *", 5, [0, 1, -1, -1, -1], "types 3 to 5 are ignored by the model"),
]


def test_accepted(lammps, path):
    """Energies are those of Python for the types that the table names."""
    text, expected, model = "", [], DeepPot(path)
    for coeff, ntypes, numbers, _ in ACCEPTED:
        text += "\n".join(commands(path, coeff, ntypes=ntypes)) + "\n"
        atype = np.array(numbers)[types(ntypes) - 1]
        expected.append(model.eval(positions()[None], BOX * np.eye(3)[None], atype)[0][0, 0])
    run = lammps(text)
    found = [run.thermo(k)["PotEng"][0] for k in range(len(ACCEPTED))]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    warnings = re.findall(r"WARNING: pair_style deepmd: (pair_coeff.*)", run.text)
    wanted = [w for *_, w in ACCEPTED if w]
    assert len(warnings) == len(wanted)
    assert all(w in warning for w, warning in zip(wanted, warnings, strict=True))


def test_refused(messages, path):
    """Mistakes, and names that are missing for atoms that no other style acts on."""
    overlay = {"style": "hybrid/overlay deepmd {} zero 4.0", "more": "pair_coeff * * zero"}
    cases = [
        (commands(path, "* * O H H", ntypes=2), "3 names for 2 types"),
        (commands(path, "* * O C", ntypes=2), "does not know C; it has O H"),
        (commands(path, "1 2 O H", ntypes=2), "must start with * *"),
        (commands(path, "* * O", ntypes=2), "names no element for type 2, which has atoms"),
        (commands(path, "* * O", ntypes=2, present=1), ""),
        (commands(path, "* * O H", ntypes=3), "names no element for type 3"),
        (commands(path, "* * deepmd O H", ntypes=3, **overlay), ""),
    ]
    found = messages([list(lines) for lines, _ in cases])
    wrong = [
        (lines[-5], want, got)
        for (lines, want), got in zip(cases, found, strict=True)
        if want not in got or (got and not want)
    ]
    assert not wrong
