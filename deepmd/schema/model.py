# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``model``: keys of every model, and the standard model."""

import copy
from typing import Any

from dargs import Argument

from deepmd.base.errors import InputError, did_you_mean
from deepmd.schema.common import (
    INFO,
    NOT_NEGATIVE,
    POSITIVE,
    Rule,
    choice,
    count,
    flag,
    option,
    unset,
)
from deepmd.schema.descriptor import TRAINABLE, descriptor_variant, is_pairs
from deepmd.schema.network import ACTIVATION, PRECISION, timestep, widths
from deepmd.schema.registry import fitting_args, model_args, modifier_args
from deepmd.schema.settings import Settings, setting


def common_model_arguments() -> list[Argument]:
    """Keys of every model."""
    return [
        unset(
            "type_map",
            list[str],
            "Names of the types; the position is the type's number.",
            rule=Rule(
                lambda v: len(v) > 0 and len(set(v)) == len(v),
                "must name at least one type, each once",
            ),
        ),
        count("data_stat_nbatch", 10, "Batches per system from which statistics are taken."),
        option(
            "data_stat_protect",
            float,
            0.01,
            "Smallest standard deviation that is divided by.",
            rule=POSITIVE,
        ),
        count("data_bias_nsample", 10, "Batches per system from which a bias is fitted anew."),
        *_pair_table_arguments(),
        option(
            "pair_exclude_types",
            list,
            [],
            "Pairs of types that never see each other.",
            rule=Rule(is_pairs, "must be a list of pairs of type indices, [[0, 1]]"),
        ),
        option(
            "atom_exclude_types",
            list[int],
            [],
            "Types whose atoms contribute nothing.",
            rule=Rule(lambda v: all(t >= 0 for t in v), "must be a list of type indices"),
        ),
        option(
            "preset_out_bias",
            [dict[str, list[float | list[float] | None]], None],
            None,
            'Bias per output and type; null is fitted: {"energy": [null, 0.0]}.',
        ),
        *_section_arguments(),
        unset("hessian_mode", bool, "Give second derivatives by default; follows from the loss."),
        unset(
            "finetune_head",
            str,
            "Branch of a pre-trained multi-task model whose fitting is the start.",
        ),
    ]


def _pair_table_arguments() -> list[Argument]:
    lengths = {
        "smin_alpha": "Decay length of the soft minimum, Å.",
        "sw_rmin": "Below this distance only the table acts, Å.",
        "sw_rmax": "Above this distance only the network acts, Å.",
    }
    return [
        unset("use_srtab", str, "Pair table for short distances."),
        *(unset(name, float, doc, rule=NOT_NEGATIVE) for name, doc in lengths.items()),
        flag(
            "srtab_add_bias",
            "Add the bias of a type to the energies of the table, too.",
            default=True,
        ),
    ]


class TypeEmbeddingKeys(Settings):
    """Type embedding of the model."""

    neuron: list[int] = widths(
        (8,), "Widths of the network; the last is that of the vectors.", least=1
    )
    activation_function: str = ACTIVATION
    resnet_dt: bool = timestep(False)
    precision: str = PRECISION
    trainable: bool = TRAINABLE
    seed: int | None = setting(None, "Seed of the initial parameters.", rule=NOT_NEGATIVE)
    use_econf_tebd: bool = setting(
        False, "Start from electronic configurations; the types must be elements."
    )
    use_tebd_bias: bool = setting(False, "Bias in the type embedding.")


def _section_arguments() -> list[Argument]:
    docs = {
        "compress": "Written by the compression (TensorFlow).",
    }
    embedding = Argument(
        "type_embedding",
        dict,
        TypeEmbeddingKeys.arguments(),
        optional=True,
        doc="Vector per type that the descriptor reads, in place of networks per type or of its own.",
    )
    modifier = Argument(
        "modifier",
        dict,
        [],
        [modifier_args.variant()],
        optional=True,
        doc="Energy of whole frames that is added: the model is trained on labels less this energy.",
    )
    others = (unset(name, dict, doc) for name, doc in docs.items())
    return [embedding, *others, modifier, _spin_argument()]


def _spin_argument() -> Argument:
    fields = [
        Argument(
            "use_spin",
            [list[bool], list[int], list[str]],
            doc="The types with a spin: one flag per type, or their indices or names.",
        ),
        unset(
            "virtual_scale",
            [float, list[float]],
            "Displacement of the virtual atom per unit of spin, Å: one number, one per type, or one "
            "per type with a spin.",
        ),
        choice("scheme", "Virtual atoms (deepspin).", "deepspin", "native"),
        flag("allow_missing_label", "Accept systems without spin.npy (native only)."),
        unset("spin_norm", list[float], "Length of the spin per magnetic type (TensorFlow)."),
        unset("virtual_len", list[float], "Distance of the virtual atom (TensorFlow)."),
    ]
    return Argument("spin", dict, fields, optional=True, doc="Magnetic types.")


@model_args.register("standard", doc="One descriptor and one fitting network.")
def standard_model_arguments() -> list[Argument]:
    """Keys of the standard model."""
    return [
        Argument("descriptor", dict, [], [descriptor_variant()], doc="What an atom sees."),
        Argument(
            "fitting_net",
            dict,
            [],
            [fitting_args.variant(default="ener")],
            doc="From the descriptor to the output.",
        ),
        option("model_branch_alias", list[str], [], "Other names of this branch."),
        option("info", dict, {}, INFO),
        choice("bridging_method", "Analytic potential at short distances.", "None", "ZBL"),
        option(
            "bridging_r_inner",
            float,
            0.5,
            "Below, only the potential acts, Å.",
            rule=NOT_NEGATIVE,
        ),
        option(
            "bridging_r_outer",
            float,
            0.8,
            "Above, only the network acts, Å.",
            rule=NOT_NEGATIVE,
        ),
    ]


def model_argument() -> Argument:
    """Return the section."""
    return Argument(
        "model",
        dict,
        common_model_arguments(),
        [model_args.variant(default="standard")],
        doc="What is trained.",
    )


def multi_task_model_argument() -> Argument:
    """Return the section of a multi-task input."""
    branch = model_argument()
    return Argument(
        "model",
        dict,
        [
            option("shared_dict", dict, {}, "Parts that branches name in place of a section."),
            Argument(
                "model_dict",
                dict,
                list(branch.sub_fields.values()),
                list(branch.sub_variants.values()),
                repeat=True,
                doc="The model of every branch.",
            ),
        ],
        doc="What is trained.",
    )


def resolve_shared(model: dict[str, Any]) -> None:
    """Put the definitions of a sum's ``shared_dict`` where its members name them."""
    shared, members = model.get("shared_dict"), model.get("models")
    if not shared or not isinstance(shared, dict) or not isinstance(members, list):
        return
    for k, member in enumerate(m for m in members if isinstance(m, dict)):
        where = f"model/models/{k}"
        for key in {"type_map", "descriptor", "fitting_net"} & set(member):
            member[key] = _shared(member[key], shared, f"{where}/{key}")
        parts = member.get("descriptor")
        if isinstance(parts, dict) and isinstance(parts.get("list"), list):
            at = f"{where}/descriptor/list"
            parts["list"] = [_shared(d, shared, f"{at}/{n}") for n, d in enumerate(parts["list"])]


def _shared(part: Any, shared: dict[str, Any], where: str) -> Any:
    """Return a copy of what ``name`` or ``name:level`` means, and anything else unchanged."""
    if not isinstance(part, str):
        return part
    name = part.partition(":")[0]
    if name not in shared:
        raise InputError(
            f'shared_dict has no "{name}"', where=where, fix=did_you_mean(name, shared)
        )
    return copy.deepcopy(shared[name])
