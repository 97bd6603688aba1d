# SPDX-License-Identifier: LGPL-3.0-or-later
"""From a model section with spins to the section of the model of atoms and virtual partners."""

from collections.abc import Sequence
from typing import Any

from deepmd.base.errors import InputError, NotAvailableError, did_you_mean
from deepmd.dpmodel.descriptor import Descriptor


def spin_settings(section: dict[str, Any], type_map: Sequence[str]) -> dict[str, list]:
    """Return ``use_spin`` and ``virtual_scale`` of every type, from a checked section ``spin``."""
    if section.get("scheme", "deepspin") != "deepspin":
        raise NotAvailableError(
            f'the scheme "{section["scheme"]}" is not built yet',
            where="model/spin/scheme",
            fix='use "deepspin"',
        )
    use_spin = _flags(section["use_spin"], type_map)
    return {
        "use_spin": use_spin,
        "virtual_scale": _scales(section.get("virtual_scale"), use_spin),
    }


def _flags(given: Sequence[bool | int | str], type_map: Sequence[str]) -> list[bool]:
    """Flags of all types, from flags, indices or names of the magnetic ones."""
    where = "model/spin/use_spin"
    if all(isinstance(u, bool) for u in given):
        if len(given) != len(type_map):
            raise InputError(
                f"{len(given)} flags for {len(type_map)} types ({', '.join(type_map[:8])})",
                where=where,
                fix="give one per type, or the names of the types with a spin",
            )
        flags = [bool(u) for u in given]
    else:
        for u in given:
            if isinstance(u, str) and u not in type_map:
                raise InputError(
                    f'"{u}" is not in type_map', where=where, fix=did_you_mean(u, type_map)
                )
            if not isinstance(u, str) and not 0 <= u < len(type_map):
                raise InputError(
                    f"type {u} does not exist, type_map has {len(type_map)} types", where=where
                )
        flags = [name in given or t in given for t, name in enumerate(type_map)]
    if not any(flags):
        raise InputError("no type has a spin", where=where, fix="leave out the section model/spin")
    return flags


def _scales(given: float | Sequence[float] | None, use_spin: Sequence[bool]) -> list[float]:
    """Scales of all types, from one number, one per type or one per magnetic type."""
    where, magnetic = "model/spin/virtual_scale", sum(use_spin)
    if given is None:
        raise InputError(
            "is missing", where=where, fix="give the displacement per unit of spin, e.g. [0.3]"
        )
    scales = [given] * magnetic if isinstance(given, (int, float)) else list(given)
    if len(scales) == len(use_spin):
        return [float(x) if u else 0.0 for x, u in zip(scales, use_spin, strict=True)]
    if len(scales) != magnetic:
        raise InputError(
            f"{len(scales)} numbers for {len(use_spin)} types, {magnetic} of them with a spin",
            where=where,
            fix="give one number, one per type, or one per type with a spin",
        )
    numbers = iter(scales)
    return [float(next(numbers)) if u else 0.0 for u in use_spin]


def backbone_section(section: dict[str, Any], use_spin: Sequence[bool]) -> dict[str, Any]:
    """Return the section of the model that sees atoms and partners.

    The type map is doubled; partners of types without spin are hidden from everything, and no
    partner has an energy.

    Parameters
    ----------
    section : dict
        The model section without ``spin``.
    use_spin : list of bool
        Which types have a spin.
    """
    kind, fitting = section.get("type", "standard"), section.get("fitting_net", {})
    if kind != "standard" or fitting.get("type", "ener") != "ener" or section.get("use_srtab"):
        raise NotAvailableError(
            "spins are built for the standard model with the fitting net ener only",
            where="model/spin",
        )
    nt = len(use_spin)
    hidden = [
        [t + nt, other] for t, used in enumerate(use_spin) if not used for other in range(2 * nt)
    ]
    names = list(section["type_map"])
    path = "model/descriptor/type"
    descriptor = Descriptor.registry.get(section["descriptor"]["type"], where=path)
    return {
        **section,
        "type_map": names + [f"{name}_spin" for name in names],
        "descriptor": descriptor.with_partners(section["descriptor"], hidden),
        "pair_exclude_types": hidden + list(section.get("pair_exclude_types", ())),
        "atom_exclude_types": sorted({*section.get("atom_exclude_types", ()), *range(nt, 2 * nt)}),
    }


def section_of_atoms(section: dict[str, Any]) -> dict[str, Any]:
    """Return the model section with spins that a section of atoms and partners was made from.

    Parameters
    ----------
    section : dict
        See :func:`backbone_section`; with the section ``spin``.
    """
    nt = len(section["type_map"]) // 2

    def without_partners(part: dict[str, Any]) -> dict[str, Any]:
        if "list" in part:
            return {**part, "list": [without_partners(member) for member in part["list"]]}
        out = {**part, "exclude_types": _between_atoms(part.get("exclude_types", ()), nt)}
        kind = Descriptor.registry.get(part["type"], where="model/descriptor/type")
        return out if kind.mixed_types else {**out, "sel": part["sel"][:nt]}

    return {
        **section,
        "type_map": section["type_map"][:nt],
        "descriptor": without_partners(section["descriptor"]),
        "pair_exclude_types": _between_atoms(section.get("pair_exclude_types", ()), nt),
        "atom_exclude_types": [t for t in section.get("atom_exclude_types", ()) if t < nt],
    }


def _between_atoms(pairs: Sequence[Sequence[int]], nt: int) -> list[list[int]]:
    return [list(pair) for pair in pairs if max(pair) < nt]
