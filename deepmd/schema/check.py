# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checking an input against the tree of arguments and filling in defaults.

dargs holds the tree and walks through it; the checks are ours, so that an error names file, JSON
path, what is wrong and what would be right, on one line.
"""

import copy
import logging
import math
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

from dargs import Argument
from dargs.dargs import isinstance_annotation

from deepmd.base.errors import InputError, closest_name
from deepmd.base.plugin import load_all_plugins
from deepmd.schema.cross import check_model_available, check_several, cross_check
from deepmd.schema.legacy import upgrade
from deepmd.schema.load import describe_value, drop_comments
from deepmd.schema.model import model_argument, resolve_shared
from deepmd.schema.multi_task import (
    check_names,
    is_multi_task,
    lowered,
    references,
    resolved,
    shared_path,
    unresolved,
)
from deepmd.schema.registry import (
    ArgsRegistry,
    descriptor_args,
    fitting_args,
    loss_args,
    lr_args,
    model_args,
    modifier_args,
    optimizer_args,
)
from deepmd.schema.tree import gen_args, load_components

log = logging.getLogger(__name__)

_REGISTRY_OF: dict[str, ArgsRegistry] = {
    "model": model_args,
    "descriptor": descriptor_args,
    "fitting_net": fitting_args,
    "loss": loss_args,
    "learning_rate": lr_args,
    "optimizer": optimizer_args,
    "modifier": modifier_args,
}
_LOSS_OF = {"dos": "dos", "property": "property", "population": "population"} | dict.fromkeys(
    ("dipole", "polar"), "tensor"
)


def normalize(
    data: dict[str, Any], *, multi_task: bool = False, file: str = "input.json"
) -> dict[str, Any]:
    """Check an input strictly and return it with aliases resolved and defaults filled in.

    Inputs of older versions are upgraded first, and keys that begin with ``_`` are dropped, as in
    files. The argument is not changed.

    Raises
    ------
    InputError
        Naming ``file``, the JSON path and what would be right.
    """
    try:
        return _normalize(data, multi_task=multi_task, file=file)
    except InputError:
        if not load_all_plugins():  # none that might know it
            raise
    return _normalize(data, multi_task=multi_task, file=file)


def _normalize(data: Any, *, multi_task: bool, file: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InputError(
            f"one object with sections is expected, found {describe_value(data)}", where=file
        )
    try:
        data = upgrade(drop_comments(data))
        if multi_task or is_multi_task(data):
            return _normalize_several(data)
        data = _normalized(Argument("input", dict, gen_args()), _with_sections(data))
        cross_check(data)
    except InputError as error:
        where = file if error.where is None else f"{file}: {error.where}"
        raise type(error)(error.what, where=where, fix=error.fix) from None
    return data


def _normalize_several(data: dict[str, Any]) -> dict[str, Any]:
    """Check a multi-task input; branches keep the names of shared parts, which get defaults, too."""
    if not is_multi_task(data):
        raise InputError("a multi-task input has branches", where="model", fix="give model_dict")
    uses: dict[str, str] = {}
    try:
        given = data["model"] = lowered(data["model"])
        check_names(data)
        uses = {use.where: f"model/shared_dict/{use.name}" for use in references(given)}
        for name in set(given["shared_dict"]) - {use.name for use in references(given)}:
            log.warning("model/shared_dict/%s: no branch names this part", name)
        whole = {**data, "model": {**given, "model_dict": copy.deepcopy(resolved(given))}}
        whole = _with_losses(whole)
        whole = _normalized(Argument("input", dict, gen_args(multi_task=True)), whole)
        check_several(whole, uses)
        return {**whole, "model": unresolved(given, whole["model"]["model_dict"])}
    except InputError as error:
        raise type(error)(error.what, where=shared_path(error.where, uses), fix=error.fix) from None


def _normalized(tree: Argument, data: dict[str, Any]) -> dict[str, Any]:
    """Check against a tree and fill in defaults."""
    tree.traverse_value(data, sub_hook=_check_object, value_hook=_check_value)
    return tree.normalize_value(data, inplace=True, do_alias=False)


def normalize_model(section: dict[str, Any]) -> dict[str, Any]:
    """Check a model section of a file as :func:`normalize` does; the argument is not changed.

    Raises
    ------
    InputError
        Naming the JSON path and what would be right.
    """
    try:
        return _normalize_model(section)
    except InputError:
        if not load_all_plugins():
            raise
    return _normalize_model(section)


def _normalize_model(section: dict[str, Any]) -> dict[str, Any]:
    load_components()
    data = {"model": drop_comments(section)}
    resolve_shared(data["model"])
    data = _normalized(Argument("input", dict, [model_argument()]), data)
    check_model_available(data)
    return data["model"]


def _with_sections(data: dict[str, Any]) -> dict[str, Any]:
    """Add what may be left out, so that defaults are filled in: sections and shared parts."""
    data.setdefault("optimizer", {})
    data.setdefault("validating", {})
    if isinstance(data["optimizer"], dict) and data["optimizer"].get("type") == "LKF":
        data.setdefault("learning_rate", {"start_lr": 1e-3})  # which has no effect
    if isinstance(data.get("model"), dict):
        resolve_shared(data["model"])
    if "loss" not in data:
        data["loss"] = _loss_of(data.get("model"))
    return data


def _with_losses(data: dict[str, Any]) -> dict[str, Any]:
    """Add what may be left out of a multi-task input, the losses of branches in their order."""
    data.setdefault("optimizer", {})
    data.setdefault("validating", {})
    given, branches = data.get("loss_dict", {}), data["model"]["model_dict"]
    for branch in branches.values():
        resolve_shared(branch)
    data["loss_dict"] = {k: given[k] if k in given else _loss_of(v) for k, v in branches.items()}
    return data


def _loss_of(model: Any) -> dict[str, Any]:
    """Return the loss that follows from a model section."""
    fitting = model.get("fitting_net") if isinstance(model, dict) else None
    kind = fitting.get("type", "ener") if isinstance(fitting, dict) else "ener"
    spin = isinstance(model, dict) and "spin" in model
    loss = "ener_spin" if spin else _LOSS_OF.get(str(kind), "ener")
    return {"type": loss} if loss in loss_args else {}


def _check_object(argument: Argument, value: dict[str, Any], path: list[str]) -> None:
    """Resolve names in one object, then check which keys it has."""
    for variant in argument.sub_variants.values():
        _check_choice(argument.name, variant, value, path)
    arguments = argument.flatten_sub(value, path)
    for sub in arguments.values():
        _resolve_alias(sub, value, path)
    if arguments:
        for key in value:
            if key not in arguments and key != "$schema":
                raise _unknown_key(key, arguments, path)
    for sub in arguments.values():
        if not sub.optional and sub.name not in value:
            raise InputError(f'required key "{sub.name}" is missing', where=_where(path))


def _check_choice(section: str, variant: Any, value: dict[str, Any], path: list[str]) -> None:
    flag = variant.flag_name
    if flag not in value:
        if not variant.optional:
            raise InputError(
                f'required key "{flag}" is missing',
                where=_where(path),
                fix=f"available: {', '.join(sorted(variant.choice_dict))}",
            )
        return
    tag = value[flag]
    where = _where([*path, flag])
    if not isinstance(tag, str):
        raise InputError(f"text is expected, found {describe_value(tag)}", where=where)
    if tag in variant.choice_alias:
        value[flag] = variant.choice_alias[tag]
    elif tag not in variant.choice_dict:
        registry = _REGISTRY_OF[_registry_key(section, path)]
        raise registry.unknown(tag, where=where, allowed=variant.choice_dict)


def _registry_key(section: str, path: list[str]) -> str:
    """Return the name of the registry of a section's choices: list items are named by their list."""
    for name in [section, *reversed(path)]:
        if name in _REGISTRY_OF:
            return name
    return "loss" if section == "loss_dict" else "model"


def _resolve_alias(argument: Argument, value: dict[str, Any], path: list[str]) -> None:
    given = [n for n in (argument.name, *argument.alias) if n in value]
    if len(given) > 1:
        raise InputError(
            f'"{given[0]}" and "{given[1]}" are the same key', where=_where(path), fix="keep one"
        )
    if given and given[0] != argument.name:
        value[argument.name] = value.pop(given[0])


def _unknown_key(key: Any, arguments: dict[str, Argument], path: list[str]) -> InputError:
    where = _where([*path, str(key)])
    names = [n for a in arguments.values() for n in (a.name, *a.alias)]
    match = closest_name(str(key), names)
    fix = f'did you mean "{match}"?' if match else None
    if match is None and len(arguments) <= 12:
        fix = f"known: {', '.join(sorted(arguments))}"
    return InputError("unknown key", where=where, fix=fix)


def _check_value(argument: Argument, value: Any, path: list[str]) -> None:
    path = [*path, argument.name]
    found = _mismatch_of_all(value, argument.dtype, path)
    if found is None and argument.repeat:
        items = (_mismatch(v, dict, p) for p, v in _items(value, path))
        found = next((f for f in items if f is not None), None)
    if found is not None:
        at, wrong, wanted = found
        raise InputError(f"{wanted} is expected, found {describe_value(wrong)}", where=_where(at))
    if argument.extra_check is not None and not argument.extra_check(value):
        raise InputError(
            f"{describe_value_fully(value)} {argument.extra_check_errmsg or 'is not allowed'}",
            where=_where(path),
        )


def describe_value_fully(value: Any) -> str:
    """Name a value that has the right type but is wrong, with the contents of short lists."""
    text = str(value)
    return text if isinstance(value, list | dict) and len(text) <= 40 else describe_value(value)


#: Path, what is there, what was expected there.
Mismatch = tuple[list[str], Any, str]


def _mismatch_of_all(value: Any, dtypes: Iterable[Any], path: list[str]) -> Mismatch | None:
    """Return the place at which ``value`` has none of the types; None if it has one."""
    found = []
    for dtype in dtypes:
        one = _mismatch(value, dtype, path)
        if one is None:
            return None
        found.append(one)
    depth = max(len(at) for at, _, _ in found)
    deepest = [f for f in found if len(f[0]) == depth]
    names = {wanted for _, _, wanted in deepest}
    if "a number" in names:
        names.discard("a whole number")
    return deepest[0][0], deepest[0][1], " or ".join(sorted(names))


def _mismatch(value: Any, dtype: Any, path: list[str]) -> Mismatch | None:
    """Return the place at which ``value`` does not have type ``dtype``; None if it has."""
    origin, inner = typing.get_origin(dtype), typing.get_args(dtype)
    if origin in (typing.Union, types.UnionType):
        return _mismatch_of_all(value, inner, path)
    if origin in (list, dict) and isinstance(value, origin):
        found = (_mismatch(v, inner[-1], p) for p, v in _items(value, path))
        return next((f for f in found if f is not None), None)
    return None if _fits(value, dtype) else (path, value, _type_name(dtype))


def _fits(value: Any, dtype: Any) -> bool:
    """Whether a value has a type that is not a container of others; true is not a number."""
    if dtype in (int, float) and isinstance(value, bool):
        return False
    if dtype is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance_annotation(value, dtype)


def _items(value: Any, path: list[str]) -> Iterator[tuple[list[str], Any]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in pairs:
        yield [*path, str(key)], item


def _type_name(dtype: Any) -> str:
    names: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        dict: "an object",
        list: "a list",
        None: "null",
        type(None): "null",
    }
    kind = typing.get_origin(dtype) or dtype
    return names.get(kind) or str(getattr(kind, "__name__", kind))


def _where(path: list[str]) -> str | None:
    return "/".join(path) or None
