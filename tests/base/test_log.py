# SPDX-License-Identifier: LGPL-3.0-or-later
"""Progress of long loops."""

import logging

from deepmd.base.log import with_progress


def test_progress_of_slow_loops(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("deepmd.base.log.time.monotonic", lambda: now[0])
    with caplog.at_level(logging.INFO, logger="deepmd"):
        for _ in with_progress(range(20), "did %d of %d things"):
            now[0] += 2.0
    # after 5, 7.5 and 11.25 seconds of two per thing
    assert caplog.messages == [f"did {n} of 20 things" for n in (3, 7, 13)]


def test_quick_loops_are_silent(caplog):
    with caplog.at_level(logging.INFO, logger="deepmd"):
        assert list(with_progress("abc", "did %d of %d")) == ["a", "b", "c"]
    assert not caplog.messages
