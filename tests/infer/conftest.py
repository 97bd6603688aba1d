# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small models in files."""

import pytest
from infer.models import write


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def model_file(folder):
    return write(folder / "model.dp")


@pytest.fixture(scope="session")
def parameter_file(folder):
    return write(folder / "parameters.dp", numb_fparam=2, numb_aparam=1)


@pytest.fixture(scope="session")
def default_file(folder):
    return write(folder / "default.dp", numb_fparam=2, default_fparam=[0.3, -0.4])
