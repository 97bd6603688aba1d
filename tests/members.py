# SPDX-License-Identifier: LGPL-3.0-or-later
"""A small model section of every member: descriptors, fittings and kinds of models."""

import copy
from pathlib import Path
from typing import Any

import numpy as np

CUTOFF = {"rcut": 4.0, "rcut_smth": 1.0}
SEL = {**CUTOFF, "sel": [30, 30]}
TEBD = {**CUTOFF, "sel": 60, "neuron": [4, 8], "tebd_dim": 4}
SE_A = {"type": "se_e2_a", **SEL, "neuron": [4, 8], "axis_neuron": 3, "type_one_side": True}
DPA1 = {"type": "se_atten", **TEBD, "axis_neuron": 3, "attn": 6, "attn_layer": 1}
DPA1["smooth_type_embedding"] = True

DESCRIPTORS: dict[str, dict[str, Any]] = {
    "se_e2_a": SE_A,
    "se_e2_r": {"type": "se_e2_r", **SEL, "neuron": [4, 8], "type_one_side": True},
    "se_e3": {"type": "se_e3", **SEL, "neuron": [4, 8]},
    "se_e3_tebd": {"type": "se_e3_tebd", **TEBD},
    "se_atten": DPA1,
    "se_atten_v2": {"type": "se_atten_v2", **TEBD, "axis_neuron": 3, "attn": 6, "attn_layer": 1},
    "dpa2": {
        "type": "dpa2",
        "repinit": {**CUTOFF, "nsel": 60, "neuron": [4, 8], "axis_neuron": 3, "tebd_dim": 4},
        "repformer": {
            "rcut": 3.0, "rcut_smth": 1.0, "nsel": 40, "nlayers": 2, "g1_dim": 6, "g2_dim": 4,
            "axis_neuron": 2, "attn1_hidden": 4, "attn1_nhead": 2, "attn2_hidden": 3,
            "attn2_nhead": 2,
        },
    },
    "dpa3": {
        "type": "dpa3",
        "repflow": {
            "n_dim": 6, "e_dim": 4, "a_dim": 4, "nlayers": 2, "e_rcut": 4.0, "e_rcut_smth": 1.0,
            "e_sel": 60, "a_rcut": 3.0, "a_rcut_smth": 1.0, "a_sel": 40, "axis_neuron": 2,
        },
    },
    "hybrid": {
        "type": "hybrid",
        "list": [SE_A, {"type": "se_e2_r", **SEL, "neuron": [4], "type_one_side": True}],
    },
    "loc_frame": {
        "type": "loc_frame", "rcut": 4.0, "sel_a": [8, 8], "sel_r": [22, 22],
        "axis_rule": [0, 1, 0, 0, 1, 1] * 2,
    },
}  # fmt: skip
DESCRIPTORS["se_a_ebd_v2"] = {**SE_A, "type": "se_a_ebd_v2", "type_one_side": False}
FITTINGS: dict[str, dict[str, Any]] = {
    "dipole": {"type": "dipole"},
    "polar": {"type": "polar", "fit_diag": False},
    "dos": {"type": "dos", "numb_dos": 3},
    "population": {"type": "population"},
    "property": {"type": "property", "property_name": "gap", "task_dim": 2, "intensive": True},
}
MODELS = ("zbl", "linear_ener", "spin", "type_embedding")
MEMBERS = (*DESCRIPTORS, *FITTINGS, *MODELS)


def section(name: str, folder: Path, precision: str = "float64") -> dict[str, Any]:
    """Return the model section of a member; ``folder`` takes the tables it needs."""
    return _prepared(copy.deepcopy(_section(name, folder)), precision)


def _section(name: str, folder: Path) -> dict[str, Any]:
    out: dict[str, Any] = {
        "type_map": ["O", "H"],
        "descriptor": DESCRIPTORS.get(name, SE_A),
        "fitting_net": {"neuron": [6], **FITTINGS.get(name, {})},
    }
    if name == "type_embedding":
        out |= {"descriptor": DESCRIPTORS["hybrid"], "type_embedding": {"neuron": [3]}}
    if name == "spin":
        out["spin"] = {"use_spin": ["O"], "virtual_scale": [0.3]}
    if name in ("zbl", "linear_ener"):
        table = folder / "table.txt"
        r = np.linspace(0.1, 4.0, 40)
        np.savetxt(table, np.stack([r, *(a * (4.0 - r) ** 3 for a in (1, 2, 3))], axis=1))
        out["descriptor"] = DPA1
        if name == "zbl":
            short = {"smin_alpha": 0.1, "sw_rmin": 0.8, "sw_rmax": 2.0}
            return {**out, "use_srtab": str(table), **short}
        pairs = {"type": "pairtab", "tab_file": str(table), "rcut": 4.0, "sel": 60}
        network = {k: v for k, v in out.items() if k != "type_map"}
        models = [{"type": "standard", **network}, pairs]
        out = {"type": "linear_ener", "type_map": out["type_map"], "models": models}
        out["weights"] = "sum"
    return out


def _prepared(node: Any, precision: str) -> Any:
    """Give every descriptor and fitting a seed and the precision."""
    if isinstance(node, list):
        return [_prepared(part, precision) for part in node]
    if not isinstance(node, dict):
        return node
    out = {k: _prepared(v, precision) for k, v in node.items()}
    for key in ("descriptor", "fitting_net"):
        if key in out:
            out[key] |= {"seed": 1}
            parts = out[key].get("list", [out[key]])
            for part in parts:
                if part.get("type") not in ("loc_frame", "hybrid"):
                    part["precision"] = precision
    typed = out.get("descriptor", {}).get("type") == "se_a_ebd_v2"
    if typed or "type_embedding" in out:
        out.setdefault("type_embedding", {})["precision"] = precision
    return out
