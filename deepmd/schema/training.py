# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``training``."""

import re
from typing import Any

from dargs import Argument

from deepmd.schema.common import (
    BELOW_ONE,
    FRACTION,
    NOT_NEGATIVE,
    POSITIVE,
    Rule,
    choice,
    count,
    flag,
    option,
    required,
    unset,
)


def is_batch_size(value: Any) -> bool:
    """Whether this is a batch size: numbers, "auto", or "auto:N" and the like."""
    if isinstance(value, str):
        return (
            value == "auto"
            or re.fullmatch(r"(auto|max|filter|mixed|mix):[1-9]\d*", value) is not None
        )
    numbers = value if isinstance(value, list) else [value]
    return len(numbers) > 0 and all(n > 0 for n in numbers)


def is_auto_prob(value: str) -> bool:
    """Whether this is a rule for sampling systems; blocks are ``first:end:weight``."""
    rule, *blocks = (part.strip() for part in value.split(";"))
    if not blocks:
        return rule in ("prob_uniform", "prob_sys_size")
    number = r"\d+(\.\d*)?([eE][+-]?\d+)?"
    return rule == "prob_sys_size" and all(
        re.fullmatch(rf"\d+\s*:\s*\d+\s*:\s*{number}", b) for b in blocks
    )


def systems_arguments() -> list[Argument]:
    """Keys that training and validation data share."""
    return [
        required(
            "systems",
            [list[str], str],
            "Folders with data, HDF5 groups (file.hdf5#/group), or LMDB data sets (data.lmdb). A "
            "folder is searched for systems at any depth.",
            rule=Rule(lambda v: len(v) > 0, "names no system"),
        ),
        option(
            "rglob_patterns",
            [list[str], None],
            None,
            "Patterns that folders must fit to be found by the search.",
        ),
        option(
            "batch_size",
            [int, list[int], str],
            "auto",
            'Frames per step: a number, one per system, "auto" (at least 32 atoms), "auto:N" (at '
            'least N atoms), "max:N" (at most N atoms), "filter:N" (the same, larger systems are '
            'left out), "mixed:N" (N frames of several systems), "mix:N" (frames of several '
            "systems with about N atoms in all).",
            rule=Rule(
                is_batch_size,
                'must be positive whole numbers, "auto", "auto:N", "max:N", "filter:N", "mixed:N" '
                'or "mix:N"',
            ),
        ),
        option(
            "auto_prob",
            str,
            "prob_sys_size",
            'Probability of systems: "prob_uniform", "prob_sys_size" (by number of batches), or '
            '"prob_sys_size;first:end:weight;..." for blocks of systems.',
            alias=["auto_prob_style"],
            rule=Rule(
                is_auto_prob,
                'must be "prob_uniform", "prob_sys_size" or "prob_sys_size;first:end:weight;..."',
            ),
        ),
        option(
            "sys_probs",
            [list[float], None],
            None,
            "Probability of each system; they add up to 1, and systems with a negative one share "
            "the rest. Replaces auto_prob.",
            alias=["sys_weights"],
        ),
    ]


def training_data_argument() -> Argument:
    """Return the section of the training data."""
    return Argument(
        "training_data",
        dict,
        [
            *systems_arguments(),
            option(
                "min_pair_dist",
                float,
                0.0,
                "Frames with atoms closer than this are left out, Å.",
                rule=NOT_NEGATIVE,
            ),
        ],
        doc="Data to train on.",
    )


def validation_data_argument() -> Argument:
    """Return the section of the validation data."""
    return Argument(
        "validation_data",
        [dict, None],
        [
            *systems_arguments(),
            count(
                "numb_btch",
                1,
                "Batches averaged for one row of the learning curve.",
                alias=["numb_batch"],
            ),
        ],
        optional=True,
        doc="Data to validate on while training.",
    )


def _length_arguments() -> list[Argument]:
    return [
        unset(
            "numb_steps",
            int,
            "Number of steps.",
            alias=["stop_batch", "num_step", "num_steps", "numb_step"],
            rule=NOT_NEGATIVE,
        ),
        unset(
            "numb_epoch",
            [float, int],
            "Number of passes through the training data, in place of numb_steps.",
            alias=["num_epochs", "num_epoch", "numb_epochs"],
            rule=POSITIVE,
        ),
        unset("seed", [int, None], "Seed of the order of the data.", rule=NOT_NEGATIVE),
    ]


def _statistics_arguments() -> list[Argument]:
    return [
        unset(
            "stat_file",
            str,
            "Folder or HDF5 file that keeps statistics of the data for the next run.",
        ),
        choice(
            "stat_file_mode",
            "update writes what is missing, read demands everything.",
            "update",
            "read",
        ),
        choice(
            "sel_overflow",
            "What happens when atoms have more neighbours than sel holds: the farthest are "
            "dropped with a warning, or the training stops.",
            "warn",
            "error",
        ),
    ]


def _output_arguments() -> list[Argument]:
    return [
        option("disp_file", str, "lcurve.out", "Learning curve."),
        count("disp_freq", 1000, "Steps between rows of the learning curve."),
        count("save_freq", 1000, "Steps between checkpoints."),
        option("save_dir", [str, None], None, "Folder of the periodic checkpoints."),
        option("save_ckpt", str, "model.ckpt", "Prefix of checkpoints."),
        count("max_ckpt_keep", 5, "Number of checkpoints that are kept."),
        option(
            "ckpt_keep_ratio",
            [float, None],
            None,
            "Keep the checkpoints of this last fraction of the run instead.",
            rule=FRACTION,
        ),
        flag("enable_ema", "Keep an exponential average of the parameters too."),
        option("ema_decay", float, 0.999, "Decay of that average.", rule=BELOW_ONE),
        option(
            "ema_ckpt_keep",
            [int, None],
            None,
            "Number of checkpoints of the average that are kept.",
            rule=POSITIVE,
        ),
        flag(
            "change_bias_after_training",
            "Fit the energy bias to the training data again after the last step.",
        ),
        flag("disp_training", "Report the progress in the log.", default=True),
        flag("time_training", "Report timings in the log.", default=True),
        flag("disp_avg", "Show errors averaged since the last row."),
        flag("tensorboard", "Write TensorBoard events."),
        option("tensorboard_log_dir", str, "log", "Folder of the events."),
        count("tensorboard_freq", 1, "Steps between events."),
        flag("profiling", "Write a timeline."),
        option("profiling_file", str, "timeline.json", "File of the timeline."),
        flag("enable_profiler", "Profile into the folder of the events."),
    ]


def _execution_arguments() -> list[Argument]:
    return [
        unset(
            "gradient_max_norm", float, "Scale gradients down whose norm is larger.", rule=POSITIVE
        ),
        count("acc_freq", 1, "Steps whose gradients are added up."),
        option(
            "zero_stage",
            int,
            0,
            "What processes share: 0 nothing, 1 optimizer states, 2 and 3 also parameters.",
            rule=Rule(lambda v: 0 <= v <= 3, "must be 0, 1, 2 or 3"),
        ),
        choice(
            "neighbor_graph_method",
            "How neighbours are found; every choice gives the same neighbours.",
            "auto",
            "dense",
            "nv",
        ),
        flag("enable_compile", "Compile the training step."),
        flag("enable_tf32", "TF32 products of matrices while training."),
        Argument(
            "mixed_precision",
            dict,
            [
                choice("output_prec", "Precision of outputs.", "float32"),
                required("compute_prec", str, "Precision of products: float16 or bfloat16."),
            ],
            optional=True,
            doc="Mixed precision (TensorFlow).",
        ),
    ]


def training_arguments() -> list[Argument]:
    """Keys that single-task and multi-task training share."""
    return [
        *_length_arguments(),
        *_statistics_arguments(),
        *_output_arguments(),
        *_execution_arguments(),
    ]


def training_argument() -> Argument:
    """Return the section."""
    return Argument(
        "training",
        dict,
        [training_data_argument(), validation_data_argument(), *training_arguments()],
        doc="Data, length and output of the training.",
    )


def multi_task_training_argument() -> Argument:
    """Return the section of a multi-task input."""
    branch = [
        training_data_argument(),
        validation_data_argument(),
        *(a for a in _statistics_arguments() if a.name != "sel_overflow"),
    ]
    weights = Rule(lambda v: all(p > 0 for p in v.values()), "must be greater than 0")
    return Argument(
        "training",
        dict,
        [
            Argument("data_dict", dict, branch, repeat=True, doc="Data of every branch."),
            option("model_prob", dict[str, float], {}, "Weight of every branch.", rule=weights),
            option(
                "num_epoch_dict",
                dict[str, float],
                {},
                "Passes through the data of every branch, in place of numb_steps.",
                rule=weights,
            ),
            *training_arguments(),
        ],
        doc="Data, length and output of the training.",
    )
