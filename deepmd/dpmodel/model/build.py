# SPDX-License-Identifier: LGPL-3.0-or-later
"""From the model section of an input file to a model with initial values."""

import copy
from typing import Any

from deepmd.dpmodel.atomic_model import StandardAtomicModel
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.dpmodel.model.model import Model
from deepmd.utils.errors import InputError, NotAvailableError


def build_model(section: dict[str, Any]) -> Model:
    """Build the model of a checked ``model`` section.

    Parameters
    ----------
    section : dict
        The normalised section; ``sel`` must be numbers.

    Raises
    ------
    InputError
        If parts do not fit each other.
    """
    section = copy.deepcopy(section)
    kind = section.get("type", "standard")
    if kind != "standard":
        raise NotAvailableError(
            f'models of type "{kind}" are not built yet', where="model/type", fix='use "standard"'
        )
    type_map = section.get("type_map")
    if not type_map:
        raise InputError("no type_map", where="model", fix='name the types, e.g. ["O", "H"]')
    given = section["descriptor"]
    descriptor_class = Descriptor.registry.get(given.pop("type"), where="model/descriptor/type")
    descriptor = descriptor_class(**given, type_map=type_map)
    if descriptor.ntypes != len(type_map):
        raise InputError(
            f"sel has {descriptor.ntypes} numbers for {len(type_map)} types",
            where="model/descriptor/sel",
            fix="give one number per type of type_map",
        )
    given = section["fitting_net"]
    fitting_class = Fitting.registry.get(given.pop("type", "ener"), where="model/fitting_net/type")
    given.pop("layer_name", None)
    fitting = fitting_class.for_descriptor(
        given, descriptor, type_map, section.get("atom_exclude_types", ())
    )
    return Model(
        StandardAtomicModel(
            descriptor,
            fitting,
            type_map,
            atom_exclude_types=fitting.exclude_types,
            pair_exclude_types=section.get("pair_exclude_types", ()),
            rcond=fitting.rcond,
            preset_out_bias=section.get("preset_out_bias"),
        )
    )
