# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp convert-from``: frozen graphs, their text form, and model files of today."""

import pytest
from conftest import REFERENCE

pytest.importorskip("google.protobuf", reason="protobuf is not installed")

from deepmd.graphs.files import read_pb
from deepmd.io import load_model
from deepmd.io.tree import difference

FROZEN = REFERENCE / "checkpoints" / "tf_checkpoint" / "frozen.pb" if REFERENCE else None


@pytest.mark.parametrize("word", [[], ["pbtxt"]])
def test_text_and_back(dp, tmp_path, word):
    text = tmp_path / ("graph.txt" if word else "graph.pbtxt")
    assert dp("convert-from", "-i", FROZEN, "-o", tmp_path / "graph.pbtxt").code == 0
    (tmp_path / "graph.pbtxt").rename(text)
    assert dp("convert-from", *word, "-i", text, "-o", tmp_path / "back.pb").code == 0
    assert difference(read_pb(tmp_path / "back.pb"), read_pb(FROZEN)) is None


@pytest.mark.parametrize("version", ["auto", "1.3", "2.0"])
def test_model_files_of_today(dp, tmp_path, version):
    done = dp("convert-from", version, "-i", FROZEN, "-o", tmp_path / "m.dp")
    assert done.code == 0 and "converted to" in done.log
    tree = load_model(tmp_path / "m.dp")
    assert difference(tree["model"], read_pb(FROZEN)["model"]) is None


@pytest.mark.parametrize("suffix", ["dp", "yaml"])
def test_convert_backend(dp, tmp_path, suffix):
    assert dp("convert-backend", FROZEN, tmp_path / f"m.{suffix}").code == 0
    tree = load_model(tmp_path / f"m.{suffix}")
    assert difference(tree["model"], read_pb(FROZEN)["model"]) is None


def test_what_is_not_there_or_damaged_is_one_line(dp, tmp_path):
    (tmp_path / "cut.pb").write_bytes(FROZEN.read_bytes()[:5000])
    for name in ("nothing.pb", "cut.pb"):
        done = dp("convert-from", "-i", tmp_path / name, "-o", tmp_path / "x.pbtxt")
        assert done.code == 1 and name in done.err and len(done.err.splitlines()) == 1
        assert not (tmp_path / "x.pbtxt").exists()


def test_a_file_does_not_replace_itself(dp, tmp_path):
    (tmp_path / "a.pbtxt").write_text("")
    done = dp("convert-from", "-i", tmp_path / "a.pbtxt", "-o", tmp_path / "a.pbtxt")
    assert done.code == 1 and "read and written at once" in done.err


@pytest.mark.parametrize("named", ["", "model.ckpt", "model.ckpt-4", "model.ckpt-4.meta"])
def test_checkpoints_of_tensorflow_are_frozen(dp, tmp_path, named):
    given = FROZEN.parent / named if named else FROZEN.parent
    done = dp("--dp", "freeze", "-c", given, "-o", tmp_path / "m.dp")
    assert done.code == 0, done.err
    tree = load_model(tmp_path / "m.dp")
    assert difference(tree["model"], read_pb(FROZEN)["model"]) is None
