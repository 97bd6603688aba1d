# SPDX-License-Identifier: LGPL-3.0-or-later
"""A short training of a small alloy."""

import copy

import pytest
from insight.alloys import CONFIG, alloy, train

from deepmd.base.log import clear_logging


@pytest.fixture(scope="session")
def short_run(tmp_path_factory):
    """Return the folder of a training of a few steps."""
    folder = tmp_path_factory.mktemp("insight") / "run"
    return train(folder, copy.deepcopy(CONFIG), alloy(12), alloy(6, seed=1))


@pytest.fixture(autouse=True)
def _own_logging():
    """Commands set up the logging of the whole process."""
    yield
    clear_logging()
