# SPDX-License-Identifier: LGPL-3.0-or-later
"""Traced functions give the same bits in every run."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from deepmd.tf.program import specs_of, traced  # noqa: E402


def test_sums_have_one_order_of_terms():
    """AddN begins with whatever term nothing else reads any more; sums of two do not depend on it."""
    rng = np.random.default_rng(0)
    terms = {
        k: tf.constant(rng.normal(size=(8, 8)) * 10.0**n) for k, n in zip("abcd", (0, 3, -3, 1))
    }

    def function(given, nothing):
        parts = list(given.values())
        with tf.control_dependencies([parts[0]]):
            return {"two": tf.add_n(parts[:2]), "all": tf.add_n(parts), "nothing": nothing}

    made = traced(function, specs_of(terms), None)
    longest = [len(n.input) for n in made.graph.as_graph_def().node if n.op == "AddN"]
    assert max(longest, default=0) <= 3  # two terms, and what must come before them
    found = made(terms, None)
    a, b, c, d = (v.numpy() for v in terms.values())
    assert found["nothing"] is None
    assert (found["two"].numpy() == a + b).all()
    assert (found["all"].numpy() == ((a + b) + c) + d).all()


def test_captured_arrays_are_kept():
    constant = tf.constant([1.0, 2.0])
    made = traced(lambda x: tf.add_n([x, constant, 2.0 * x]), tf.TensorSpec((None,), tf.float32))
    assert made(tf.constant([3.0, 4.0])).numpy().tolist() == [10.0, 14.0]
