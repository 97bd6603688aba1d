# SPDX-License-Identifier: LGPL-3.0-or-later
"""Conditions that involve several keys, and features of the format that are not built yet."""

from collections.abc import Callable, Mapping
from typing import Any

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.schema.multi_task import check_alike, one_branch, path_in_whole
from deepmd.schema.registry import loss_args


def cross_check(data: dict[str, Any]) -> None:
    """Check a normalized input as a whole.

    Raises
    ------
    InputError
        If keys contradict each other; NotAvailableError for what is not built yet.
    """
    check_available(data)
    check_model(data["model"])
    check_learning_rate(data.get("learning_rate"), data["optimizer"])
    check_training(data["training"])
    check_loss(data["loss"])
    check_validating(data)


def check_several(data: dict[str, Any], uses: Mapping[str, str]) -> None:
    """Check a normalized multi-task input with shared parts in place as a whole.

    Parameters
    ----------
    data : dict
    uses : mapping of str to str
        Paths of shared parts by the paths of the branches that name them.

    Raises
    ------
    InputError
        As :func:`cross_check`.
    """
    check_learning_rate(data.get("learning_rate"), data["optimizer"])
    check_lengths(data["training"], "model_prob")
    check_alike(data["model"])
    check_validating(data)
    for name in data["model"]["model_dict"]:
        branch = one_branch(data, name)
        try:
            check_available(branch)
            check_model(branch["model"])
            check_statistics(branch["training"])
            check_loss(branch["loss"])
        except InputError as error:
            where = None if error.where is None else str(error.where)
            where = path_in_whole(where, name, uses)
            raise type(error)(error.what, where=where, fix=error.fix) from None


def demand(holds: Any, what: str, where: str | None, fix: str | None = None) -> None:
    """Raise InputError unless a condition holds."""
    if not holds:
        raise InputError(what, where=where, fix=fix)


def exclusive(section: dict[str, Any], first: str, second: str, where: str) -> None:
    """Raise InputError if both keys are given."""
    both = section.get(first) and section.get(second)
    demand(not both, f'"{first}" and "{second}" exclude each other', where, "keep one")


def check_learning_rate(rate: dict[str, Any] | None, optimizer: dict[str, Any]) -> None:
    """Check the schedule."""
    if rate is None:
        needed = optimizer["type"] != "LKF"
        demand(not needed, 'required section "learning_rate" is missing', None)
        return
    exclusive(rate, "stop_lr", "stop_lr_ratio", "learning_rate")
    start, stop = rate["start_lr"], rate["stop_lr"]
    demand(
        stop is None or stop <= start,
        f"{stop} is more than start_lr, {start}",
        "learning_rate/stop_lr",
        "rates fall",
    )
    exclusive(rate, "warmup_steps", "warmup_ratio", "learning_rate")


def check_training(training: dict[str, Any]) -> None:
    """Check length, statistics and averaging."""
    length = [k for k in ("numb_steps", "numb_epoch") if training.get(k) is not None]
    missing = "the length of the training is missing"
    demand(length, missing, "training", "give numb_steps")
    twice = '"numb_steps" and "numb_epoch" exclude each other'
    demand(len(length) == 1, twice, "training", "keep one")
    check_statistics(training)


def check_lengths(training: dict[str, Any], weights: str) -> None:
    """Check the length of a multi-task training; passes through the data exclude ``weights``."""
    epochs = "num_epoch_dict"
    demand(
        training.get("numb_epoch") is None,
        "passes through the data are given per branch",
        "training/numb_epoch",
        f"use {epochs}",
    )
    steps = training.get("numb_steps") is not None
    demand(
        steps or training.get(epochs),
        "the length of the training is missing",
        "training",
        f"give numb_steps or {epochs}",
    )
    twice = f'"numb_steps" and "{epochs}" exclude each other'
    demand(not (steps and training.get(epochs)), twice, "training", "keep one")
    exclusive(training, weights, epochs, "training")


def check_statistics(training: dict[str, Any]) -> None:
    """Check the cache of statistics, and averaging."""
    demand(
        training["stat_file_mode"] != "read" or "stat_file" in training,
        '"read" needs a file of statistics',
        "training/stat_file_mode",
        "give stat_file",
    )
    shared = training["enable_ema"] and training["zero_stage"] >= 2
    demand(not shared, "excludes zero_stage 2 and 3", "training/enable_ema")


def check_validating(data: dict[str, Any]) -> None:
    """Check that what is to be validated is there."""
    section, training, where = data["validating"], data["training"], "validating"
    asked = [k for k in ("full_validation", "ema_full_validation") if section[k]]
    demand(
        asked or not training.get("early_stop"),
        "needs the errors of the whole validation set",
        "training/early_stop",
        "set validating/full_validation to true",
    )
    if not asked:
        return
    where += f"/{asked[0]}"
    multi = '"model_dict" in the model'
    demand("model_dict" not in data["model"], f"one task is expected, found {multi}", where)
    demand(training.get("validation_data"), "needs training/validation_data", where, "give it")
    demand(
        not section["ema_full_validation"] or training["enable_ema"],
        "needs averaged parameters",
        "validating/ema_full_validation",
        "set training/enable_ema to true",
    )
    loss, metric = data["loss"], section["validation_metric"].upper().partition(":")[0]
    demand(
        loss["type"] in ("ener", "ener_spin"),
        f'only energies are validated, the loss is "{loss["type"]}"',
        where,
    )
    term = {"E": "e", "F": "f", "FR": "fr", "FM": "fm", "S": "v", "V": "v"}[metric]
    spin = loss["type"] == "ener_spin"
    fitting = metric not in (("F",) if spin else ("FR", "FM"))
    names = [f"{when}_pref_{term}" for when in ("start", "limit")]
    demand(
        fitting and any(loss.get(name) for name in names),
        f"the loss has no such term, or no weight of it ({' and '.join(names)})",
        "validating/validation_metric",
    )


def check_loss(loss: dict[str, Any]) -> None:
    """Check what the class of the loss says about several keys."""
    kind = loss_args.component(loss["type"])
    if kind is not None:
        kind.check({key: value for key, value in loss.items() if key != "type"})


def check_model(model: dict[str, Any]) -> None:
    """Check type indices and lengths that depend on the number of types."""
    names, descriptor = model.get("type_map"), model.get("descriptor", {})
    rcut, smooth = descriptor.get("rcut"), descriptor.get("rcut_smth")
    demand(
        rcut is None or smooth is None or smooth < rcut,
        f"must be less than rcut ({rcut}), found {smooth}",
        "model/descriptor/rcut_smth",
    )
    channels, axis = (descriptor.get("neuron") or [None])[-1], descriptor.get("axis_neuron", 0)
    demand(
        channels is None or axis <= channels,
        f"{axis} is more than the {channels} channels of the last layer",
        "model/descriptor/axis_neuron",
    )
    if names is None:
        return
    _check_type_indices(model, descriptor, len(names))
    sel, fitting = descriptor.get("sel"), model.get("fitting_net", {})
    typed = ("se_e2_a", "se_e2_r", "se_e3", "se_a_mask")
    if descriptor.get("type") in typed and isinstance(sel, list):
        _check_length("model/descriptor/sel", sel, names)
    demand(
        descriptor.get("type") != "se_a_mask" or fitting.get("use_aparam_as_mask"),
        "se_a_mask takes aparam as a mask",
        "model/fitting_net",
        "set numb_aparam to 1 and use_aparam_as_mask to true",
    )
    demand(
        not fitting.get("use_aparam_as_mask") or fitting.get("numb_aparam") == 1,
        f"a mask is one number per atom, numb_aparam is {fitting.get('numb_aparam')}",
        "model/fitting_net/use_aparam_as_mask",
        "set numb_aparam to 1",
    )
    if fitting.get("atom_ener"):
        _check_length("model/fitting_net/atom_ener", fitting["atom_ener"], names)
    for output, biases in (model.get("preset_out_bias") or {}).items():
        _check_length(f"model/preset_out_bias/{output}", biases, names)


def _check_length(where: str, values: list[Any], names: list[str]) -> None:
    demand(
        len(values) == len(names),
        f"one value per type is expected, found {len(values)} for {len(names)} types "
        f"({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})",
        where,
    )


def _check_type_indices(model: dict[str, Any], descriptor: dict[str, Any], ntypes: int) -> None:
    pairs = {
        "model/pair_exclude_types": model["pair_exclude_types"],
        "model/descriptor/exclude_types": descriptor.get("exclude_types", []),
        "model/atom_exclude_types": [model["atom_exclude_types"]],
    }
    for where, lists in pairs.items():
        for t in (t for one in lists for t in one):
            demand(t < ntypes, f"type {t} does not exist, type_map has {ntypes} types", where)


#: Feature of the format -> whether an input asks for it. A line goes when the feature comes.
NOT_BUILT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nvnmd": lambda d: "nvnmd" in d,
    "model/compress": lambda d: "compress" in d["model"],
    "model/bridging_method": lambda d: d["model"].get("bridging_method", "None") != "None",
    "model/spin/spin_norm": lambda d: "spin_norm" in d["model"].get("spin", {}),
    "model/spin/virtual_len": lambda d: "virtual_len" in d["model"].get("spin", {}),
    "model/spin/allow_missing_label": lambda d: (
        d["model"].get("spin", {}).get("allow_missing_label")
    ),
}


def check_available(data: dict[str, Any], section: str = "") -> None:
    """Raise NotAvailableError for a known feature that is not built yet, never ignore it.

    ``section`` names the only one that the input has.
    """
    for where, asked in NOT_BUILT.items():
        if where.startswith(section) and asked(data):
            raise NotAvailableError("known but not built yet", where=where, fix="leave it out")


def check_model_available(data: dict[str, Any]) -> None:
    """Raise NotAvailableError for a feature of the section ``model`` that is not built yet."""
    check_available(data, "model/")
