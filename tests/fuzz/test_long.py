# SPDX-License-Identifier: LGPL-3.0-or-later
"""The long run: chunks, its record, its table; behind the marker slow, some of it."""

import json

import pytest
from cxx import backend_abi
from fuzz import long, sources
from fuzz.rows import Row


def test_a_run_goes_on_where_it_ended(tmp_path, capsys):
    command = ["input", "--chunk", "2", "--record", str(tmp_path / "record"), "--count"]
    assert long.main([*command, "2"]) == 0
    assert long.main([*command, "5"]) == 0
    chunks = [json.loads(line) for line in (tmp_path / "record").read_text().splitlines()]
    assert [(c["first"], c["last"]) for c in chunks] == [(0, 2), (2, 4), (4, 5)]
    assert capsys.readouterr().out.splitlines()[-1].split()[:2] == ["input", "5"]


def test_faults_are_counted_by_their_names():
    rows = [
        Row(3, "flip", "refused", "", 0.1, 0),
        Row(4, "flip", "wrong", "", 0.1, 0),
        Row(5, "cut", "refused", "", 11.0, 0),
    ]
    chunk = long.summary("model.dp", rows)
    assert chunk["counts"] == {"refused": 1, "wrong": 1, "slow": 1}
    assert [row.number for row in chunk["faults"]] == [4, 5]
    counts = dict(zip(long.COLUMNS, long.table([chunk]).splitlines()[-1].split()[2:], strict=False))
    assert (counts["wrong"], counts["slow"], counts["raised"]) == ("1", "1", "0")
    assert [row.number for row in long.summary("theirs.pb", rows)["faults"]] == [5]


@pytest.mark.slow  # a thousand files of each kind are written and opened
@pytest.mark.parametrize("kind", long.KINDS)
def test_many_mutants(tmp_path, capsys, kind):
    if kind in long.NATIVE and backend_abi.find_library("libdeepmd_c.so") is None:
        pytest.skip("the C++ libraries were not built")
    name = (long.NATIVE | long.SIGNED).get(kind, kind)
    if name in sources.WRITERS:
        sources.write_or_skip(tmp_path / name)
    assert long.main([kind, "--first", "10000", "--count", "1000"]) == 0, capsys.readouterr().out
