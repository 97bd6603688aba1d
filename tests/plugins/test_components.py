# SPDX-License-Identifier: LGPL-3.0-or-later
"""Components that are written for PyTorch pass the tests of their kinds."""

import importlib

import pytest

pytest.importorskip("torch")

from deepmd.testing import DescriptorTests, FittingTests, ModelTests
from tests.plugins.conftest import HERE, on_path


@pytest.fixture(scope="module", autouse=True)
def _components():
    with on_path(HERE / "toy"):
        for name in ("fitting", "model"):
            importlib.import_module(f"deepmd_toy.{name}")
        yield


class TestDescriptor(DescriptorTests):
    descriptor = "some_descrpt"
    cases = {"plain": {"rcut": 4.0, "sel": 60}}
    backends = ("torch",)

    def section(self, case):
        section = super().section(case)
        del section["descriptor"]["seed"]
        return section


class TestNetworks(FittingTests):
    fitting = "some_energy"
    cases = {"plain": {"neuron": [6, 6]}}
    backends = ("torch",)


class TestFitting(FittingTests):
    fitting = "some_fitting"
    cases = {"plain": {"width": 3}}
    backends = ("torch",)


class TestModel(ModelTests):
    cases = {"plain": {"type": "some_model", "rcut": 4.0, "sel": 60}}
    backends = ("torch",)
