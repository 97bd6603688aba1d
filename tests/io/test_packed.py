# SPDX-License-Identifier: LGPL-3.0-or-later
"""Dictionaries as JSON and arrays: equal arrays under one name, and what may refer to them."""

import json

import numpy as np
import pytest

from deepmd.base.errors import ModelFileError
from deepmd.io.packed import named_arrays, with_arrays


def test_equal_arrays_are_stored_once_and_stay_apart():
    tree = {"a": {"x": np.arange(3.0), "y": np.zeros(2)}, "b": {"x": np.arange(3.0)}}
    assert len(named_arrays(tree)[1]) == 3
    text, arrays = named_arrays(tree, once=True)
    assert len(arrays) == 2
    found = with_arrays(text, arrays)
    found["a"]["x"][:] = 7.0
    np.testing.assert_array_equal(found["b"]["x"], np.arange(3.0))


def test_arrays_that_differ_in_form_only_are_two():
    tree = {"a": np.zeros(4), "b": np.zeros((2, 2)), "c": np.zeros(4, np.float32)}
    assert len(named_arrays(tree, once=True)[1]) == 3


def test_an_array_that_is_repeated_without_end_is_refused():
    text, arrays = named_arrays({"a": np.zeros(1 << 16)})
    node = json.loads(text)["a"]
    with pytest.raises(ModelFileError, match="repeated array"):
        with_arrays(json.dumps({"all": [node] * 200}), arrays)
