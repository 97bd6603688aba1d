# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp show``: describe a model file."""

import argparse
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

from deepmd.utils.errors import InputError

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument("INPUT", help="model file or checkpoint")
    parser.add_argument(
        "ATTRIBUTES",
        nargs="+",
        choices=list(ATTRIBUTES),
        metavar="ATTRIBUTE",
        help=f"what to show: {', '.join(ATTRIBUTES)}",
    )


def show(*, INPUT: str, ATTRIBUTES: list[str], **_: Any) -> None:
    """Log facts about a model file.

    Parameters
    ----------
    INPUT : str
        Model file or checkpoint.
    ATTRIBUTES : list of str
        What to show, keys of :data:`ATTRIBUTES`.
    """
    from deepmd.backend.detect import backend_of, existing_model

    data = backend_of(INPUT).serialize_hook(existing_model(INPUT))
    branches = branches_of(data)
    log.info("This is a %s model", "multitask" if None not in branches else "singletask")
    for name in ATTRIBUTES:
        for line in ATTRIBUTES_OF[name](branches):
            log.info("%s", line)


Branches = dict[str | None, tuple[dict[str, Any], dict[str, Any]]]


def branches_of(data: dict[str, Any]) -> Branches:
    """Model dictionary and model section of every branch; the only one is called None."""
    from deepmd.io.files import branch_params, models_of

    script, models = data.get("model_def_script") or {}, models_of(data)
    if "model_dict" not in script:
        return {None: (next(iter(models.values())), script)}
    return {name: (model, branch_params(script, name)) for name, model in models.items()}


def _of(branch: str | None) -> str:
    return "" if branch is None else f" of branch {branch}"


def _model_branch(branches: Branches) -> Iterator[str]:
    if None in branches:
        raise InputError("only models of several branches have this", where="dp show model-branch")
    names = [*(str(b) for b in branches), "RANDOM"]
    yield f"Available model branches are {names}, where 'RANDOM' means a new random fitting net"


def _type_map(branches: Branches) -> Iterator[str]:
    for branch, (model, script) in branches.items():
        yield f"The type_map{_of(branch)} is {type_map_of(model, script)}"


def _section(key: str, name: str) -> Callable[[Branches], Iterator[str]]:
    def lines(branches: Branches) -> Iterator[str]:
        for branch, (_, script) in branches.items():
            yield f"The {name} parameter{_of(branch)} is {script.get(key)}"

    return lines


def _size(branches: Branches) -> Iterator[str]:
    from deepmd.dpmodel.model import Model
    from deepmd.infer.queries import model_size

    for branch, (model, _) in branches.items():
        sizes = model_size(Model.deserialize(model))
        yield f"Parameter counts{_of(branch)}:"
        yield f"Parameters in descriptor: {sizes['descriptor']:,}"
        yield f"Parameters in fitting-net: {sizes['fitting-net']:,}"
        yield f"Parameters in total: {sizes['total']:,}"


def _observed_type(branches: Branches) -> Iterator[str]:
    from deepmd.dpmodel.model import Model
    from deepmd.infer.queries import observed_types

    for branch, (model, script) in branches.items():
        types = observed_types(Model.deserialize(model), script)
        yield f"Number of observed types{_of(branch)}: {len(types)}"
        yield f"Observed types{_of(branch)}: {types}"


def _serialization_tree(branches: Branches) -> Iterator[str]:
    for branch, (model, _) in branches.items():
        yield f"Model serialization{_of(branch)}:"
        yield from tree_lines(model)


#: What may be shown, and the lines of it.
ATTRIBUTES_OF: dict[str, Callable[[Branches], Iterator[str]]] = {
    "model-branch": _model_branch,
    "type-map": _type_map,
    "descriptor": _section("descriptor", "descriptor"),
    "fitting-net": _section("fitting_net", "fitting_net"),
    "size": _size,
    "observed-type": _observed_type,
    "serialization-tree": _serialization_tree,
}
ATTRIBUTES = tuple(ATTRIBUTES_OF)


def type_map_of(model: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Names of the types of a model dictionary."""
    return list(script.get("type_map") or model.get("type_map") or [])


def arrays_of(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Arrays below ``@variables`` with their names."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "@variables":
                yield from _leaves(part, "")
            else:
                yield from arrays_of(part, key)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays_of(part, name)


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, key)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _leaves(part, name)
    elif hasattr(value, "size"):
        yield name, value


def tree_lines(node: dict[str, Any], name: str = "", depth: int = 0) -> list[str]:
    """Draw a model dictionary: classes with the numbers they hold, equal siblings joined."""
    title = str(node.get("@class") or node.get("type") or name)
    size = sum(int(a.size) for _, a in _leaves(node.get("@variables", {}), ""))
    title += f" {name}" if name not in ("", title) else ""
    title += f" (size={size})" if size else ""
    lines = ["    " * (depth - 1) + "  → " + title if depth else title]
    branches = [tree_lines(child, key, depth + 1) for key, child in _children(node)]
    for branch, equal in itertools.groupby(branches):
        count = len(list(equal))
        lines += [branch[0] + (f" × {count}" if count > 1 else ""), *branch[1:]]
    return lines


def _children(node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in node.items():
        if key == "@variables":
            continue
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, dict) and any(True for _ in arrays_of(part)):
                yield key, part
