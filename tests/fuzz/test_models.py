# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damaged and hostile model files and checkpoints open and are right, or are refused in one line."""

import pytest
from fuzz import sources
from fuzz.rows import FINE, Row, check, run

#: Mutants of the short run: of every mutator and edit one, but for what is opened in a moment.
ONCE = 7
COUNT = {"model.dp": 70, **dict.fromkeys(("model.yaml", "ckpt.dp", "ckpt.pt", "theirs.pb"), 28)}


@pytest.mark.parametrize("name", sources.WRITERS)
def test_mutants(tmp_path, name):
    source, count = sources.write_or_skip(tmp_path / name), COUNT.get(name, ONCE)
    rows = run("child.py", 0, count, [source, tmp_path])
    assert len(rows) == count
    check(rows, sources.fine(name))


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
