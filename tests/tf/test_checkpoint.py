# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checkpoints in TensorFlow's form: complete, readable by it, without it, and whole."""

import numpy as np
import pytest
import tensorflow as tf

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.model import build_model
from deepmd.graphs import models
from deepmd.graphs.checkpoints import read_checkpoint
from deepmd.io.tree import difference
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.tf.checkpoint import write_checkpoint
from deepmd.tf.files import open_model
from tests.tf.test_files import SECTION

SUFFIXES = (".data-00000-of-00001", ".index", ".meta")


def made(step=4):
    rng = np.random.default_rng(step)
    return Checkpoint(
        {"Default": build_model(SECTION)},
        {**SECTION, "type": "standard"},
        step=step,
        optimizer={"Default/count": np.array(step), "Default/first.a.w": rng.normal(size=(3, 2))},
        trainer={
            "seed": 7,
            "text": "ä",
            "flags": np.array([True, False]),
            "none": np.zeros((0, 3)),
        },
        min_nbor_dist=0.9,
        backend="TensorFlow",
    )


def test_everything_comes_back(tmp_path):
    checkpoint, path = made(), tmp_path / "model.ckpt-4.meta"
    write_checkpoint(path, checkpoint)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"model.ckpt-4{s}" for s in SUFFIXES]
    again = read_checkpoint(path)
    assert difference(checkpoint.tree(), again.tree()) is None
    assert again.step == 4 and again.backend == "TensorFlow"
    for a, b in ((checkpoint.optimizer, again.optimizer), (checkpoint.trainer, again.trainer)):
        assert difference(a, b) is None
    assert difference(models.read_model(path)["model"], checkpoint.tree()["model"]) is None
    assert open_model(path).model.get_type_map() == ["O", "H"]


def test_tensorflow_reads_its_tensors(tmp_path):
    write_checkpoint(tmp_path / "c.meta", made())
    reader = tf.train.load_checkpoint(str(tmp_path / "c"))
    assert reader.get_tensor("global_step") == 4
    assert len(reader.get_variable_to_shape_map()) > 10


def test_equal_states_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_checkpoint(tmp_path / f"{name}.meta", made())
    for suffix in SUFFIXES:
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_files_of_two_checkpoints(tmp_path):
    for step in (4, 5):
        write_checkpoint(tmp_path / f"{step}.meta", made(step))
    for suffix in SUFFIXES[:2]:
        (tmp_path / f"5{suffix}").replace(tmp_path / f"4{suffix}")
    with pytest.raises(ModelFileError, match="checksum differs"):
        read_checkpoint(tmp_path / "4.meta")
