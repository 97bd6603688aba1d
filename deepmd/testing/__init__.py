# SPDX-License-Identifier: LGPL-3.0-or-later
"""Tests that any component must pass, as classes to inherit from.

Examples
--------
A test file of a descriptor is a list of its options::

    class TestMine(DescriptorTests):
        descriptor = "mine"
        cases = {"plain": dict(rcut=4.0, rcut_smth=0.5, sel=[8, 12]), "other": dict(...)}
        backends = ("numpy", "torch")
"""

from deepmd.testing.descriptor import DescriptorTests
from deepmd.testing.fitting import FittingTests, OutputFittingTests
from deepmd.testing.loss import LossTests
from deepmd.testing.model import ModelTests
from deepmd.testing.output import OutputTests
from deepmd.testing.spin import SpinTests

__all__ = [
    "DescriptorTests",
    "FittingTests",
    "LossTests",
    "ModelTests",
    "OutputFittingTests",
    "OutputTests",
    "SpinTests",
]
