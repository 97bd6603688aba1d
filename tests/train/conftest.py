# SPDX-License-Identifier: LGPL-3.0-or-later
"""A folder with tiny data, and a function that trains there."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from train.helpers import Workspace


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


@pytest.fixture
def run(work: Workspace) -> Callable[..., Any]:
    """Train: ``run(config, restart=…)``; returns the trainer."""

    def train(config: dict[str, Any] | None = None, **options: Any) -> Any:
        trainer = work.prepare(config, **options)
        trainer.ended = trainer.run()
        return trainer

    return train


@pytest.fixture(autouse=True)
def _info_in_caplog(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.INFO):
        yield
