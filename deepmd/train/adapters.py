# SPDX-License-Identifier: LGPL-3.0-or-later
"""Low-rank adapters (``training/lora``): which layers get one, and how a restart finds them again.

Files hold models with the adapters added to the weights. Checkpoints have weights and factors beside
them, so that a restart is exact.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel.atomic_model import AtomicModel
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import Module, assign, modules, places, split
from deepmd.dpmodel.nn.layers import Dense
from deepmd.dpmodel.nn.low_rank import LowRank
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.train.plan import Plan

log = logging.getLogger(__name__)

_WHERE = "training/lora"
#: What the names in a checkpoint begin with.
_PREFIX = "lora."


def attach(
    model: Model,
    rank: int,
    *,
    alpha: float | None = None,
    parts: tuple[str, ...] = ("descriptor", "fitting"),
    whole: tuple[str, ...] = (),
    seed: Seed = None,
) -> None:
    """Give the dense layers of a model low-rank adapters, in place; everything else is fixed.

    Parameters
    ----------
    model : Model
    rank : int
    alpha : float, optional
        Products are multiplied by ``alpha / rank``; 1 if not given.
    parts : tuple of str
        ``descriptor`` and ``fitting``: those whose layers get one.
    whole : tuple of str
        Parts that are trained as usual.
    seed : int or tuple, optional
    """
    trained = [id(node) for name in whole for node in _part(model, name)]
    for node in modules(model):
        node.frozen = id(node) not in trained and not isinstance(node, LowRank)
    scale = 1.0 if alpha is None else alpha / rank
    layers = [n for name in parts if name not in whole for n in _part(model, name)]
    for k, layer in enumerate(node for node in layers if isinstance(node, Dense)):
        if layer.adapter is None:  # tasks may share it
            n_in, n_out = layer.w.shape
            layer.adapter = LowRank(
                n_in,
                n_out,
                rank,
                scale=scale,
                precision=layer.precision,
                seed=child_seed(seed, k),
            )


def _part(model: Model, name: str) -> Iterator[Module]:
    """Iterate over the modules of the descriptors or fittings of a model."""
    yield from modules(list(_components(model.atomic_model, name)))


def _components(atomic: AtomicModel, name: str) -> Iterator[Module]:
    if getattr(atomic, name, None) is not None:
        yield getattr(atomic, name)
    for member in atomic.members():
        yield from _components(member, name)


def adapter_arrays(models: Mapping[str, Model]) -> dict[str, np.ndarray]:
    """Return the factors of all adapters and the weights they act on, for a checkpoint."""
    return {
        f"{_PREFIX}{task}.{path}": np.asarray(getattr(node, name))
        for task, model in models.items()
        for node, name, _, path in places(model)
        if isinstance(node, LowRank)
        or (isinstance(node, Dense) and node.adapter is not None and name == "w")
    }


def adapt(plan: Plan, tasks: Mapping[str, Any]) -> dict[str, str]:
    """Attach the adapters that the input asks for, or restore those of a checkpoint.

    Parameters
    ----------
    plan : Plan
    tasks : dict of str to Task
        With their parameters.

    Returns
    -------
    dict
        Notes for checkpoints.

    Raises
    ------
    InputError
        If there is no trained model to adapt, nothing would be trained, or a training with adapters
        is continued without, or the other way round.
    """
    section, stored = plan.config["training"].get("lora"), {}
    if plan.continued is not None:
        known = plan.continued.trainer.items()
        stored = {k: v for k, v in known if k.startswith(_PREFIX)}
        _check_restart(section, stored)
    if not section:
        return {}
    if plan.start is None:
        raise InputError(
            "adapters are additions to a trained model, and there is none",
            where=_WHERE,
            fix="add --finetune, --init-model or --init-frz-model",
        )
    notes = {}
    for k, (name, task) in enumerate(tasks.items()):
        note = f"{_PREFIX}{name}"
        if plan.continued is None:
            rule = plan.start.rules.get(name)
            whole = ("fitting",) if rule is not None and rule.renewed else ()
        else:
            whole = tuple(json.loads(stored[note]))
        attach(
            task.model,
            section["rank"],
            alpha=section.get("alpha"),
            parts=tuple(section["parts"]),
            whole=whole,
            seed=child_seed(plan.seed, f"lora {k}"),
        )
        if plan.continued is not None:
            _restore(task.model, {k[len(note) + 1 :]: v for k, v in stored.items() if k != note})
        if not split(task.model)[0]:
            raise InputError(
                "nothing would be trained: the parts with adapters are not trainable",
                where=_WHERE,
                fix='leave out "trainable": false',
            )
        notes[note] = json.dumps(whole)
    return notes


def _check_restart(section: Any, stored: Mapping[str, Any]) -> None:
    """Raise InputError if a training is continued without its adapters, or with new ones."""
    if bool(section) != bool(stored):
        raise InputError(
            f"the training that is continued was {'with' if stored else 'without'} adapters",
            where=_WHERE,
            fix=f"{'keep the section' if stored else 'leave it out'}, or begin anew with --init-model",
        )


def _restore(model: Model, arrays: Mapping[str, Any]) -> None:
    """Put weights and factors of a checkpoint into a model with adapters."""
    expected = {path for node, _, _, path in places(model) if isinstance(node, LowRank)}
    if not expected <= set(arrays):
        raise ModelFileError(
            "the adapters of the checkpoint are not those of the input",
            where=_WHERE,
            fix="use the same section",
        )
    assign(model, arrays)
