# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training checkpoints ``.pt``.

The frame is that of DeePMD-kit: ``{"model": state dictionary, "optimizer": state dictionary}``, the
first with the model section in ``_extra_state``. What a restart needs beyond that is under one more
key, ``trainer``. Files hold tensors and plain values only, and are read with ``weights_only``.
"""

import json
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.training.checkpoint import Checkpoint
from deepmd.io.files import SINGLE, branch_params
from deepmd.io.tree import map_leaves
from deepmd.pt.names import (
    NOT_STORED,
    array_names,
    at,
    fill,
    nearest_name,
    neutral,
    state_of,
    with_tables,
)
from deepmd.utils.errors import InputError, ModelFileError
from deepmd.utils.files import replacing

_MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears whole or not at all."""
    nearest = checkpoint.min_nbor_dist
    state: dict[str, Any] = OrderedDict()
    skeletons = {}
    for task, model in checkpoint.models.items():
        prefix = f"model.{task}."
        data = model.serialize()
        state[prefix + nearest_name(data)] = torch.tensor(
            -1.0 if nearest is None else nearest, dtype=torch.float64
        )
        state.update(state_of(data, prefix))
        skeletons[task] = json.dumps(_without_arrays(data))
    last = {"lr": float(checkpoint.trainer.get("lr", 0.0)), "step": max(checkpoint.step - 1, 0)}
    state["_extra_state"] = {"model_params": _plain(checkpoint.model_params), "train_infos": last}
    names, optimizer, rest = _to_frame(checkpoint.optimizer, last["lr"])
    trainer = {
        "format": 1,
        "step": checkpoint.step,
        "models": skeletons,
        "parameters": names,
        "optimizer": rest,
        "backend": checkpoint.backend,
        "state": {k: _plain(v) for k, v in checkpoint.trainer.items()},
    }
    content = {"model": state, "optimizer": optimizer, "trainer": trainer}
    with replacing(path) as file, file.sink() as sink:
        torch.save(_interned(content), sink)  # type: ignore[arg-type]  # only writes


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of this program, or of DeePMD-kit's PyTorch backend.

    Raises
    ------
    ModelFileError
        If the file is missing, incomplete, or no checkpoint.
    """
    content = _load(path)
    try:
        return _from_content(content)
    except (InputError, ModelFileError) as error:
        raise ModelFileError(error.what, where=path, fix=error.fix) from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelFileError(
            f"is no training checkpoint of a known form ({type(error).__name__}: {error})",
            where=path,
        ) from None


def _load(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelFileError("checkpoint not found", where=path) from None
    except pickle.UnpicklingError as error:
        first = str(error).strip().split("\n")[0]
        raise ModelFileError(
            f"holds more than tensors and plain values, or is damaged ({first})", where=path
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        first = str(error).strip().split("\n")[0]
        raise ModelFileError(
            f"cannot be read, it is incomplete or of another kind ({first})",
            where=path,
            fix="use the checkpoint before it",
        ) from None
    if not isinstance(content, dict):
        raise ModelFileError("holds no state dictionary", where=path)
    # A bare state dictionary is accepted, too.
    return content if "model" in content else {"model": content}


def _from_content(content: Mapping[str, Any]) -> Checkpoint:
    state = content["model"]
    extra = state["_extra_state"]
    params = extra["model_params"]
    trainer = content.get("trainer")
    tasks = list(params.get("model_dict", {SINGLE: None}) if trainer is None else trainer["models"])
    models = {}
    for task in tasks:
        if trainer is not None:
            data = _with_arrays(trainer["models"][task], state, f"model.{task}.")
        else:
            section = with_tables(branch_params(params, task), state, f"model.{task}.")
            data = build_model(section).serialize()
            fill(data, state, f"model.{task}.")
        models[task] = Model.deserialize(data)
    nearest = state.get(f"model.{tasks[0]}.{nearest_name(models[tasks[0]].serialize())}")
    known = nearest is not None and float(nearest) > 0
    done = Checkpoint(models, dict(params), min_nbor_dist=float(nearest) if known else None)
    if trainer is None:
        done.step = int(extra["train_infos"]["step"]) + 1
        done.backend = "PyTorch"
        return done
    done.step, done.backend = int(trainer["step"]), trainer["backend"]
    done.optimizer = _from_frame(trainer["parameters"], content["optimizer"], trainer["optimizer"])
    done.trainer = {k: _restored(v) for k, v in trainer["state"].items()}
    return done


# -- models ---------------------------------------------------------------------------------------


def _without_arrays(data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace every array of a model dictionary by its name in the state dictionary.

    Those that have none become lists.
    """
    copy = map_leaves(data, lambda leaf, _: leaf.tolist() if hasattr(leaf, "tolist") else leaf)
    for place, names in array_names(data).items():
        at(copy, place[:-1])[place[-1]] = names[0]
    return copy


def _with_arrays(text: str, state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the dictionary with arrays again in the places of names, and of lists."""

    def listed(node: dict[str, Any]) -> dict[str, Any]:
        return node | {k: np.asarray(node[k]) for k in NOT_STORED if k in node}

    def named(leaf: Any, inside: bool) -> Any:
        return neutral(leaf, state[prefix + leaf]) if inside and isinstance(leaf, str) else leaf

    return map_leaves(json.loads(text, object_hook=listed), named)


# -- optimizer ------------------------------------------------------------------------------------


def _to_frame(
    flat: Mapping[str, np.ndarray], lr: float
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """Turn ``task/first.path`` … into a state dictionary of ``torch.optim``.

    Returns
    -------
    names : list of str
        ``task/path`` of the parameter with each number.
    optimizer : dict
    rest : dict
        Entries that have no place in that dictionary.
    """
    names = [k.replace("/first.", "/", 1) for k in flat if "/first." in k]
    state, rest = {}, {k: _plain(v) for k, v in flat.items()}
    for number, name in enumerate(names):
        task, _, path = name.partition("/")
        held = {}
        for kind, key in _MOMENTS.items():
            held[key] = rest.pop(f"{task}/{kind}.{path}")
        count = flat.get(f"{task}/count.{path}", flat.get(f"{task}/count", 0))
        held["step"] = torch.tensor(float(count), dtype=torch.float32)
        state[number] = held
    group = {"lr": lr, "initial_lr": lr, "params": list(range(len(names)))}
    return names, {"state": state, "param_groups": [group]}, rest


def _from_frame(
    names: list[str], optimizer: Mapping[str, Any], rest: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {k: _restored(v) for k, v in rest.items()}
    for number, name in enumerate(names):
        task, _, path = name.partition("/")
        for kind, key in _MOMENTS.items():
            flat[f"{task}/{kind}.{path}"] = _restored(optimizer["state"][number][key])
    return flat


def _interned(tree: Any) -> Any:
    """Return a tree in which equal strings are one object.

    A pickle refers to objects that it has already, so its bytes depend on which are the same.
    """
    if isinstance(tree, dict):
        return type(tree)((_interned(k), _interned(v)) for k, v in tree.items())
    if isinstance(tree, (list, tuple)):
        return [_interned(v) for v in tree]
    return sys.intern(tree) if type(tree) is str else tree


# -- plain values ---------------------------------------------------------------------------------


def _plain(tree: Any) -> Any:
    """Return a tree made of tensors, numbers, strings, lists and dictionaries."""

    def change(leaf: Any, inside: bool) -> Any:
        if isinstance(leaf, np.ndarray):
            return torch.from_numpy(np.array(leaf))
        return leaf.item() if isinstance(leaf, np.generic) else leaf

    return map_leaves(tree, change)


def _restored(value: Any) -> Any:
    return value.numpy().copy() if isinstance(value, torch.Tensor) else value
