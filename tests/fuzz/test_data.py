# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damaged data and inputs open and are complete, or give one line: no traceback, no hang."""

import pytest
from fuzz.rows import check, run

COUNT = {"folder": 60, "mixed": 60, "hdf5": 60, "lmdb": 60, "input": 200}


@pytest.mark.parametrize("kind", COUNT)
def test_mutants(tmp_path, kind):
    if kind == "lmdb":
        pytest.importorskip("lmdb")
        pytest.importorskip("msgpack")
    rows = run("mutants_data.py", 0, COUNT[kind], [kind, tmp_path])
    assert len(rows) == COUNT[kind]
    check(rows)
    assert any(row.outcome == "right" for row in rows)
