# SPDX-License-Identifier: LGPL-3.0-or-later
"""Folders and HDF5 files are searched by one set of rules, with patterns and without."""

import os
from pathlib import Path

import h5py
import pytest

from deepmd.base.errors import DataError
from deepmd.data.path import DPPath
from deepmd.data.search import expand_systems


class Tree:
    """Systems ``a``, ``b/c``, ``b/d`` below ``top``, and one outside of it."""

    def __init__(self, path: Path, hdf5: bool) -> None:
        self.path, self.hdf5 = path, hdf5
        self.root = f"{path}/x.h5#/top" if hdf5 else f"{path}/top"
        for name in ("top/a", "top/b/c", "top/b/d", "outside/e"):
            self.system(name)

    def system(self, name: str) -> None:
        if self.hdf5:
            with h5py.File(self.path / "x.h5", "a") as file:
                file[f"{name}/type.raw"] = [0]
                file.create_group(f"{name}/set.000")
        else:
            (self.path / name / "set.000").mkdir(parents=True)
            (self.path / name / "type.raw").write_text("0")

    def link(self, name: str, to: str) -> None:
        if self.hdf5:
            with h5py.File(self.path / "x.h5", "a") as file:
                file[name] = h5py.SoftLink(f"/{to}")
        else:
            os.symlink(self.path / to, self.path / name)

    def found(self, *patterns: str) -> list[str]:
        below = expand_systems(self.root, list(patterns) or None)
        return [p.removeprefix(self.root).strip("/") for p in below]


@pytest.fixture(params=[False, True], ids=["folder", "hdf5"])
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Tree:
    return Tree(tmp_path, request.param)


def test_patterns(tree: Tree) -> None:
    assert tree.found() == tree.found("*") == ["a", "b/c", "b/d"]
    assert tree.found("c") == ["b/c"]
    assert tree.found("b/*") == tree.found("b/**/*") == tree.found("b/[cd]") == ["b/c", "b/d"]
    assert tree.found("a", "d") == ["a", "b/d"]
    for absent in ("b", "/a", "x/a", "*/*/*"):
        with pytest.raises(DataError, match="check rglob_patterns"):
            tree.found(absent)


def test_links_are_followed(tree: Tree) -> None:
    tree.link("top/more", "outside")
    assert tree.found() == tree.found("*") == ["a", "b/c", "b/d", "more/e"]
    assert tree.found("more/*") == ["more/e"]
    names = [str(p).removeprefix(tree.root) for p in DPPath(tree.root).rglob("type.raw")]
    assert "/more/e/type.raw" in names


def test_circles_end(tree: Tree) -> None:
    tree.link("top/b/up", "top")
    tree.link("outside/back", "top")
    tree.link("top/more", "outside")
    tree.link("top/self", "top/self")
    tree.link("top/nowhere", "no")
    assert tree.found() == ["a", "b/c", "b/d", "more/e"]


def test_a_system_with_two_names_is_one(tree: Tree) -> None:
    tree.link("top/0", "top/a")
    assert len(tree.found()) == 3
    assert tree.found("0") == ["0"]
    if not tree.hdf5:
        assert tree.found() == ["a", "b/c", "b/d"]


def test_sets_are_not_entered(tree: Tree) -> None:
    tree.system("top/a/set.000/f")
    assert tree.found() == tree.found("*") == ["a", "b/c", "b/d"]


def test_many_ways_to_one_folder(tmp_path: Path) -> None:
    for level in range(20):
        (tmp_path / f"{level}").mkdir()
        for name in "ab":
            (tmp_path / f"{level}/{name}").symlink_to(f"../{level + 1}")
    (tmp_path / "20").mkdir()
    (tmp_path / "20/type.raw").touch()
    with pytest.raises(DataError, match="links lead to the same folders more than"):
        expand_systems(str(tmp_path / "0"))


def test_links_to_other_hdf5_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["g/type.raw"] = [0]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["there"] = h5py.ExternalLink("other.h5", "/g")
        file["gone"] = h5py.ExternalLink("gone.h5", "/g")
    assert expand_systems(f"{tmp_path}/x.h5") == [f"{tmp_path}/x.h5#/there"]


def test_deep_folders(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        group = file
        for _ in range(1500):
            group = group.create_group("g")
        group["type.raw"] = [0]
    (found,) = expand_systems(f"{tmp_path}/x.h5")
    assert found.count("/g") == 1500
