# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is suspicious about the data, at the start of a training."""

import logging
from collections.abc import Mapping

from deepmd.data.checks.finding import ordered
from deepmd.data.checks.quick import quick_check
from deepmd.data.quantities import common_name
from deepmd.dpmodel.label import Label
from deepmd.train.plan import Plan, branches
from deepmd.train.trainer import Task

log = logging.getLogger(__name__)

#: Lines at most.
_MOST = 5
#: Labels that are worth a line when they lie unused.
_WORTH = (Label("virial", 9, False), Label("force", 3, True))


def warn_of_data(plan: Plan, tasks: Mapping[str, Task]) -> None:
    """Log at most five lines; ``dp data check`` finds more."""
    found = []
    for branch in branches(plan.config):
        train, valid = plan.systems[branch.name]
        task = tasks[branch.name]
        used = {common_name(label.name) for label in task.loss.label_requirements()}
        energies = "energy" in used
        given = branch.data["training_data"].get("batch_size", "auto")
        unused = [
            la.name
            for la in _WORTH
            if energies and la.name not in used and any(s.check([la])[la.name] for s in train)
        ]
        found += quick_check(
            train,
            valid,
            min_nbor_dist=plan.min_nbor_dist,
            batch_sizes=[] if isinstance(given, str) else task.data.sampler.batch_sizes,
            unused=unused,
            where=f"{branch.where}/training_data",
        )
    for finding in ordered(found)[:_MOST]:
        level = logging.INFO if finding.level == "note" else logging.WARNING
        log.log(level, "%s", finding.line().partition(": ")[2])
    if len(found) > _MOST:
        log.debug("%d more", len(found) - _MOST)
