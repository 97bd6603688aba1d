# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damaged and hostile model files and checkpoints open and are right, or are refused in one line."""

import pytest
from fuzz import sources
from fuzz.rows import FINE, Row, check, run

#: Mutants of the short run: of every mutator and edit one, but for what is opened in a moment.
ONCE = 7
COUNT = {"model.dp": 70, **dict.fromkeys(("model.yaml", "ckpt.dp", "ckpt.pt", "theirs.pb"), 28)}


#: TensorFlow and its graph take ten seconds for a few mutants.
SLOW = {"program.savedmodeltf": pytest.mark.slow}


@pytest.mark.parametrize("name", [pytest.param(k, marks=SLOW.get(k, ())) for k in sources.WRITERS])
def test_mutants(tmp_path, name):
    source, count = sources.write_or_skip(tmp_path / name), COUNT.get(name, ONCE)
    rows = run("child.py", 0, count, [source, tmp_path])
    assert len(rows) == count
    check(rows, sources.fine(name))


@pytest.mark.parametrize("name", ["model.dp", "ckpt.dp", "model.yaml", "ckpt.meta"])
def test_edits_with_right_checksums(tmp_path, name):
    rows = run("child.py", 0, 14, [sources.write_or_skip(tmp_path / name), tmp_path, "signed"])
    assert len(rows) == 14
    assert {row.mutator[:4] for row in rows} == {"edit"}
    check(rows)


def test_the_check_can_fail():
    refused = Row(1, "flip", "refused", "", 0.1, 0)
    check([refused])
    for bad in (
        Row(0, "flip", "right", "", 0.1, 0),
        Row(0, "flip", "wrong", "", 0.1, 0),
        Row(0, "flip", "refused", "", 11.0, 0),
        Row(0, "flip", "refused", "", 0.1, 2000),
    ):
        with pytest.raises(AssertionError):
            check([bad] if bad.outcome == "right" else [refused, bad])
    assert sources.fine("model.dp") == FINE
