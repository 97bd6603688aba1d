# SPDX-License-Identifier: LGPL-3.0-or-later
"""Pickles that would take memory for what they do not hold are refused before they are read."""

import pickle

import pytest

from deepmd.base.errors import ModelFileError
from deepmd.io.pickled import check_pickle

#: Plain values as PyTorch's C++ writes them, with more entries of the memo than fit into a byte.
PLAIN = pickle.dumps(
    [{"a": (1, 2.5, None, True), "b": [str(k) * 300 for k in range(300)]}, 10**12], protocol=2
)
BEGIN = b"\x80\x02"


def test_plain_values():
    check_pickle(PLAIN, "data.pkl")
    check_pickle(BEGIN + b"c__torch__\nModel\nq\x00)\x81.", "data.pkl")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (BEGIN + b"X\xff\xff\xff\x7fabc.", "is cut off"),
        (BEGIN + b"Nr\xff\xff\xff\x7f.", "refers to what it does not hold"),
        (BEGIN + b"Nq\x01.", "refers to what it does not hold"),
        (BEGIN + b"c__torch__\nModel", "is cut off"),
        (PLAIN[:-1], "is cut off"),
        (BEGIN + b"\x8e" + b"\xff" * 8 + b".", "is no pickle of PyTorch"),
        (b"", "is cut off"),
    ],
)
def test_claims(data, words):
    with pytest.raises(ModelFileError, match=rf"data\.pkl {words}"):
        check_pickle(data, "data.pkl")
