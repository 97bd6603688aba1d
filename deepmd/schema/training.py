# SPDX-License-Identifier: LGPL-3.0-or-later
"""Section ``training``."""

import re
from typing import Any

from dargs import Argument

from deepmd.schema.common import BELOW_ONE, FRACTION, NOT_NEGATIVE, POSITIVE, Rule, one_of
from deepmd.schema.settings import Settings, setting


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


class DataKeys(Settings):
    """Keys that training and validation data share."""

    systems: list[str] | str = setting(
        ...,
        "Folders with data, HDF5 groups (file.hdf5#/group), LMDB data sets (data.lmdb), or files "
        "that ASE reads (a.extxyz). A folder is searched for systems and .extxyz files at any depth.",
        rule=Rule(lambda v: len(v) > 0, "names no system"),
    )
    rglob_patterns: list[str] | None = setting(
        None, "Patterns that folders must fit to be found by the search."
    )
    keys: dict[str, str | None] | None = setting(
        None,
        "Names of labels in files that ASE reads, such as "
        '{"energy": "REF_energy"}; null leaves a label out. Without a declaration a label has one '
        'of its standard names. "pbc": "T T T" or "F F F" replaces the boundaries of the files.',
    )
    batch_size: int | list[int] | str = setting(
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
    )
    auto_prob: str = setting(
        "prob_sys_size",
        'Probability of systems: "prob_uniform", "prob_sys_size" (by number of batches), or '
        '"prob_sys_size;first:end:weight;..." for blocks of systems.',
        alias=["auto_prob_style"],
        rule=Rule(
            is_auto_prob,
            'must be "prob_uniform", "prob_sys_size" or "prob_sys_size;first:end:weight;..."',
        ),
    )
    sys_probs: list[float] | None = setting(
        None,
        "Probability of each system; they add up to 1, and systems with a negative one share "
        "the rest. Replaces auto_prob.",
        alias=["sys_weights"],
    )


class TrainingDataKeys(DataKeys):
    """Keys of the training data."""

    min_pair_dist: float = setting(
        0.0, "Frames with atoms closer than this are left out, Å.", rule=NOT_NEGATIVE
    )


class ValidationDataKeys(DataKeys):
    """Keys of the validation data."""

    numb_btch: int = setting(
        1,
        "Batches averaged for one row of the learning curve.",
        alias=["numb_batch"],
        rule=POSITIVE,
    )


def _data_arguments() -> list[Argument]:
    return [
        Argument("training_data", dict, TrainingDataKeys.arguments(), doc="Data to train on."),
        Argument(
            "validation_data",
            [dict, None],
            ValidationDataKeys.arguments(),
            optional=True,
            doc="Data to validate on while training.",
        ),
    ]


class LengthKeys(Settings):
    """Length of the training."""

    numb_steps: int = setting(
        None,
        "Number of steps.",
        absent=True,
        alias=["stop_batch", "num_step", "num_steps", "numb_step"],
        rule=NOT_NEGATIVE,
    )
    numb_epoch: float | int = setting(
        None,
        "Number of passes through the training data, in place of numb_steps.",
        absent=True,
        alias=["num_epochs", "num_epoch", "numb_epochs"],
        rule=POSITIVE,
    )
    seed: int | None = setting(
        None, "Seed of the order of the data.", absent=True, rule=NOT_NEGATIVE
    )


class StatisticsKeys(Settings):
    """The cache of statistics."""

    stat_file: str = setting(
        None,
        "Folder or HDF5 file that keeps statistics of the data for the next run.",
        absent=True,
    )
    stat_file_mode: str = setting(
        "update",
        "update writes what is missing, read demands everything.",
        rule=one_of("update", "read"),
    )


class RunKeys(Settings):
    """Output of the training, and options of its steps."""

    sel_overflow: str = setting(
        "warn",
        "What happens when atoms have more neighbors than sel holds: the farthest are "
        "dropped with a warning, or the training stops.",
        rule=one_of("warn", "error"),
    )
    disp_file: str = setting("lcurve.out", "Learning curve.")
    disp_freq: int = setting(1000, "Steps between rows of the learning curve.", rule=POSITIVE)
    save_freq: int = setting(1000, "Steps between checkpoints.", rule=POSITIVE)
    save_dir: str | None = setting(None, "Folder of the periodic checkpoints.")
    save_ckpt: str = setting("model.ckpt", "Prefix of checkpoints.")
    max_ckpt_keep: int = setting(5, "Number of checkpoints that are kept.", rule=POSITIVE)
    ckpt_keep_ratio: float | None = setting(
        None, "Keep the checkpoints of this last fraction of the run instead.", rule=FRACTION
    )
    enable_ema: bool = setting(False, "Keep an exponential average of the parameters too.")
    ema_decay: float = setting(0.999, "Decay of that average.", rule=BELOW_ONE)
    ema_ckpt_keep: int | None = setting(
        None, "Number of checkpoints of the average that are kept.", rule=POSITIVE
    )
    change_bias_after_training: bool = setting(
        False, "Fit the energy bias to the training data again after the last step."
    )
    disp_training: bool = setting(True, "Report the progress in the log.")
    time_training: bool = setting(True, "Report timings in the log.")
    disp_avg: bool = setting(False, "Show errors averaged since the last row.")
    tensorboard: bool = setting(False, "Write TensorBoard events.")
    tensorboard_log_dir: str = setting("log", "Folder of the events.")
    tensorboard_freq: int = setting(1, "Steps between events.", rule=POSITIVE)
    profiling: bool = setting(False, "Write a timeline.")
    profiling_file: str = setting("timeline.json", "File of the timeline.")
    enable_profiler: bool = setting(False, "Profile into the folder of the events.")
    gradient_max_norm: float = setting(
        None, "Scale gradients down whose norm is larger.", absent=True, rule=POSITIVE
    )
    acc_freq: int = setting(1, "Steps whose gradients are added up.", rule=POSITIVE)
    zero_stage: int = setting(
        0,
        "What is divided among processes: 0 nothing, 1 optimizer states, 2 also gradients, 3 also "
        "parameters.",
        rule=Rule(lambda v: 0 <= v <= 3, "must be 0, 1, 2 or 3"),
    )
    neighbor_graph_method: str = setting(
        "auto",
        "How neighbors are found; every choice gives the same neighbors.",
        rule=one_of("auto", "dense", "nv"),
    )
    enable_compile: bool = setting(False, "Compile the training step.")
    enable_tf32: bool = setting(False, "TF32 products of matrices while training.")


class EarlyStopKeys(Settings):
    """End of the training when it does not become better."""

    patience: int = setting(
        ..., "Full validations without a smaller error after which it ends.", rule=POSITIVE
    )
    min_delta: float = setting(
        0.0,
        "By how much the error must fall to count, in the units of the log.",
        rule=NOT_NEGATIVE,
    )


class PrecisionKeys(Settings):
    """Mixed precision: products of networks in fewer bits."""

    output_prec: str = setting("float32", "Precision of outputs.", rule=one_of("float32"))
    compute_prec: str = setting(
        ...,
        "Precision of products in networks of single precision: bfloat16 or float16.",
        rule=one_of("bfloat16", "float16"),
    )


class AdapterKeys(Settings):
    """Low-rank adapters of dense layers."""

    rank: int = setting(..., "Rank of the product that is added to a weight.", rule=POSITIVE)
    alpha: float | None = setting(
        None, "The product is multiplied by alpha / rank; the rank if not given.", rule=POSITIVE
    )
    parts: list[str] = setting(
        ("descriptor", "fitting"),
        "Parts of the model whose layers get one; everything else is fixed.",
        rule=Rule(
            lambda v: len(v) > 0 and set(v) <= {"descriptor", "fitting"},
            'must be a list of "descriptor" and "fitting"',
        ),
    )


_WEIGHTS = Rule(lambda v: all(p > 0 for p in v.values()), "must be greater than 0")


class TaskKeys(Settings):
    """Share of each branch in the training."""

    model_prob: dict[str, float] = setting({}, "Weight of every branch.", rule=_WEIGHTS)
    num_epoch_dict: dict[str, float] = setting(
        {}, "Passes through the data of every branch, in place of numb_steps.", rule=_WEIGHTS
    )


def training_argument(*, multi_task: bool = False) -> Argument:
    """Return the section, of a multi-task input if so."""
    data = _data_arguments()
    if multi_task:
        branch = [*data, *StatisticsKeys.arguments()]
        whole = Argument("data_dict", dict, branch, repeat=True, doc="Data of every branch.")
        data = [whole, *TaskKeys.arguments()]
    precision = Argument(
        "mixed_precision",
        dict,
        PrecisionKeys.arguments(),
        optional=True,
        doc="Mixed precision (PyTorch).",
    )
    adapters = Argument(
        "lora",
        [dict, None],
        AdapterKeys.arguments(),
        optional=True,
        doc="Train low-rank additions to the weights of a pre-trained model in place of them.",
    )
    stop = Argument(
        "early_stop",
        dict,
        EarlyStopKeys.arguments(),
        optional=True,
        doc="End of the training when validating/validation_metric does not fall any more.",
    )
    kinds = (LengthKeys, RunKeys) if multi_task else (LengthKeys, StatisticsKeys, RunKeys)
    keys = [k for kind in kinds for k in kind.arguments()]
    return Argument(
        "training",
        dict,
        [*data, *keys, precision, adapters, stop],
        doc="Data, length and output of the training.",
    )
