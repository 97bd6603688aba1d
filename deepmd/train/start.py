# SPDX-License-Identifier: LGPL-3.0-or-later
"""Parameters of a checkpoint or model file at the start of a training."""

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import Module, assign, split
from deepmd.runtime.checkpoint import Checkpoint

log = logging.getLogger(__name__)


def model_of(start: Checkpoint, name: str) -> Model:
    """Return the model of a branch of a checkpoint."""
    if name not in start.models:
        raise ModelFileError(
            f'the checkpoint has no branch "{name}", but {", ".join(start.models)}',
            where="model/model_dict",
            fix="use the branches of the checkpoint",
        )
    return start.models[name]


def take_parameters(
    model: Model, source: Model, *, keys: Sequence[str] = (), force: bool = False
) -> None:
    """Put the arrays of one model into another one of the same architecture.

    ``keys`` of the input that differ are named in the error.

    Raises
    ------
    ModelFileError
        If types differ, or arrays are missing, superfluous or of other shapes; with ``force`` only
        those that fit are taken.
    """
    if source.get_type_map() != model.get_type_map():
        raise ModelFileError(
            f"the checkpoint has types {source.get_type_map()}, "
            f"the input has {model.get_type_map()}",
            where="model/type_map",
            fix="use the same type_map",
        )
    take_arrays(model, source, keys=keys, force=force)


def take_arrays(
    node: Module,
    source: Module,
    *,
    keys: Sequence[str] = (),
    force: bool = False,
    only: Callable[[str], bool] | None = None,
) -> list[str]:
    """Put the arrays of a tree into another one of the same architecture; see above.

    ``only`` chooses the paths that take part.

    Returns
    -------
    list of str
        What does not fit and was left out, with ``force``.
    """
    here, there = (
        {k: v for part in split(tree) for k, v in part.items() if only is None or only(k)}
        for tree in (node, source)
    )
    wrong = [
        *(
            f"{k} has shape {np.shape(there[k])} in the checkpoint, {np.shape(v)} in the input"
            for k, v in here.items()
            if k in there and np.shape(there[k]) != np.shape(v)
        ),
        *(f"{k} is missing in the checkpoint" for k in here if k not in there),
        *(f"{k} is not in the input's model" for k in there if k not in here),
    ]
    if wrong and not force:
        raise ModelFileError(
            f"the model of the input is not that of the checkpoint: {wrong[0]}"
            + (f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else "")
            + (f"; keys that differ: {', '.join(keys)}" if keys else ""),
            where="model",
            fix="use the same model section, or --force-load to take what fits",
        )
    for line in wrong:
        log.warning("%s", line)
    fitting = {k: v for k, v in there.items() if k in here and np.shape(v) == np.shape(here[k])}
    assign(node, fitting)
    return wrong


def compare_inputs(now: str, before: str | None) -> None:
    """Warn of keys that differ from the input of the checkpoint."""
    if before is None:
        log.warning("the checkpoint does not hold its input; differences cannot be named")
        return
    keys = differing_keys(json.loads(before), json.loads(now))
    if keys:
        log.warning("the input differs from that of the checkpoint: %s", ", ".join(keys))


def differing_keys(a: Any, b: Any, path: str = "") -> list[str]:
    """Return the paths at which two inputs differ, but for notes about the model."""
    if isinstance(a, dict) and isinstance(b, dict) and not path.endswith("model/info"):
        keys = list(dict.fromkeys([*a, *b]))
        found = [differing_keys(a.get(k), b.get(k), f"{path}/{k}" if path else k) for k in keys]
        return [key for part in found for key in part]
    return [] if a == b or path.endswith("model/info") else [path]
