# SPDX-License-Identifier: LGPL-3.0-or-later
"""Names, retention and choice of checkpoints."""

import os
from pathlib import Path

import pytest

from deepmd.base.errors import InputError, ModelFileError
from deepmd.base.files import write_text
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.train.checkpoints import CheckpointStore, find_checkpoints, read_newest


def write(path: Path, checkpoint: Checkpoint) -> None:
    write_text(path, f"step {checkpoint.step}\n")


def read(path: Path) -> Checkpoint:
    words = Path(path).read_text().split()
    if len(words) != 2:
        raise ModelFileError("is cut off", where=path)
    return Checkpoint({}, {}, step=int(words[1]))


@pytest.fixture
def store(tmp_path, monkeypatch) -> CheckpointStore:
    monkeypatch.chdir(tmp_path)
    return CheckpointStore("model.ckpt", ".dp", write, keep=2)


def save(store, *steps):
    for step in steps:
        store.save(Checkpoint({}, {}, step=step))


def test_only_the_newest_stay(store):
    save(store, 1, 2, 3, 10)
    assert sorted(os.listdir()) == [
        "checkpoint",
        "model.ckpt-10.dp",
        "model.ckpt-3.dp",
        "model.ckpt.dp",
    ]
    assert os.readlink("model.ckpt.dp") == "model.ckpt-10.dp"
    assert Path("checkpoint").read_text() == "model.ckpt-10.dp"


def test_checkpoints_of_later_steps_are_left_alone(store):
    save(store, 100)
    save(store, 1, 2, 3)
    assert store.steps() == [2, 3, 100]


def test_save_dir_and_prefix_with_folder(store):
    save(CheckpointStore("out/m.ckpt", ".dp", write, folder="kept"), 5)
    assert Path("kept/m.ckpt-5.dp").is_file()
    assert Path("out/m.ckpt.dp").read_text() == "step 5\n"
    assert Path("out/checkpoint").read_text() == "../kept/m.ckpt-5.dp"
    assert read_newest("out", ".dp", read)[0].step == 5
    assert read_newest("out/m.ckpt", ".dp", read)[0].step == 5


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ("model.ckpt", [20, 10]),
        ("model.ckpt.dp", [20, 10]),
        ("model.ckpt-10.dp", [10]),
        ("model.ckpt-20", [20]),
        (".", [20, 10]),
        ("../{}/model.ckpt", [20, 10]),
    ],
)
def test_what_can_be_named(store, given, steps):
    save(store, 10, 20)
    found = find_checkpoints(given.format(Path.cwd().name), ".dp")
    assert [read(p).step for p in found] == steps


def test_without_a_link_the_newest_file_is_taken(store):
    save(store, 9, 10)
    Path("model.ckpt.dp").unlink()
    assert read_newest("model.ckpt", ".dp", read)[0].step == 10
    Path("checkpoint").unlink()
    assert read_newest(".", ".dp", read)[0].step == 10


@pytest.mark.parametrize("given", ["model.ckpt", ".", "model.ckpt.dp"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_newest_file_falls_back_to_the_one_before(store, given, damage, caplog):
    save(store, 10, 20)
    if damage == "cut":
        Path("model.ckpt-20.dp").write_text("st")
    else:
        Path("model.ckpt-20.dp").unlink()
    checkpoint, path = read_newest(given, ".dp", read)
    assert checkpoint.step == 10
    assert path.name == "model.ckpt-10.dp"
    assert "model.ckpt-10.dp of step 10 is used instead" in caplog.text


def test_a_named_step_that_is_damaged_is_an_error(store):
    save(store, 10, 20)
    Path("model.ckpt-20.dp").write_text("st")
    with pytest.raises(ModelFileError, match=r"model.ckpt-20.dp: the checkpoint is damaged.*older"):
        read_newest("model.ckpt-20.dp", ".dp", read)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("modle.ckpt", r'did you mean "model.ckpt.dp"'),
        ("nowhere/model.ckpt", "there is no folder nowhere"),
        ("other.pt", r"checkpoints of this backend end in .dp"),
        ("empty", 'no file "checkpoint"'),
    ],
)
def test_wrong_names(store, given, message):
    save(store, 1)
    Path("other.pt").touch()
    Path("empty").mkdir()
    with pytest.raises(InputError, match=message):
        read_newest(given, ".dp", read)


def test_a_pointer_of_another_backend(store):
    Path("checkpoint").write_text("model.ckpt-3.pt")
    with pytest.raises(InputError, match=r'names "model.ckpt-3.pt", but .* end in .dp'):
        read_newest(".", ".dp", read)


def test_fragments_of_killed_runs_are_removed_and_nothing_else(store):
    save(store, 1)
    ours = [
        ".model.ckpt-2.0a1b2c3d.tmp.dp",
        ".model.ckpt.dp.0a1b2c3d.tmp",
        ".checkpoint.00ff00ff.tmp",
    ]
    others = [".model.ckpt-2.0a1b2c3d.tmp.pt", ".bashrc", "x.tmp.dp", ".other-2.0a1b2c3d.tmp.dp"]
    for name in ours + others:
        Path(name).touch()
    store.remove_fragments()
    assert not set(ours) & set(os.listdir())
    assert set(others) <= set(os.listdir())
    assert store.steps() == [1]
