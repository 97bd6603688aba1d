# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a user should know about the physics of a model, although it is what was asked for."""

import logging
from typing import Any

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.descriptor import Descriptor, DescrptSeT, DescrptSeTTebd
from deepmd.dpmodel.descriptor.base import Atoms
from deepmd.dpmodel.descriptor.dpa2 import Repformers
from deepmd.dpmodel.descriptor.mixed import MixedDescriptor
from deepmd.dpmodel.descriptor.typed import TypedDescriptor
from deepmd.dpmodel.model import Model, prepare
from deepmd.dpmodel.neighbors import empty_edges
from deepmd.train.statistics import networks

log = logging.getLogger(__name__)


def warn_of_order(model: Model) -> None:
    """Log a warning if energies depend on which atom comes first."""
    for network in networks(model.atomic_model):
        if any(_counts_empty(part) and _by_order(part) for part in _parts(network)):
            log.warning(
                "energies of this model depend on the order of the atoms: in empty slots the type "
                "embedding is that of the first atom; train with set_davg_zero, or with "
                'tebd_input_mode "strip" and smooth_type_embedding'
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


def warn_of_isolated_atoms(model: Model) -> None:
    """Log a warning if ``atom_ener`` will not be the energies of isolated atoms."""
    for network in networks(model.atomic_model):
        numbers = getattr(network.fitting, "atom_ener", None) or ()
        if any(e is not None for e in numbers) and isolated_descriptors(network).any():
            log.warning(
                "energies of isolated atoms will not be those of atom_ener: their descriptors are "
                "not zero, because of means of the environment (set_davg_zero), type embeddings "
                "(concat_output_tebd) or embedded empty slots (se_e2_r)"
            )
            return


def isolated_descriptors(network: Any) -> np.ndarray:
    """Descriptors of an isolated atom of every type, (ntypes, dim_out).

    ``network`` is an atomic model with a descriptor.
    """
    n, descriptor = network.ntypes, network.descriptor
    batch = Batch(
        np.zeros((n, 3)),
        np.zeros((n, 3, 3)),
        np.zeros(n, dtype=bool),
        np.arange(n),
        np.arange(n),
        np.ones(n, dtype=np.int64),
        charge_spin=np.zeros((n, 2)),
        edges=empty_edges(),
    )
    inputs = prepare(batch, descriptor.packings())
    slots, start = {}, 0
    for packing in descriptor.packings():
        slots[packing] = inputs.slots[start : start + packing.n_tables]
        start += packing.n_tables
    padded = np.array([[descriptor.rcut, 0.0, 0.0]])
    atoms = Atoms(padded, inputs.i, inputs.j, inputs.atype, inputs.frame, inputs.fparam)
    return np.asarray(descriptor(atoms, slots).value)


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
