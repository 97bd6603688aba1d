# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``model``: keys of every model, and the standard model."""

from dargs import Argument

from deepmd.schema.common import not_negative, one_of, option, positive
from deepmd.schema.descriptor import descriptor_variant, is_pairs
from deepmd.schema.fitting import fitting_variant
from deepmd.schema.registry import model_args


def common_model_arguments() -> list[Argument]:
    """Keys of every model."""
    return [
        Argument(
            "type_map",
            list[str],
            optional=True,
            extra_check=lambda v: len(v) > 0 and len(set(v)) == len(v),
            extra_check_errmsg="must name at least one type, each once",
            doc="Names of the types; the position is the type's number.",
        ),
        option(
            "data_stat_nbatch",
            int,
            10,
            "Batches per system from which statistics are taken.",
            check=positive,
            must="must be greater than 0",
        ),
        option(
            "data_stat_protect",
            float,
            0.01,
            "Smallest standard deviation that is divided by.",
            check=positive,
            must="must be greater than 0",
        ),
        option(
            "data_bias_nsample",
            int,
            10,
            "Batches per system from which a bias is fitted anew.",
            check=positive,
            must="must be greater than 0",
        ),
        *_pair_table_arguments(),
        option(
            "pair_exclude_types",
            list,
            [],
            "Pairs of types that never see each other.",
            check=is_pairs,
            must="must be a list of pairs of type indices, [[0, 1]]",
        ),
        option(
            "atom_exclude_types",
            list[int],
            [],
            "Types whose atoms contribute nothing.",
            check=lambda v: all(t >= 0 for t in v),
            must="must be a list of type indices",
        ),
        option(
            "preset_out_bias",
            [dict[str, list[float | list[float] | None]], None],
            None,
            'Bias per output and type; null is fitted: {"energy": [null, 0.0]}.',
        ),
        *_section_arguments(),
        Argument(
            "finetune_head",
            str,
            optional=True,
            doc="Branch of a pre-trained multi-task model whose fitting is the start.",
        ),
    ]


def _pair_table_arguments() -> list[Argument]:
    lengths = {
        "smin_alpha": "Decay length of the soft minimum, Å.",
        "sw_rmin": "Below this distance only the table acts, Å.",
        "sw_rmax": "Above this distance only the network acts, Å.",
    }
    return [
        Argument("use_srtab", str, optional=True, doc="Pair table for short distances."),
        *(
            Argument(
                name,
                float,
                optional=True,
                extra_check=not_negative,
                extra_check_errmsg="must be 0 or greater",
                doc=doc,
            )
            for name, doc in lengths.items()
        ),
        option("srtab_add_bias", bool, True, "Add the bias to the table's energy."),
    ]


def _section_arguments() -> list[Argument]:
    docs = {
        "type_embedding": "Type embedding of the whole model (TensorFlow).",
        "modifier": "Correction of the output.",
        "compress": "Written by the compression (TensorFlow).",
        "spin": "Magnetic types.",
    }
    return [Argument(name, dict, optional=True, doc=doc) for name, doc in docs.items()]


@model_args.register("standard")
def standard_model_argument() -> Argument:
    """One descriptor and one fitting."""
    lengths = {"check": not_negative, "must": "must be 0 or greater"}
    return Argument(
        "standard",
        dict,
        [
            Argument("descriptor", dict, [], [descriptor_variant()], doc="What an atom sees."),
            Argument(
                "fitting_net",
                dict,
                [],
                [fitting_variant()],
                doc="From the descriptor to the output.",
            ),
            option("model_branch_alias", list[str], [], "Other names of this branch."),
            option("info", dict, {}, "Anything; kept in the model file."),
            option(
                "bridging_method",
                str,
                "None",
                "Analytic potential at short distances.",
                **one_of("None", "ZBL"),
            ),
            option("bridging_r_inner", float, 0.5, "Below, only the potential acts, Å.", **lengths),
            option("bridging_r_outer", float, 0.8, "Above, only the network acts, Å.", **lengths),
        ],
        doc="One descriptor and one fitting network.",
    )


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
