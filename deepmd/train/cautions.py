# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a user should know about the physics of a model, although it is what was asked for."""

import logging
from typing import Any

import numpy as np

from deepmd.dpmodel.descriptor import Descriptor, DescrptSeT, DescrptSeTTebd
from deepmd.dpmodel.descriptor.dpa2 import Repformers
from deepmd.dpmodel.descriptor.mixed import MixedDescriptor
from deepmd.dpmodel.descriptor.typed import TypedDescriptor
from deepmd.dpmodel.model import Model
from deepmd.train.statistics import networks

log = logging.getLogger(__name__)


def warn_of_order(model: Model) -> None:
    """Log a warning if energies depend on which atom comes first."""
    for network in networks(model.atomic_model):
        if any(_counts_empty(part) and _by_order(part) for part in _parts(network)):
            log.warning(
                "energies of this model depend on the order of the atoms: in empty slots the type "
                "embedding is that of the first atom; train with set_davg_zero, or with "
                'tebd_input_mode "strip"'
            )
            return


def warn_of_jumps(model: Model) -> None:
    """Log a warning if the energy jumps where an excluded neighbour crosses the cutoff."""
    for network in networks(model.atomic_model):
        hidden = {tuple(sorted(pair)) for pair in model.atomic_model.pair_exclude_types}
        for part in _parts(network):
            pairs = {tuple(sorted(pair)) for pair in part.exclude_types} - hidden
            if pairs and _counts_empty(part):
                log.warning(
                    "energies jump when a neighbour excluded by exclude_types crosses the cutoff: "
                    "it counts nothing, but an empty slot counts the mean; set set_davg_zero, or "
                    "use pair_exclude_types of the model"
                )
                return


def _parts(network: Any) -> list[Any]:
    """Parts of a descriptor in which empty slots count."""
    parts: list[Descriptor] = network.descriptor.statistics_parts()
    known = [p for p in parts if isinstance(p, TypedDescriptor | MixedDescriptor)]
    # Angles of empty slots are 0, and so is what they add; a repformer masks them.
    return [p for p in known if not isinstance(p, DescrptSeT | DescrptSeTTebd | Repformers)]


def _counts_empty(part: Any) -> bool:
    return bool(np.asarray(part.davg).any())


def _by_order(part: Any) -> bool:
    return isinstance(part, MixedDescriptor) and part.depends_on_order
