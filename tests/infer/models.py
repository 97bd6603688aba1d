# SPDX-License-Identifier: LGPL-3.0-or-later
"""A small model in a file."""

import numpy as np

from deepmd.dpmodel.model import build_model
from deepmd.io import save_model
from deepmd.runtime.probes import model_file_dict


def make_section(*, type_map=("O", "H"), sel=(8, 16), rcut=4.0, seed=1, **fitting):
    return {
        "type_map": list(type_map),
        "descriptor": {
            "type": "se_e2_a",
            "rcut": rcut,
            "rcut_smth": 0.5,
            "sel": list(sel),
            "neuron": [4, 8],
            "axis_neuron": 3,
            "seed": seed,
        },
        "fitting_net": {"neuron": [6, 6], "seed": seed + 1, **fitting},
    }


def write(path, **options):
    section = make_section(**options)
    model = build_model(section)
    rng = np.random.default_rng(options.get("seed", 1))
    model.atomic_model.out_bias = rng.normal(size=model.atomic_model.out_bias.shape)
    save_model(path, model_file_dict(model, section, 0.9, "NumPy"))
    return path
