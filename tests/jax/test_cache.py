# SPDX-License-Identifier: LGPL-3.0-or-later
"""Compiled programs do not pile up until XLA crashes."""

import sys

import numpy as np
import pytest

pytest.importorskip("jax")

import jax

from deepmd.jax import cache
from deepmd.jax.evaluator import JaxEvaluator
from tests.jax.conftest import make_batch, make_model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit is that of Linux")


def test_programs_are_kept_while_there_is_room():
    run = jax.jit(lambda x: x + 1)
    run(1.0)
    assert not cache.make_room()
    assert run._cache_size() == 1


def test_programs_are_dropped_at_the_limit():
    run = jax.jit(lambda x: x + 1)
    run(1.0)
    assert cache.make_room(limit=10)
    assert run._cache_size() == 0
    assert run(1.0) == 2.0


def test_new_shapes_ask_for_room(monkeypatch):
    asked = []
    monkeypatch.setattr("deepmd.jax.evaluator.make_room", lambda: asked.append(1))
    evaluator = JaxEvaluator(make_model(small=True))
    batch = make_batch()
    first = evaluator.evaluate(batch)["energy"]
    jax.clear_caches()  # as where there is no room
    np.testing.assert_array_equal(evaluator.evaluate(batch)["energy"], first)
    assert len(asked) == 1
