# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damaged data open and are complete, or give one line: no traceback, no hang, no gigabytes."""

import pytest
from fuzz.run_data import run_mutants

SHORT, LONG = 60, 10_000


def needs(kind):
    if kind == "lmdb":
        pytest.importorskip("lmdb")
        pytest.importorskip("msgpack")


@pytest.mark.parametrize("kind", ["folder", "mixed", "hdf5", "lmdb"])
def test_some_mutants(tmp_path, kind):
    needs(kind)
    found = run_mutants(kind, SHORT, tmp_path)
    assert found["opened"] + found["refused"] == SHORT
    assert min(found["opened"], found["refused"]) > 0


@pytest.mark.slow  # thousands of files are written and read
@pytest.mark.parametrize("kind", ["folder", "mixed", "hdf5", "lmdb"])
def test_many_mutants(tmp_path, kind):
    needs(kind)
    found = run_mutants(kind, LONG, tmp_path, first=SHORT)
    assert found["opened"] + found["refused"] == LONG
