# SPDX-License-Identifier: LGPL-3.0-or-later
"""Inputs of older versions become inputs of today."""

import copy
import json
import logging
from collections.abc import Iterator
from typing import Any

from deepmd.base.errors import InputError
from deepmd.base.files import write_text
from deepmd.schema.load import drop_comments

log = logging.getLogger(__name__)

#: Keys that moved, ``old=new`` where the name changed too.
_DATA_KEYS = "systems batch_size sys_probs sys_prob=sys_probs auto_prob sys_weights auto_prob_style"
_WARMUP_KEYS = "warmup_steps warmup_ratio warmup_start_factor"
_OPTIMIZER_KEYS = (
    "opt_type=type kf_blocksize kf_start_pref_e kf_limit_pref_e kf_start_pref_f kf_limit_pref_f "
    "weight_decay momentum muon_momentum adam_beta1 adam_beta2 lr_adjust lr_adjust_coeff muon_mode "
    "enable_gram flash_muon magma_muon"
)
#: Keys of an input without sections, by their section today.
_FLAT_KEYS = {
    "se_a": "sel_a=sel rcut rcut_smth filter_neuron=neuron axis_neuron n_axis_neuron=axis_neuron "
    "filter_resnet_dt=resnet_dt",
    "loc_frame": "sel_a sel_r rcut axis_rule",
    "fitting_net": "fitting_neuron=neuron n_neuron=neuron fitting_resnet_dt=resnet_dt resnet_dt",
    "model": "type_map data_stat_nbatch use_srtab",
    "learning_rate": "decay_steps decay_rate start_lr stop_lr",
    "loss": " ".join(f"start_pref_{p} limit_pref_{p}" for p in ("e", "f", "v", "ae", "pf")),
}


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """Return the input in today's layout (version 2); a present-day input is returned equal.

    Raises
    ------
    InputError
        If old and new places of a key are both given and differ.
    """
    data = copy.deepcopy(data)
    if "model" not in data:
        if "training" in data or not _looks_flat(data):
            return data  # incomplete, which the check reports
        data = _from_flat(data)
    training = data.get("training")
    if isinstance(training, dict):
        if "systems" in training or "set_prefix" in training:
            _move_systems(data, training)
        if "numb_test" in training:
            training.pop("numb_test")
            log.info("training/numb_test has no meaning any more and is ignored")
        _move(training, data, "learning_rate", _WARMUP_KEYS)
        move_optimizer(data)
    _rename_loss(data)
    _rename_mode(data["model"], "model")
    return data


def move_optimizer(data: dict[str, Any]) -> None:
    """Move the keys of the optimizer from ``training`` to a section of their own, in place."""
    _move(data.get("training", {}), data, "optimizer", _OPTIMIZER_KEYS)


def update_deepmd_input(
    jdata: dict[str, Any], warning: bool = True, dump: str | None = None
) -> dict[str, Any]:
    """Return the input in today's layout without comments, and write it to ``dump`` if given."""
    data = upgrade(drop_comments(jdata))
    if dump is not None:
        write_text(dump, json.dumps(data, indent=4) + "\n")
        if warning:
            log.warning("the input in today's layout was written to %s", dump)
    return data


def _looks_flat(data: dict[str, Any]) -> bool:
    return any(k in data for k in ("use_smooth", "sel_a", "systems", "fitting_neuron", "n_neuron"))


def _pairs(names: str) -> Iterator[tuple[str, str]]:
    """Iterate over old and new names in a text ``same old=new``."""
    for word in names.split():
        old, _, new = word.partition("=")
        yield old, new or old


def _from_flat(data: dict[str, Any]) -> dict[str, Any]:
    """Sort the keys of a version 0 input, which has no sections, into sections."""
    rest = dict(data)
    seed = {"seed": rest["seed"]} if "seed" in rest else {}

    def take(section: str) -> dict[str, Any]:
        return {new: rest.pop(old) for old, new in _pairs(_FLAT_KEYS[section]) if old in rest}

    kind = "se_a" if rest.pop("use_smooth", False) else "loc_frame"
    descriptor = {"type": kind} | take(kind)
    if kind == "se_a":
        if "rcut" in descriptor:
            descriptor.setdefault("rcut_smth", descriptor["rcut"])
        descriptor |= seed
    fitting = take("fitting_net") | seed
    return {
        "model": {**take("model"), "descriptor": descriptor, "fitting_net": fitting},
        "learning_rate": {"type": "exp"} | take("learning_rate"),
        "loss": take("loss"),
        "training": rest,
    }


def _move_systems(data: dict[str, Any], training: dict[str, Any]) -> None:
    """Put the data keys of a version 1 input into ``training_data``, and set the final rate."""
    prefix = training.pop("set_prefix", "set")
    if prefix != "set":
        raise InputError(
            f'folders of frames are named set.*, "{prefix}" is no longer supported',
            where="training/set_prefix",
            fix="rename the folders",
        )
    target = training.setdefault("training_data", {})
    _move(training, training, "training_data", _DATA_KEYS)
    target.pop("set_prefix", None)
    rate = data.get("learning_rate")
    if not isinstance(rate, dict) or "decay_rate" not in rate:
        return
    steps = next((training[k] for k in ("numb_steps", "stop_batch") if k in training), None)
    start = rate.get("start_lr", 1e-3)
    try:
        stop = start * rate["decay_rate"] ** (steps / rate.get("decay_steps", 5000))
    except (TypeError, ArithmeticError):
        return  # not numbers, which the check reports
    rate.pop("decay_rate")
    rate["start_lr"] = start
    rate.setdefault("stop_lr", stop)


def _move(source: dict[str, Any], parent: dict[str, Any], section: str, names: str) -> None:
    """Move keys of ``source`` into ``parent[section]`` under their new names."""
    for old, new in _pairs(names):
        if old not in source:
            continue
        target = parent.setdefault(section, {})
        if not isinstance(target, dict):
            return
        value = source.pop(old)
        if target.setdefault(new, value) != value:
            raise InputError(
                f'"{old}" of the training section is given and "{section}/{new}" too, and they differ',
                where=f"training/{old}",
                fix=f"keep {section}/{new}",
            )


def _rename_loss(data: dict[str, Any]) -> None:
    branches = data.get("loss_dict")
    losses = [data.get("loss"), *(branches.values() if isinstance(branches, dict) else ())]
    for loss in losses:
        if isinstance(loss, dict) and loss.get("type") == "ener_hess":
            loss["type"] = "ener"


def _rename_mode(value: Any, where: str) -> None:
    """Say tebd_input_mode in place of stripped_type_embedding in every section of DPA-1."""
    pairs = enumerate(value) if isinstance(value, list) else ()
    for key, part in value.items() if isinstance(value, dict) else pairs:
        _rename_mode(part, f"{where}/{key}")
    if not isinstance(value, dict) or value.get("type") not in ("se_atten", "dpa1"):
        return
    if isinstance(value.get("stripped_type_embedding"), bool):
        mode = "strip" if value.pop("stripped_type_embedding") else "concat"
        given = value.setdefault("tebd_input_mode", mode)
        value["tebd_input_mode"] = mode
        if given != mode:  # no error: DeePMD-kit writes the default beside the older key
            told = "%s: stripped_type_embedding, that is %s, counts, not tebd_input_mode %s"
            log.warning(told, where, mode, given)
