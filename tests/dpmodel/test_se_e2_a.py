# SPDX-License-Identifier: LGPL-3.0-or-later
"""The descriptor se_e2_a with many option sets."""

from deepmd.testing import DescriptorTests

BASE = {
    "rcut": 4.0,
    "rcut_smth": 0.5,
    "sel": [22, 24],
    "neuron": [4, 8],
    "axis_neuron": 3,
}


class TestSeA(DescriptorTests):
    descriptor = "se_e2_a"
    backends = ("numpy", "torch", "tensorflow")
    cases = {
        "two_side": BASE,
        "one_side": {**BASE, "type_one_side": True},
        "resnet_dt": {**BASE, "resnet_dt": True, "neuron": [4, 4, 8]},
        # An excluded neighbor counts nothing, an empty slot counts the mean: with a mean that is
        # not zero, energies jump where an excluded neighbor crosses the cutoff. So it is defined.
        "exclude": {**BASE, "exclude_types": [[0, 1]], "set_davg_zero": True},
        "exclude_one_side": {
            **BASE,
            "exclude_types": [[0, 0], [1, 0]],
            "type_one_side": True,
            "set_davg_zero": True,
        },
        "davg_zero": {**BASE, "set_davg_zero": True},
        "protection": {**BASE, "env_protection": 0.01, "activation_function": "gelu"},
        "wide_axis": {**BASE, "axis_neuron": 8, "rcut_smth": 3.0},
    }


class TestSeAWithThreeTypes(DescriptorTests):
    descriptor = "se_e2_a"
    type_map = ["C", "O", "H"]
    cases = {"uneven": {**BASE, "sel": [30, 20, 25]}}
    fitting = {"neuron": [], "seed": 3, "activation_function": "softplus"}
