# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp show``: describe a model file."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepmd.backend.detect import backend_of, existing_model
from deepmd.base.errors import InputError
from deepmd.dpmodel.model import Model
from deepmd.entrypoints.commands import check_choices
from deepmd.infer.queries import model_size, observed_types
from deepmd.io.files import branch_params, models_of
from deepmd.schema.multi_task import RANDOM

log = logging.getLogger(__name__)


def show(*, INPUT: str, ATTRIBUTES: list[str], **_: Any) -> None:
    """Log facts about a model file or checkpoint.

    Parameters
    ----------
    INPUT : str
    ATTRIBUTES : list of str
        Some of :data:`deepmd.entrypoints.commands.ATTRIBUTES`.
    """
    check_choices("show", ATTRIBUTES=ATTRIBUTES)
    data = backend_of(INPUT).serialize_hook(existing_model(INPUT))
    script, models = data.get("model_def_script") or {}, models_of(data)
    several = "model_dict" in script
    log.info("This is a %s model", "multitask" if several else "singletask")
    for name in ATTRIBUTES:
        if name == "model-branch":
            if not several:
                raise InputError(
                    "only models of several branches have this", where="dp show model-branch"
                )
            log.info(
                "Available model branches are %s, where '%s' means a new random fitting net",
                [*models, RANDOM],
                RANDOM,
            )
            continue
        for branch, model in models.items():
            of = f" of branch {branch}" if several else ""
            for line in lines(name, of, model, branch_params(script, branch)):
                log.info("%s", line)


def lines(name: str, of: str, model: dict[str, Any], script: dict[str, Any]) -> Iterator[str]:
    """Lines about an attribute.

    Parameters
    ----------
    name : str
        The attribute.
    of : str
        Says which branch it is.
    model, script : dict
        Model dictionary, and model section of the input.
    """
    if name == "type-map":
        yield f"The type_map{of} is {list(script.get('type_map') or model.get('type_map') or [])}"
    elif name in ("descriptor", "fitting-net"):
        key = name.replace("-", "_")
        yield f"The {key} parameter{of} is {script.get(key)}"
    elif name == "size":
        yield f"Parameter counts{of}:"
        for part, size in model_size(Model.deserialize(model)).items():
            yield f"Parameters in {part}: {size:,}"
    elif name == "observed-type":
        types = observed_types(Model.deserialize(model), script)
        yield f"Number of observed types{of}: {len(types)}"
        yield f"Observed types{of}: {types}"
    else:
        yield f"Model serialization{of}:"
        yield from tree_lines(model)


def arrays_of(value: Any) -> Iterator[np.ndarray]:
    """Arrays of a dictionary, at any depth."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from arrays_of(part)
    elif isinstance(value, np.ndarray):
        yield value


def tree_lines(node: dict[str, Any], name: str = "", depth: int = 0) -> list[str]:
    """Draw a model dictionary: classes with the numbers they hold, equal siblings joined."""
    title = str(node.get("@class") or node.get("type") or name)
    size = sum(a.size for a in arrays_of(node.get("@variables")))
    title += f" {name}" if name not in ("", title) else ""
    title += f" (size={size})" if size else ""
    drawn = ["    " * (depth - 1) + "  → " + title if depth else title]
    branches = [tree_lines(child, key, depth + 1) for key, child in _children(node)]
    for branch, equal in itertools.groupby(branches):
        count = len(list(equal))
        drawn += [branch[0] + (f" × {count}" if count > 1 else ""), *branch[1:]]
    return drawn


def _children(node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Dictionaries inside of one that hold arrays."""
    for key, value in node.items():
        for part in value if isinstance(value, list) else [value]:
            if (
                key != "@variables"
                and isinstance(part, dict)
                and any(True for _ in arrays_of(part))
            ):
                yield key, part
