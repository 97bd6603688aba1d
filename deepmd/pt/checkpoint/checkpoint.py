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
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from deepmd.base.errors import ModelFileError
from deepmd.base.files import replacing
from deepmd.base.reading import reason
from deepmd.dpmodel.construction import constructing
from deepmd.dpmodel.kalman import kalman_of
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.muon import muon_of
from deepmd.dpmodel.optimizer import EPSILON, adam_settings
from deepmd.io.archive import packed, read_archive
from deepmd.io.digest import content_key
from deepmd.io.files import SINGLE, branch_params
from deepmd.io.guard import check_model_tree, opening
from deepmd.io.tree import map_leaves
from deepmd.pt.checkpoint.dialect import as_built, model_of_state
from deepmd.pt.checkpoint.names import (
    NOT_STORED,
    OF_SECTION,
    array_names,
    at,
    is_written,
    min_nbor_dist_name,
    neutral,
    state_of,
)
from deepmd.runtime.checkpoint import Checkpoint

_MOMENTS = {"first": "exp_avg", "second": "exp_avg_sq"}


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the file appears whole or not at all."""
    min_dist = checkpoint.min_nbor_dist
    state: dict[str, Any] = OrderedDict()
    skeletons = {}
    for task, model in checkpoint.models.items():
        prefix = f"model.{task}."
        data = model.serialize()
        state[prefix + min_nbor_dist_name(data)] = torch.tensor(
            -1.0 if min_dist is None else min_dist, dtype=torch.float64
        )
        state.update(state_of(data, prefix))
        skeletons[task] = json.dumps(_without_arrays(data))
    following = float(checkpoint.trainer.get("learning_rate", 0.0))
    last = {
        "lr": float(checkpoint.trainer.get("learning_rate.last", following)),
        "step": max(checkpoint.step - 1, 0),
    }
    state["_extra_state"] = {"model_params": _plain(checkpoint.model_params), "train_infos": last}
    group = _group(checkpoint.trainer.get("input"), following)
    names, aliases, optimizer, rest = _to_frame(checkpoint.optimizer, group)
    trainer = {
        "format": 1,
        "step": checkpoint.step,
        "models": skeletons,
        "parameters": names,
        **({"aliases": aliases} if aliases else {}),
        "optimizer": rest,
        "backend": checkpoint.backend,
        "state": {k: _plain(v) for k, v in checkpoint.trainer.items()},
    }
    content = {"model": state, "optimizer": optimizer, "trainer": trainer}
    with replacing(path) as file, file.sink() as sink:
        known: dict[str, torch.Tensor] | None = {} if len(skeletons) > 1 else None
        torch.save(_interned(content, known), sink)  # type: ignore[arg-type]  # only writes


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint of this program, or of DeePMD-kit's PyTorch backend.

    Raises
    ------
    ModelFileError
        If the file is missing, incomplete, or no checkpoint.
    """
    with opening(path, "use the checkpoint before it"):
        content = _load(path)
        with constructing(content):
            return _from_content(content)


def _load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the content of an archive: tensors and plain values."""
    records = read_archive(path)
    try:
        content = torch.load(packed(records, path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"holds more than tensors and plain values, or is damaged ({reason(error)})"
        ) from None
    if not isinstance(content, dict):
        raise ModelFileError("holds no state dictionary")
    check_model_tree(content, sum(map(len, records.values())))
    _check_tensors(content)
    # A bare state dictionary is accepted, too.
    return content if "model" in content else {"model": content}


def _check_tensors(content: Any) -> None:
    """Raise ModelFileError if a tensor is larger than what it is stored in, or none of numbers."""

    def check(leaf: Any, inside: bool) -> None:
        if not isinstance(leaf, torch.Tensor):
            return
        if leaf.layout != torch.strided or leaf.device.type != "cpu" or leaf.is_quantized:
            raise ModelFileError(f"holds a tensor of the layout {leaf.layout} on {leaf.device}")
        if leaf.numel() * leaf.element_size() > leaf.untyped_storage().nbytes():
            raise ModelFileError(f"a tensor of shape {tuple(leaf.shape)} repeats its numbers")

    map_leaves(content, check)


def _from_content(content: Mapping[str, Any]) -> Checkpoint:
    state = content["model"]
    extra = state.get("_extra_state") if isinstance(state, Mapping) else None
    if not isinstance(extra, Mapping) or not isinstance(extra.get("model_params"), Mapping):
        raise ModelFileError("is no training checkpoint: it does not say what its model is")
    params, trainer = extra["model_params"], content.get("trainer")
    params = as_built(params) if trainer is None else params
    tasks = list(params.get("model_dict", {SINGLE: None}) if trainer is None else trainer["models"])
    models = {}
    for task in tasks:
        if trainer is not None:
            data = _with_arrays(trainer["models"][task], state, f"model.{task}.")
            models[task] = Model.deserialize(data)
        else:
            models[task] = model_of_state(branch_params(params, task), state, f"model.{task}.")
    found = (state.get(f"model.{k}.{min_nbor_dist_name(m.serialize())}") for k, m in models.items())
    distances = [float(d) for d in found if d is not None and float(d) > 0]
    done = Checkpoint(models, dict(params), min_nbor_dist=min(distances, default=None))
    if trainer is None:
        done.step = int(extra["train_infos"]["step"]) + 1
        done.backend = "PyTorch"
        return done
    done.step, done.backend = int(trainer["step"]), trainer["backend"]
    numbers = {name: k for k, name in enumerate(trainer["parameters"])}
    numbers |= trainer.get("aliases", {})
    done.optimizer = _from_frame(numbers, content["optimizer"], trainer["optimizer"])
    done.trainer = {k: _restored(v) for k, v in trainer["state"].items()}
    return done


# -- models ---------------------------------------------------------------------------------------


def _without_arrays(data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace every array of a model dictionary by its name in the state dictionary.

    Those that have none become lists.
    """
    copy = map_leaves(data, lambda leaf, _: leaf.tolist() if hasattr(leaf, "tolist") else leaf)
    for place, names in array_names(data).items():
        if is_written(place):
            at(copy, place[:-1])[place[-1]] = names[0]
    return copy


def _with_arrays(text: str, state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the dictionary with arrays again in the places of names, and of lists."""

    def listed(node: dict[str, Any]) -> dict[str, Any]:
        lists = [k for k in (*NOT_STORED, *OF_SECTION) if isinstance(node.get(k), list)]
        return node | {k: np.asarray(node[k], dtype=np.float64) for k in lists}

    def named(leaf: Any, inside: bool) -> Any:
        return neutral(leaf, state[prefix + leaf]) if inside and isinstance(leaf, str) else leaf

    return map_leaves(json.loads(text, object_hook=listed), named)


# -- optimizer ------------------------------------------------------------------------------------


def _group(text: str | None, lr: float) -> dict[str, Any]:
    """Settings of the optimizer as ``torch.optim.Adam`` states them.

    Parameters
    ----------
    text : str, optional
        The input of the training, as JSON.
    lr : float
        Learning rate of the step that follows.
    """
    given = {} if text is None else json.loads(text)
    section = given.get("optimizer") or {}
    if kalman_of(section) is not None:
        section = {}  # its state is none of torch.optim
    muon = muon_of(section)
    settings = adam_settings(section) if muon is None else {**vars(muon), "decoupled": True}
    one = torch.optim.Adam([torch.zeros(1)]).state_dict()["param_groups"][0]
    return one | {
        "lr": lr,
        "initial_lr": float((given.get("learning_rate") or {}).get("start_lr", lr)),
        "betas": (settings["adam_beta1"], settings["adam_beta2"]),
        "eps": EPSILON,
        "weight_decay": settings["weight_decay"],
        "decoupled_weight_decay": settings["decoupled"],
    }


def _to_frame(
    flat: Mapping[str, np.ndarray], group: Mapping[str, Any]
) -> tuple[list[str], dict[str, int], dict[str, Any], dict[str, Any]]:
    """Turn ``task/first.path`` … into a state dictionary of ``torch.optim``.

    Returns
    -------
    names : list of str
        ``task/path`` of the parameter with each number.
    aliases : dict of str to int
        Numbers of parameters by further names, in tasks that share them.
    optimizer : dict
    rest : dict
        Entries that have no place in that dictionary.
    """
    every = [k.replace("/first.", "/", 1) for k in flat if "/first." in k]
    state, rest = {}, {k: _plain(v) for k, v in flat.items()}
    numbers: dict[tuple[str, ...], int] = {}
    names: list[str] = []
    aliases: dict[str, int] = {}
    several = len({name.partition("/")[0] for name in every}) > 1
    for name in every:
        task, _, path = name.partition("/")
        moments = {key: f"{task}/{kind}.{path}" for kind, key in _MOMENTS.items()}
        moments = {key: k for key, k in moments.items() if k in flat}
        count = flat.get(f"{task}/count.{path}", flat.get(f"{task}/count", 0))
        # One that tasks share has the same moments, and as many steps, in all of them.
        content = (str(count), *(content_key(flat[k]) for k in moments.values()))
        own = len(names)
        number = numbers.setdefault((*content, "" if several else name), own)
        held = {key: rest.pop(k) for key, k in moments.items()}
        if number < own:
            aliases[name] = number
            continue
        names.append(name)
        state[number] = {**held, "step": torch.tensor(float(count), dtype=torch.float32)}
    groups = [{**group, "params": list(range(len(names)))}]
    return names, aliases, {"state": state, "param_groups": groups}, rest


def _from_frame(
    numbers: Mapping[str, int], optimizer: Mapping[str, Any], rest: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    flat: dict[str, np.ndarray] = {k: _restored(v) for k, v in rest.items()}
    for name, number in numbers.items():
        task, _, path = name.partition("/")
        for kind, key in _MOMENTS.items():
            if key in optimizer["state"][number]:
                flat[f"{task}/{kind}.{path}"] = _restored(optimizer["state"][number][key])
    return flat


def _interned(tree: Any, known: dict[str, torch.Tensor] | None) -> Any:
    """Return a tree in which equal strings are one object.

    A pickle refers to objects that it has already, so its bytes depend on which are the same. Equal
    tensors become one object, too, if there is a dictionary for them: those of parts that tasks
    share.
    """
    if isinstance(tree, dict):
        return type(tree)((_interned(k, known), _interned(v, known)) for k, v in tree.items())
    if isinstance(tree, (list, tuple)):
        return type(tree)(_interned(v, known) for v in tree)
    if isinstance(tree, torch.Tensor) and known is not None:
        return known.setdefault(content_key(tree.numpy()), tree)
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
