# SPDX-License-Identifier: LGPL-3.0-or-later
"""Modifiers in graphs: attributes, and the graph of the dipole model under a scope of its own."""

from typing import Any

from deepmd.base.errors import ModelFileError, NotAvailableError
from deepmd.dpmodel.model import DipoleChargeModifier, Model
from deepmd.graphs.section import MODIFIER
from deepmd.io.graph import Graph

#: Kind of the modifier, and scope of its model.
SCOPE = "dipole_charge"


def modifier_section(graph: Graph) -> dict[str, Any] | None:
    """Return the section ``modifier`` of a graph, or None if it has none.

    Raises
    ------
    ModelFileError
        If an attribute is missing.
    NotAvailableError
        If it is of another type than ``dipole_charge``.
    """
    kind = graph.text(f"{MODIFIER}/type")
    if kind is None:
        return None
    if kind != SCOPE:
        raise NotAvailableError(f'graphs of models with modifiers "{kind}" are not read')
    found: dict[str, Any] = {
        "type": kind,
        "model_name": graph.text(f"{MODIFIER}/mdl_name"),
        "model_charge_map": _numbers(graph.text(f"{MODIFIER}/mdl_charge_map")),
        "sys_charge_map": _numbers(graph.text(f"{MODIFIER}/sys_charge_map")),
    }
    for name in ("ewald_beta", "ewald_h"):
        value = graph.constant(f"{MODIFIER}/{name}")
        found[name] = None if value is None else float(value)
    missing = [name for name, value in found.items() if value is None]
    if missing:
        raise ModelFileError(f"its modifier has no {', '.join(missing)}")
    return found


def _numbers(text: str | None) -> list[float] | None:
    """Numbers of a text with spaces between them."""
    return None if text is None else [float(word) for word in text.split()]


def make_modifier(section: dict[str, Any], dipole: Model, model: Model) -> DipoleChargeModifier:
    """Return the modifier of a section, with the dipole model of the same graph."""
    given = {k: v for k, v in section.items() if k != "type"}
    return DipoleChargeModifier.for_model(given, model.get_type_map(), MODIFIER, lambda _: dipole)
