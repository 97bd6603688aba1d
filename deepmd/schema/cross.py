# SPDX-License-Identifier: LGPL-3.0-or-later
"""Conditions that involve several keys, and features of the format that are not built yet."""

from collections.abc import Callable
from typing import Any

from deepmd.utils.errors import InputError, NotAvailableError


def cross_check(data: dict[str, Any]) -> None:
    """Check a normalised input as a whole.

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


def exclusive(section: dict[str, Any], first: str, second: str, where: str) -> None:
    """Raise InputError if both keys are given."""
    if section.get(first) and section.get(second):
        raise InputError(
            f'"{first}" and "{second}" exclude each other', where=where, fix="keep one"
        )


def check_learning_rate(rate: dict[str, Any] | None, optimizer: dict[str, Any]) -> None:
    """Check the schedule."""
    if rate is None:
        if optimizer["type"] == "LKF":
            return
        raise InputError('required section "learning_rate" is missing')
    exclusive(rate, "stop_lr", "stop_lr_ratio", "learning_rate")
    exclusive(rate, "warmup_steps", "warmup_ratio", "learning_rate")


def check_training(training: dict[str, Any]) -> None:
    """Check length, statistics and averaging."""
    steps, epochs = training.get("numb_steps"), training.get("numb_epoch")
    if steps is None and epochs is None:
        raise InputError(
            "the length of the training is missing", where="training", fix="give numb_steps"
        )
    if steps is not None and epochs is not None:
        raise InputError(
            '"numb_steps" and "numb_epoch" exclude each other', where="training", fix="keep one"
        )
    if training["stat_file_mode"] == "read" and "stat_file" not in training:
        raise InputError(
            '"read" needs a file of statistics',
            where="training/stat_file_mode",
            fix="give stat_file",
        )
    if training["enable_ema"] and training["zero_stage"] >= 2:
        raise InputError("excludes zero_stage 2 and 3", where="training/enable_ema")


def check_loss(loss: dict[str, Any]) -> None:
    """Check the energy loss; other losses have no conditions."""
    if loss["type"] != "ener":
        return

    def used(part: str) -> bool:
        return loss[f"start_pref_{part}"] != 0 or loss[f"limit_pref_{part}"] != 0

    if loss["f_use_norm"] and not (loss["use_huber"] or loss["loss_func"] == "mae"):
        raise InputError(
            "needs absolute values or Huber's loss",
            where="loss/f_use_norm",
            fix='set loss_func to "mae" or use_huber to true',
        )
    if loss["use_huber"]:
        parts = {"pf": "weighted forces", "gf": "generalised forces", "h": "the Hessian"}
        for part, what in parts.items():
            if used(part):
                raise InputError(
                    f"excludes {what}", where="loss/use_huber", fix=f"set start_pref_{part} to 0"
                )
        if loss.get("relative_f") is not None:
            raise InputError("excludes relative_f", where="loss/use_huber")
    if used("gf") and loss["numb_generalized_coord"] < 1:
        raise InputError(
            "must be 1 or greater for generalised forces", where="loss/numb_generalized_coord"
        )


def check_model(model: dict[str, Any]) -> None:
    """Check type indices and lengths that depend on the number of types."""
    names = model.get("type_map")
    descriptor = model.get("descriptor", {})
    rcut, smooth = descriptor.get("rcut"), descriptor.get("rcut_smth")
    if rcut is not None and smooth is not None and not smooth < rcut:
        raise InputError(
            f"must be less than rcut ({rcut}), found {smooth}", where="model/descriptor/rcut_smth"
        )
    channels = descriptor.get("neuron") or [None]
    if channels[-1] is not None and descriptor.get("axis_neuron", 0) > channels[-1]:
        raise InputError(
            f"{descriptor['axis_neuron']} is more than the {channels[-1]} channels of the last layer",
            where="model/descriptor/axis_neuron",
        )
    if names is None:
        return
    _check_type_indices(model, descriptor, len(names))
    sel = descriptor.get("sel")
    if descriptor.get("type") in ("se_e2_a", "se_e2_r", "se_e3") and isinstance(sel, list):
        _check_length("model/descriptor/sel", sel, names)
    fitting = model.get("fitting_net", {})
    if fitting.get("use_aparam_as_mask") and fitting.get("numb_aparam") != 1:
        raise InputError(
            f"a mask is one number per atom, numb_aparam is {fitting.get('numb_aparam')}",
            where="model/fitting_net/use_aparam_as_mask",
            fix="set numb_aparam to 1",
        )
    energies = fitting.get("atom_ener")
    if energies:
        _check_length("model/fitting_net/atom_ener", energies, names)
    for output, biases in (model.get("preset_out_bias") or {}).items():
        _check_length(f"model/preset_out_bias/{output}", biases, names)


def _check_length(where: str, values: list[Any], names: list[str]) -> None:
    if len(values) != len(names):
        raise InputError(
            f"one value per type is expected, found {len(values)} for {len(names)} types "
            f"({', '.join(names[:8])}{', ...' if len(names) > 8 else ''})",
            where=where,
        )


def _check_type_indices(model: dict[str, Any], descriptor: dict[str, Any], ntypes: int) -> None:
    pairs = {
        "model/pair_exclude_types": model["pair_exclude_types"],
        "model/descriptor/exclude_types": descriptor.get("exclude_types", []),
        "model/atom_exclude_types": [model["atom_exclude_types"]],
    }
    for where, lists in pairs.items():
        for index in (t for one in lists for t in one):
            if index >= ntypes:
                raise InputError(
                    f"type {index} does not exist, type_map has {ntypes} types", where=where
                )


#: Feature of the format -> whether an input asks for it. A line goes when the feature comes.
NOT_BUILT: dict[str, Callable[[dict[str, Any]], Any]] = {
    "nvnmd": lambda d: "nvnmd" in d,
    "model/type_embedding": lambda d: "type_embedding" in d["model"],
    "model/modifier": lambda d: "modifier" in d["model"],
    "model/compress": lambda d: "compress" in d["model"],
    "model/data_stat_protect": lambda d: d["model"]["data_stat_protect"] != 0.01,
    "model/finetune_head": lambda d: "finetune_head" in d["model"],
    "model/bridging_method": lambda d: d["model"].get("bridging_method", "None") != "None",
    "model/fitting_net/layer_name": lambda d: "layer_name" in d["model"].get("fitting_net", {}),
    "training/enable_ema": lambda d: d["training"]["enable_ema"],
    "training/zero_stage": lambda d: d["training"]["zero_stage"] > 0,
    "training/mixed_precision": lambda d: "mixed_precision" in d["training"],
    "training/acc_freq": lambda d: d["training"]["acc_freq"] > 1,
    "training/enable_tf32": lambda d: d["training"]["enable_tf32"],
    "validating/full_validation": lambda d: d["validating"]["full_validation"],
    "validating/ema_full_validation": lambda d: d["validating"]["ema_full_validation"],
}


def check_available(data: dict[str, Any]) -> None:
    """Raise NotAvailableError for a known feature that is not built yet, never ignore it."""
    for where, asked in NOT_BUILT.items():
        if asked(data):
            raise NotAvailableError("known but not built yet", where=where, fix="leave it out")
