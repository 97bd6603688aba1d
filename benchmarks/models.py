# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models of water that are measured: a descriptor of the usual size each, and one fitting net."""

from typing import Any

TYPES = ["O", "H"]

_CUTOFF: dict[str, Any] = {"rcut": 6.0, "rcut_smth": 0.5}
_WIDE: dict[str, Any] = {"neuron": [25, 50, 100], "seed": 1}

DESCRIPTORS: dict[str, dict[str, Any]] = {
    "se_e2_a": {
        **{"type": "se_e2_a", "sel": [46, 92], **_CUTOFF, **_WIDE},
        **{"axis_neuron": 16, "resnet_dt": False, "type_one_side": True, "precision": "float64"},
    },
    "dpa1": {
        **{"type": "dpa1", "sel": 120, **_CUTOFF, **_WIDE},
        **{"axis_neuron": 16, "tebd_dim": 8, "type_one_side": True, "precision": "float64"},
        **{"attn": 128, "attn_layer": 2, "attn_dotr": True, "smooth_type_embedding": True},
    },
    "dpa2": {
        "type": "dpa2",
        "repinit": {
            **{"nsel": 120, **_CUTOFF, "neuron": [25, 50, 100], "axis_neuron": 12},
            **{"tebd_dim": 8, "type_one_side": True},
        },
        "repformer": {
            **{"rcut": 4.0, "rcut_smth": 3.5, "nsel": 40, "nlayers": 3, "axis_neuron": 4},
            **{"g1_dim": 128, "g2_dim": 32, "attn2_hidden": 32, "attn2_nhead": 4},
            **{"attn1_hidden": 128, "attn1_nhead": 4, "attn2_has_gate": True},
            **{"update_g1_has_attn": False, "update_g2_has_g1g1": False},
            **{"update_style": "res_residual", "update_residual": 0.01},
        },
        **{"precision": "float64", "seed": 1},
    },
    "dpa3": {
        "type": "dpa3",
        "repflow": {
            **{"n_dim": 128, "e_dim": 64, "a_dim": 32, "nlayers": 6, "axis_neuron": 4},
            **{"e_rcut": 6.0, "e_rcut_smth": 5.3, "e_sel": 120},
            **{"a_rcut": 4.0, "a_rcut_smth": 3.5, "a_sel": 30},
            **{"a_compress_rate": 1, "a_compress_e_rate": 2, "a_compress_use_split": True},
            **{"smooth_edge_update": True, "edge_init_use_dist": True, "use_exp_switch": True},
        },
        **{"activation_function": "silut:10.0", "precision": "float32", "seed": 1},
    },
    "se_e3": {
        **{"type": "se_e3", "sel": [46, 92], **_CUTOFF},
        **{"neuron": [2, 4, 8], "precision": "float64", "seed": 1},
    },
}


def model(descriptor: str = "se_e2_a") -> dict[str, Any]:
    """Return the section "model" of an input."""
    section = DESCRIPTORS[descriptor]
    return {
        "type_map": list(TYPES),
        "descriptor": section,
        "fitting_net": {
            "neuron": [240, 240, 240],
            "resnet_dt": True,
            "precision": section["precision"],
            "seed": 1,
        },
    }
