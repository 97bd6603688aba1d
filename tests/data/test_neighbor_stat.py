# SPDX-License-Identifier: LGPL-3.0-or-later
"""Neighbor statistics, ``sel: "auto"`` and the command."""

import itertools
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deepmd.base.errors import DataError, InputError
from deepmd.data.neighbor_stat import (
    drop_close_pairs,
    model_selections,
    neighbor_stat,
    resolve_sel,
    update_sel,
)
from deepmd.data.search import open_systems
from deepmd.dpmodel.label import Label
from deepmd.entrypoints import neighbor_stat as command
from deepmd.main import main_parser


def brute_force(coord: np.ndarray, cell: np.ndarray | None, types: np.ndarray, rcut: float):
    """Count neighbors by types with explicit images: (smallest distance, (n, 2) counts)."""
    images = [np.zeros(3)]
    if cell is not None:
        images = [np.array(s) @ cell for s in itertools.product(range(-3, 4), repeat=3)]
    counts, nearest = np.zeros((len(coord), 2), int), np.inf
    for a, b, image in itertools.product(range(len(coord)), range(len(coord)), images):
        r = np.linalg.norm(coord[b] + image - coord[a])
        if 0 < r <= rcut:
            counts[a, types[b]] += 1
            nearest = min(nearest, r)
    return nearest, counts


@pytest.mark.parametrize("pbc", [True, False])
def test_against_brute_force(make: Callable, pbc: bool) -> None:
    made = make(sets=(2, 1), pbc=pbc)
    systems = open_systems(made.path, type_map=["A", "B"])
    results = []
    for f in range(3):
        cell = made.arrays["box"][f].reshape(3, 3) if pbc else None
        results.append(brute_force(made.arrays["coord"][f].reshape(-1, 3), cell, made.types, 4.0))
    nearest, most = neighbor_stat(systems, 4.0, 2)
    assert nearest == pytest.approx(min(r[0] for r in results), abs=1e-12)
    assert most.tolist() == np.max([r[1].max(axis=0) for r in results], axis=0).tolist()
    _, total = neighbor_stat(systems, 4.0, 2, mixed_types=True)
    assert total.tolist() == [max(r[1].sum(axis=1).max() for r in results)]


def test_no_neighbors(make: Callable) -> None:
    systems = open_systems(make(pbc=False).path)
    nearest, most = neighbor_stat(systems, 1e-6, 2)
    assert nearest == np.inf
    assert not most.any()


@pytest.mark.parametrize("shift", [0, 1])
def test_coincident_atoms_are_refused(make: Callable, shift: int) -> None:
    made = make()
    coord = made.arrays["coord"].reshape(4, 5, 3).copy()
    coord[2, 4] = coord[2, 1] + shift * made.arrays["box"][2].reshape(3, 3)[1]
    np.save(Path(made.path) / "set.000/coord.npy", coord)
    with pytest.raises(DataError, match="two atoms of frame 2"):
        neighbor_stat(open_systems(made.path), 3.0, 2)


def test_type_outside_of_the_map(make: Callable) -> None:
    with pytest.raises(DataError, match="model has 1 types"):
        neighbor_stat(open_systems(make().path), 3.0, 1)


@pytest.mark.parametrize(
    ("sel", "counts", "expected"),
    [
        ("auto", [40, 41], [44, 48]),
        ("auto:1.5", [3, 0], [8, 0]),
        ("auto:1", [4, 5], [4, 8]),
        ("auto", [100], 112),
        ([46, 92], [40, 90], [46, 92]),
        (120, [100], 120),
    ],
)
def test_resolve_sel(sel, counts, expected) -> None:
    assert resolve_sel(sel, np.array(counts)) == expected


@pytest.mark.parametrize("sel", ["all", "auto:", "auto:x", "auto:-1", "automatic"])
def test_wrong_sel(sel: str) -> None:
    if sel == "auto:":
        assert resolve_sel(sel, np.array([10])) == 12
        return
    with pytest.raises(InputError, match="is not understood"):
        resolve_sel(sel, np.array([10]))


def test_auto_without_any_neighbor() -> None:
    with pytest.raises(InputError, match="no atom of the data has a neighbor"):
        resolve_sel("auto", np.array([0, 0]))


def test_too_small_sel_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert resolve_sel([46, 92], np.array([47, 90])) == [46, 92]
        assert resolve_sel([46, 92], np.array([138])) == [46, 92]
    assert len(caplog.records) == 1
    assert "[47, 90]" in caplog.text


def test_update_sel_reaches_every_part(make: Callable) -> None:
    systems = open_systems(make(sets=(3,)).path, type_map=["A", "B"])
    given = {
        "type": "hybrid",
        "list": [
            {"type": "se_e2_a", "rcut": 4.0, "sel": "auto"},
            {"type": "dpa1", "rcut": 3.0, "sel": "auto:2"},
            {
                "type": "dpa2",
                "repinit": {
                    "rcut": 4.0,
                    "nsel": "auto",
                    "three_body_rcut": 3.0,
                    "three_body_sel": 4,
                },
                "repformer": {"rcut": 3.0, "nsel": "auto"},
            },
            {
                "type": "dpa3",
                "repflow": {"e_rcut": 4.0, "e_sel": "auto", "a_rcut": 3.0, "a_sel": "auto"},
            },
        ],
    }
    nearest = update_sel(model_selections({"descriptor": given}), systems, 2)
    t4, (m4,), (m3,) = (
        neighbor_stat(systems, 4.0, 2)[1],
        neighbor_stat(systems, 4.0, 2, mixed_types=True)[1],
        neighbor_stat(systems, 3.0, 2, mixed_types=True)[1],
    )

    def up(c: float) -> int:
        return int(-(-c // 4) * 4)

    a, b, c, d = given["list"]
    assert a["sel"] == [up(n * 1.1) for n in t4]
    assert b["sel"] == up(m3 * 2)
    assert c["repinit"]["nsel"] == up(m4 * 1.1)
    assert c["repinit"]["three_body_sel"] == 4
    assert c["repformer"]["nsel"] == d["repflow"]["a_sel"] == up(m3 * 1.1)
    assert d["repflow"]["e_sel"] == up(m4 * 1.1)
    assert nearest == neighbor_stat(systems, 4.0, 2)[0]


def test_members_of_a_sum_are_resolved(make: Callable) -> None:
    """A pair table counts all types together; sums may be inside of sums."""
    systems = open_systems(make(sets=(3,)).path, type_map=["A", "B"])
    table = {"type": "pairtab", "rcut": 4.0, "sel": "auto:1"}
    network = {"descriptor": {"type": "se_atten_v2", "rcut": 3.0, "sel": "auto:1"}}
    whole = {"type": "linear_ener", "models": [{"type": "linear_ener", "models": [table]}, network]}
    found = list(model_selections(whole))
    update_sel(found, systems, 2)
    (m4,), (m3,) = (neighbor_stat(systems, r, 2, mixed_types=True)[1] for r in (4.0, 3.0))
    assert table["sel"] == -(-m4 // 4) * 4
    assert network["descriptor"]["sel"] == -(-m3 // 4) * 4
    assert [one.where for one in found] == [
        "model/models[0]/models[0]/sel",
        "model/models[1]/descriptor/sel",
    ]


@pytest.mark.parametrize("model", [None, {}, {"type": "other"}, {"descriptor": {"type": "other"}}])
def test_unknown_sections_have_no_selections(model: dict | None) -> None:
    """Those of checkpoints may name components that are not here."""
    assert not list(model_selections(model))


def parse(words: list[str]) -> dict:
    return vars(main_parser().parse_args(["neighbor-stat", *words]))


def test_command(make: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make("d/a", names=("A", "B"))
    make("d/b", names=("B", "C"), seed=4)
    with caplog.at_level(logging.INFO):
        nearest, most = command.neighbor_stat(**parse(["-s", str(tmp_path / "d"), "-r", "4"]))
    assert caplog.messages == [f"min_nbor_dist: {nearest:f}", f"max_nbor_size: {most}"]
    assert len(most) == 3
    turned = parse(["-s", str(tmp_path / "d"), "-r", "4", "-t", "C", "B", "A"])
    assert command.neighbor_stat(**turned) == (nearest, most[::-1])
    one = parse(["-s", str(tmp_path / "d"), "-r", "4", "--one-type"])
    assert len(command.neighbor_stat(**one)[1]) == 1


def test_command_without_names(make: Callable, tmp_path: Path) -> None:
    make("d/a", names=None)
    assert len(command.neighbor_stat(**parse(["-s", str(tmp_path / "d"), "-r", "4"]))[1]) == 2
    make("d/b")
    with pytest.raises(InputError, match="--type-map"):
        command.neighbor_stat(**parse(["-s", str(tmp_path / "d"), "-r", "4"]))
    with pytest.raises(InputError, match="positive"):
        command.neighbor_stat(**parse(["-s", str(tmp_path / "d"), "-r", "-1"]))


def test_reference_water(reference: Path) -> None:
    """Water at 6 Å: the O–H bond is the nearest pair, and the usual sel [46, 92] suffices."""
    systems = open_systems(str(reference / "data/water/valid_0"), type_map=["O", "H"])
    nearest, most = neighbor_stat(systems, 6.0, 2)
    assert 0.85 < nearest < 0.95
    assert (most <= [46, 92]).all()
    assert (most >= [30, 60]).all()


def test_frames_with_close_atoms_are_left_out(make: Callable) -> None:
    made = make(sets=(3, 3), types=(0, 0), pbc=True)
    coord = np.zeros((6, 2, 3))
    coord[:, 1, 0] = [0.5, 1.0, 4.9, 2.0, 0.0, 1.5]  # across the border the third is 0.1 away
    for k, part in enumerate(np.split(coord.reshape(6, 6), 2)):
        np.save(Path(made.path) / f"set.{k:03d}/coord.npy", part)
        np.save(Path(made.path) / f"set.{k:03d}/box.npy", np.tile(5 * np.eye(3).ravel(), (3, 1)))
    (system,) = open_systems(made.path)
    drop_close_pairs([system], 0.0)
    assert system.nframes == 6
    drop_close_pairs([system], 1.0)
    assert system.nframes == 3
    assert system.load([0, 1, 2]).coord[1::2, 0].tolist() == [1.0, 2.0, 1.5]
    assert (
        system.load([2], [Label("energy", 1, False)]).labels["energy"] == made.arrays["energy"][5]
    )
    with pytest.raises(DataError, match="every frame has atoms closer than 4"):
        drop_close_pairs([system], 4.0)
