# SPDX-License-Identifier: LGPL-3.0-or-later
"""Shared parts of multi-task inputs as clients ask for them; see :mod:`deepmd.schema.multi_task`."""

from collections.abc import Mapping
from typing import Any

from deepmd.base.errors import InputError
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.schema.multi_task import lowered, references, resolved

__all__ = ["get_class_name", "preprocess_shared_params"]


def get_class_name(item_key: str, item_params: Mapping[str, Any]) -> Any:
    """Return the class of a section.

    Parameters
    ----------
    item_key : str
        ``descriptor`` or ``fitting_net``; a number after it names a member of a hybrid.
    item_params : mapping
        The section.
    """
    if "hybrid" in item_key or item_key.startswith("descriptor"):
        base: Any = Descriptor
    elif item_key == "fitting_net":
        base = Fitting
    else:
        raise InputError(f'"{item_key}" is no part that has a class')
    kind = base.kind_of({"type": base.default_kind, **item_params})
    if kind is None:
        raise base.keys.unknown(str(item_params.get("type")))
    return kind


def preprocess_shared_params(
    model_config: dict[str, Any], require_shared_type_map: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a section with shared parts in the places of their names, and who shares them.

    Parameters
    ----------
    model_config : dict
        The ``model`` section, with ``shared_dict`` and ``model_dict``.
    require_shared_type_map : bool
        Whether branches that share a part must name one type map.

    Returns
    -------
    model_config : dict
    links : dict
        By name of the part: its class, and branch, kind and level of each use, lowest level first.
    """
    model_config = lowered(model_config)
    links: dict[str, dict[str, Any]] = {}
    maps: dict[str, None] = {}
    for use in references(model_config):
        kind = "_hybrid_".join(map(str, (use.place[0], *use.place[2:])))
        if kind == "type_map":
            maps[use.name] = None
            continue
        section = model_config["shared_dict"][use.name]
        entry = links.setdefault(use.name, {"type": get_class_name(kind, section), "links": []})
        entry["links"].append(
            {"model_key": use.branch, "shared_type": kind, "shared_level": use.level}
        )
    if require_shared_type_map and links and len(maps) != 1:
        raise InputError(
            "branches that share parts must name one type map of shared_dict", where="model"
        )
    for entry in links.values():
        entry["links"].sort(key=lambda link: link["shared_level"])
    return {**model_config, "model_dict": resolved(model_config)}, links
