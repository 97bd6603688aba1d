# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies of isolated atoms, and the numbers of ``atom_ener``."""

import members
import numpy as np
import pytest

from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.train.statistics import keep_given_bias

GIVEN = [-3.0, -1.0]
ALONE = {"concat_output_tebd": False}
#: Descriptor, changes of its section, whether its mean is zero, whether the numbers are met.
CASES = [
    ("se_e2_a", {}, True, True),
    ("se_e2_a", {}, False, False),
    ("se_e2_r", {}, True, False),
    ("se_e3", {}, True, True),
    ("hybrid", {}, True, False),
    ("se_atten", {}, True, False),
    ("se_atten", ALONE, True, True),
    ("se_atten", ALONE, False, False),
    ("se_e3_tebd", ALONE, True, True),
    ("dpa2", ALONE, True, False),
    ("dpa3", ALONE, True, False),
]


def isolated(model):
    """Energies of one atom of each type, alone."""
    potential = DeepPot.from_evaluator(NumPyEvaluator(model))
    return [potential.eval(np.zeros((1, 1, 3)), None, [t])[0].item() for t in (0, 1)]


def energy_model(name, change, zero, folder):
    given = members.section(name, folder)
    given["descriptor"] |= change
    given["fitting_net"]["atom_ener"] = GIVEN
    model = build_model(given)
    if not zero:
        model.atomic_model.descriptor.davg[:, 0] = 0.1
    keep_given_bias(model)
    return model


@pytest.mark.parametrize(("name", "change", "zero", "met"), CASES)
def test_the_numbers_are_met_or_there_is_a_warning(name, change, zero, met, tmp_path):
    model = energy_model(name, change, zero, tmp_path)
    warned = any("will not be those of atom_ener" in line for line in model.warnings())
    assert warned is not met
    if met:
        assert isolated(model) == GIVEN
    else:
        assert np.abs(np.subtract(isolated(model), GIVEN)).min() > 1e-6


@pytest.mark.parametrize(("name", "change", "zero", "met"), CASES)
def test_the_energy_of_an_isolated_atom(name, change, zero, met, tmp_path):
    """Bias, and the network's outputs for the descriptor and for zeros, by hand."""
    model = energy_model(name, change, zero, tmp_path)
    atomic = model.atomic_model
    descriptors = atomic.isolated_descriptors()
    for t, energy in enumerate(isolated(model)):
        network = atomic.fitting.nets.at(*([] if atomic.mixed_types else [t]))
        with_and_without = [network(x).item() for x in (descriptors[t], 0.0 * descriptors[t])]
        assert energy == pytest.approx(GIVEN[t] + np.subtract(*with_and_without), abs=1e-12)


def test_no_warning_without_numbers(tmp_path):
    assert not build_model(members.section("dpa3", tmp_path)).warnings()
