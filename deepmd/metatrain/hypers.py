# SPDX-License-Identifier: LGPL-3.0-or-later
"""Hyper-parameters of the architecture: keys of the training input, with their defaults and texts.

metatrain reads them as classes derived from ``typing_extensions.TypedDict``. These are made from the
arguments of our input, and so are the YAML file and the JSON schema of releases before 2026.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from dargs import Argument
from typing_extensions import TypedDict

from deepmd.base.errors import InputError
from deepmd.metatrain import ARCHITECTURE
from deepmd.schema import normalize
from deepmd.schema.common import flag, option
from deepmd.schema.model import model_argument, standard_model_arguments
from deepmd.schema.settings import Settings, setting
from deepmd.schema.tree import load_components

#: Default of the descriptor: complete by its own defaults, for any number of elements.
_DESCRIPTOR = {"type": "se_atten_v2"}
#: Keys of a model section that follow from the data, or belong to other uses of it.
_NOT_HYPERS = {
    *("type_map", "type", "info", "model_branch_alias", "finetune_head", "compress"),
    *("hessian_mode", "data_stat_nbatch", "data_bias_nsample"),
}


def _model_arguments() -> list[Argument]:
    load_components()
    standard: Any = standard_model_arguments
    found = [*model_argument().sub_fields.values(), *standard()]
    known = {a.name: a for a in found}
    texts = {
        "descriptor": "Section ``descriptor`` of a model: its ``type`` and the keys of this type.",
        "fitting_net": "Section ``fitting_net`` of a model; its ``type`` must be ``ener``, the default.",
    }
    defaults: dict[str, Any] = {"descriptor": _DESCRIPTOR, "fitting_net": {}}
    sections = [option(name, dict, defaults[name], doc) for name, doc in texts.items()]
    count = option(
        "neighbors",
        int,
        120,
        "Largest number of neighbors of an atom, where the section says ``auto``: a model is built "
        "before its data are seen.",
    )
    rest = [
        a
        for name, a in known.items()
        if name not in {*texts, *_NOT_HYPERS} and a.optional and not _is_section(a)
    ]
    return [*sections, count, *rest]


def default_of(argument: Argument) -> Any:
    """Return the default of an optional argument, None where it has none."""
    plain = (dict, list, tuple, str, int, float, bool)
    return argument.default if isinstance(argument.default, plain) else None


def _is_section(argument: Argument) -> bool:
    return bool(argument.sub_fields or argument.sub_variants)


class RunKeys(Settings):
    """Keys of a training by metatrain."""

    batch_size: int = setting(8, "Structures in a batch.")
    num_epochs: int = setting(100, "Passes over the training set.")
    checkpoint_interval: int = setting(100, "Epochs between checkpoints.")
    log_interval: int = setting(10, "Epochs between lines of the log.")
    seed: int = setting(1, "Seed of the order of the structures.")


def _trainer_arguments() -> list[Argument]:
    sections = {
        "learning_rate": ({"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-6}, "The schedule."),
        "energy_loss": (
            {"type": "ener", "start_pref_f": 100.0, "limit_pref_f": 1.0},
            "Section ``loss`` of the input: prefactors of energies, forces and virials.",
        ),
        "optimizer": ({"type": "Adam"}, "Section ``optimizer`` of the input."),
    }
    return [
        *RunKeys.arguments(),
        *(option(name, dict, default, doc) for name, (default, doc) in sections.items()),
        flag("keep_bias", "Keep the energies of atoms when a training starts from another model."),
    ]


def typed_dict(name: str, arguments: Sequence[Argument], doc: str) -> Any:
    """Return a TypedDict with the defaults of arguments as values of its fields.

    Parameters
    ----------
    name : str
    arguments : sequence of Argument
    doc : str
        The docstring; texts of the fields follow.
    """
    fields = {a.name: _annotation(a) for a in arguments}
    make: Any = TypedDict
    made = make(name, fields)
    for argument in arguments:
        setattr(made, argument.name, default_of(argument))
    lines = [f"{a.name}\n    {a.doc}" for a in arguments]
    made.__doc__ = "\n".join([doc, "", *lines])
    made.__module__ = __name__
    return made


def _annotation(argument: Argument) -> Any:
    """Type of a field; containers are checked by our own schema, which names the key."""
    kinds: dict[Any, Any] = {dict: dict[str, Any]}
    found: Any = None
    for kind in argument.dtype:
        one = kinds.get(kind, kind)
        found = one if found is None else found | one
    if default_of(argument) is None:
        found = found | None
    return found


MODEL_ARGUMENTS = _model_arguments()
TRAINER_ARGUMENTS = _trainer_arguments()
ModelHypers = typed_dict("ModelHypers", MODEL_ARGUMENTS, "Hyper-parameters of the model.")
TrainerHypers = typed_dict("TrainerHypers", TRAINER_ARGUMENTS, "Hyper-parameters of the training.")


def default_hypers() -> dict[str, Any]:
    """Return the defaults as metatrain's ``default-hypers.yaml`` has them."""
    return {
        "name": ARCHITECTURE,
        "model": {a.name: default_of(a) for a in MODEL_ARGUMENTS},
        "training": {a.name: default_of(a) for a in TRAINER_ARGUMENTS},
    }


def default_yaml() -> str:
    """Return the text of ``default-hypers.yaml``."""
    return yaml.safe_dump({"architecture": default_hypers()}, sort_keys=False)


_JSON_TYPES: dict[Any, str] = {
    dict: "object",
    int: "integer",
    float: "number",
    str: "string",
    bool: "boolean",
}


def schema_json() -> str:
    """Return the text of ``schema-hypers.json``."""

    def of(arguments: Sequence[Argument]) -> dict[str, Any]:
        fields = {a.name: {**_json_type(a), "description": a.doc} for a in arguments}
        return {"type": "object", "properties": fields, "additionalProperties": False}

    top = {
        "name": {"type": "string"},
        "model": of(MODEL_ARGUMENTS),
        "training": of(TRAINER_ARGUMENTS),
    }
    top["training"]["properties"]["finetune"] = {"type": "object"}
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}
    return json.dumps({**schema, "properties": top, "additionalProperties": False}, indent=2)


def _json_type(argument: Argument) -> dict[str, Any]:
    names = [_JSON_TYPES.get(getattr(k, "__origin__", k), "array") for k in argument.dtype]
    names = sorted({*names, *(["null"] if default_of(argument) is None else [])})
    return {"type": names[0] if len(names) == 1 else names}


def checked_input(
    model: Mapping[str, Any],
    training: Mapping[str, Any] | None,
    type_map: Sequence[str],
    numb_steps: int = 1,
) -> dict[str, Any]:
    """Return the checked training input that hyper-parameters stand for.

    Parameters
    ----------
    model, training : mapping
        Hyper-parameters; those of the training may be missing.
    type_map : sequence of str
    numb_steps : int

    Raises
    ------
    InputError
        If keys are wrong, by the path in the input, or the model predicts no energy.
    """
    known = {a.name: default_of(a) for a in MODEL_ARGUMENTS}
    section = {k: v for k, v in model.items() if k not in known or v != known[k]}
    section |= {k: dict(model.get(k, known[k])) for k in ("descriptor", "fitting_net")}
    section.pop("neighbors", None)
    given = dict(training or {})
    data = normalize(
        {
            "model": {**section, "type_map": list(type_map)},
            "learning_rate": dict(given.get("learning_rate", {"start_lr": 1e-3})),
            "loss": dict(given.get("energy_loss", {"type": "ener"})),
            "optimizer": dict(given.get("optimizer", {})),
            "training": {"training_data": {"systems": ["none"]}, "numb_steps": numb_steps},
        }
    )
    kind = data["model"].get("fitting_net", {}).get("type", "ener")
    if kind != "ener":
        raise InputError(
            f'"{kind}" predicts no energy',
            where="model/fitting_net/type",
            fix='metatrain trains our models of energies: use "ener"',
        )
    return data
