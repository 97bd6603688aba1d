# SPDX-License-Identifier: LGPL-3.0-or-later
"""The input sections of DPA-2, with their defaults."""

from collections.abc import Mapping
from typing import Any

from dargs import Argument

from deepmd.schema.common import option

REPINIT_DEFAULTS: dict[str, Any] = {
    "neuron": [25, 50, 100],
    "axis_neuron": 16,
    "tebd_dim": 8,
    "tebd_input_mode": "concat",
    "set_davg_zero": True,
    "activation_function": "tanh",
    "resnet_dt": False,
    "type_one_side": False,
    "use_three_body": False,
    "three_body_neuron": [2, 4, 8],
    "three_body_sel": 40,
    "three_body_rcut": 4.0,
    "three_body_rcut_smth": 0.5,
}

REPFORMER_DEFAULTS: dict[str, Any] = {
    "nlayers": 3,
    "g1_dim": 128,
    "g2_dim": 16,
    "axis_neuron": 4,
    "direct_dist": False,
    "update_g1_has_conv": True,
    "update_g1_has_drrd": True,
    "update_g1_has_grrg": True,
    "update_g1_has_attn": True,
    "update_g2_has_g1g1": True,
    "update_g2_has_attn": True,
    "update_h2": False,
    "attn1_hidden": 64,
    "attn1_nhead": 4,
    "attn2_hidden": 16,
    "attn2_nhead": 4,
    "attn2_has_gate": False,
    "activation_function": "tanh",
    "update_style": "res_avg",
    "update_residual": 0.001,
    "update_residual_init": "norm",
    "set_davg_zero": True,
    "trainable_ln": True,
    "use_sqrt_nnei": True,
    "g1_out_conv": True,
    "g1_out_mlp": True,
    "ln_eps": 1e-5,
}


def _section(defaults: Mapping[str, Any], docs: Mapping[str, str]) -> list[Argument]:
    """Arguments of a block: its cutoff and size, and an option per default."""
    out = [
        Argument("rcut", float, doc="Cutoff radius, Å."),
        Argument("rcut_smth", float, doc="Start of the smooth switch, Å."),
        Argument("nsel", [int, str], doc='Number of neighbours, or "auto".'),
    ]
    for name, value in defaults.items():
        kinds: Any = float if isinstance(value, float) else type(value)
        if name == "ln_eps":
            kinds = [float, None]
        elif name == "three_body_sel":
            kinds = [int, str]
        out.append(option(name, kinds, value, docs.get(name, f"See the {name} term.")))
    return out


def dpa2_arguments() -> list[Argument]:
    """Keys of DPA-2."""
    return [
        Argument(
            "repinit", dict, _section(REPINIT_DEFAULTS, _DOCS), doc="The initial representation."
        ),
        Argument(
            "repformer", dict, _section(REPFORMER_DEFAULTS, _DOCS), doc="The message passing."
        ),
        option("concat_output_tebd", bool, True, "Append the centre's type embedding."),
        option("precision", str, "default", "Number format of the networks."),
        option("smooth", bool, True, "Smooth attention and messages."),
        option("exclude_types", list, [], "Pairs of types that do not see each other."),
        option("env_protection", float, 0.0, "Length added to distances in denominators, Å."),
        option("trainable", bool, True, "Whether the parameters are trained."),
        option("seed", [int, None], None, "Seed of the initial values."),
        option(
            "add_tebd_to_repinit_out",
            bool,
            False,
            "Add the projected type embedding before the message passing.",
            alias=["repformer_add_type_ebd_to_seq"],
        ),
        option("use_econf_tebd", bool, False, "Start from electronic configurations."),
        option("use_tebd_bias", bool, False, "Bias in the type embedding."),
    ]


_DOCS = {
    "neuron": "Widths of the embedding network.",
    "axis_neuron": "Channels kept for the second factor.",
    "tebd_dim": "Length of the type embeddings.",
    "tebd_input_mode": 'How types are put in: "concat" or "strip".',
    "set_davg_zero": "Take the mean of the environment as 0.",
    "activation_function": "Activation.",
    "resnet_dt": "Trained factor per channel in residual layers.",
    "type_one_side": "Put in the neighbour's type only.",
    "use_three_body": "Append a three-body block.",
    "three_body_neuron": "Widths of its network.",
    "three_body_sel": "Its number of neighbours.",
    "three_body_rcut": "Its cutoff radius, Å.",
    "three_body_rcut_smth": "Start of its switch, Å.",
    "nlayers": "Number of layers.",
    "g1_dim": "Width of atom features.",
    "g2_dim": "Width of pair features.",
    "direct_dist": "Start from r/rcut and d/rcut instead of the environment.",
    "update_g1_has_conv": "Convolution of pair and atom features.",
    "update_g1_has_drrd": "Symmetrised products of the neighbours' atom features.",
    "update_g1_has_grrg": "Symmetrised products of pair features.",
    "update_g1_has_attn": "Attention to the neighbours.",
    "update_g2_has_g1g1": "Products of atom features in pairs.",
    "update_g2_has_attn": "Gated attention between pairs.",
    "update_h2": "Update directions.",
    "attn1_hidden": "Width of a head of the atoms' attention.",
    "attn1_nhead": "Its heads.",
    "attn2_hidden": "Width of a head of the pairs' attention.",
    "attn2_nhead": "Its heads.",
    "attn2_has_gate": "Multiply its logits by h2·h2.",
    "update_style": "How updates are joined: res_avg, res_incr or res_residual.",
    "update_residual": "Initial size of the residual vectors.",
    "update_residual_init": '"norm" (random) or "const".',
    "trainable_ln": "Train scale and shift of the layer norms.",
    "use_sqrt_nnei": "Divide by the root of the number of neighbours.",
    "g1_out_conv": "The convolution is a term of its own.",
    "g1_out_mlp": "The atom's own network is a term of its own.",
    "ln_eps": "Epsilon of the layer norms; null means 1e-5.",
}
