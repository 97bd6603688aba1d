# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the first of several processes works out for all: plan, statistics, start.

Frames are read, neighbors counted and statistics taken once. The others get the results, and open
the same data.
"""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from deepmd.dpmodel.model import Model
from deepmd.dpmodel.module import assign, split
from deepmd.dpmodel.optimizer import part_of
from deepmd.runtime.distributed import Distributed
from deepmd.train.plan import Plan, Start, branches, make_plan, open_both

log = logging.getLogger(__name__)


def shared_start(
    ranks: Distributed, read: Callable[..., Start | None], **given: str | None
) -> Start | None:
    """Return the file to start from: all processes read the one that the first one found.

    Parameters
    ----------
    ranks : Distributed
    read : function
        Reads one of the files by its option.
    **given
        Files by option, ``init_model``, ``restart``, ``init_frz_model``, ``finetune``; None where it
        is not given.
    """
    start = read(**given) if ranks.writes else None
    if ranks.size == 1:
        return start
    path = json.loads(ranks.broadcast(json.dumps(None if start is None else str(start.path)))[0])
    if path is not None and not ranks.writes:
        [option] = [name for name, value in given.items() if value is not None]
        start = read(**{option: path})
    return start


def shared_plan(
    ranks: Distributed,
    config: dict[str, Any],
    start: Start | None,
    *,
    skip_neighbor_stat: bool = False,
) -> Plan:
    """Return the plan of the first process, on all of them."""
    plan = None
    if ranks.writes:
        plan = make_plan(config, start, skip_neighbor_stat=skip_neighbor_stat)
        if ranks.size == 1:
            return plan
    told = "" if plan is None else json.dumps([plan.text, plan.seed, plan.min_nbor_dist])
    text, seed, min_nbor_dist = json.loads(ranks.broadcast(told)[0])
    if plan is not None:
        return plan
    systems = {branch.name: open_both(branch) for branch in branches(json.loads(text))}
    return Plan(text, systems, start, seed, min_nbor_dist)


def share_arrays(ranks: Distributed, models: Mapping[str, Model]) -> None:
    """Give the models of all processes the parameters and statistics of the first one."""
    if ranks.size == 1:
        return
    own = {f"{name}/{k}": v for name, model in models.items() for k, v in _arrays(model)}
    _, arrays = ranks.broadcast(**(own if ranks.writes else {}))
    if not ranks.writes:
        for name, model in models.items():
            assign(model, part_of(arrays, f"{name}/"))


def _arrays(model: Model) -> Iterator[tuple[str, Any]]:
    return ((k, v) for part in split(model) for k, v in part.items())


def share_widths(ranks: Distributed, make: Callable[[], dict[str, list[int]]]) -> dict[str, Any]:
    """Return the widths of neighbor tables that the first process finds, on all of them."""
    made = make() if ranks.writes else {}
    mine: dict[str, Any] = {k: np.array(v, dtype=np.int64) for k, v in made.items()}
    _, arrays = ranks.broadcast("", **mine)
    return made if ranks.size == 1 else {k: v.tolist() for k, v in arrays.items()}


def scaled_rate(section: Mapping[str, Any], ranks: Distributed) -> dict[str, Any]:
    """Return the section ``learning_rate`` with the ``start_lr`` of that many processes.

    As in DeePMD-kit, the rate of backends whose groups do not say that they scale it stays what it
    is, whatever the section says.
    """
    rule = section.get("scale_by_worker", "none") if ranks.scales_rate else "none"
    factor = {"linear": float(ranks.size), "sqrt": math.sqrt(ranks.size), "none": 1.0}[rule]
    return {**section, "start_lr": factor * section["start_lr"]}


def compare_ranks(now: int, trainer: Mapping[str, Any]) -> None:
    """Say what another number of processes than that of the checkpoint changes."""
    before = int(trainer.get("ranks", 1))
    if now != before:
        log.warning(
            "%d process(es) wrote the checkpoint, %d continue: a step takes %d batches in place of "
            "%d; order of the frames, learning rate and number of steps stay",
            before,
            now,
            now,
            before,
        )
