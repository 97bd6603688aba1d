# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damaged and wrong inputs are understood, or give one line."""

import pytest
from fuzz.run_data import run_mutants

SHORT, LONG = 200, 10_000


def test_some_mutants(tmp_path):
    found = run_mutants("input", SHORT, tmp_path)
    assert found["opened"] + found["refused"] == SHORT
    assert min(found["opened"], found["refused"]) > 0


@pytest.mark.slow  # thousands of inputs are checked
def test_many_mutants(tmp_path):
    found = run_mutants("input", LONG, tmp_path, first=SHORT)
    assert found["opened"] + found["refused"] == LONG
