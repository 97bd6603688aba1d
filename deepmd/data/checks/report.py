# SPDX-License-Identifier: LGPL-3.0-or-later
"""All checks of a data set, as one report."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import DataError
from deepmd.base.log import with_progress
from deepmd.data.checks.finding import Finding, ordered
from deepmd.data.checks.labels import check_labels, noise_floor
from deepmd.data.checks.structures import check_copies, check_structures
from deepmd.data.checks.work import check_groups, groups_of
from deepmd.data.frames import Frames, frames_of
from deepmd.data.system import System


@dataclasses.dataclass
class Report:
    """Findings, the worst first, and facts about the data."""

    findings: list[Finding]
    facts: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether there is no error."""
        return all(f.level != "error" for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        found = [f.as_dict() for f in self.findings]
        return {"passed": self.passed, "findings": found, "facts": self.facts}


def readable(systems: Sequence[System], names: Sequence[str]) -> tuple[list[Frames], list[Finding]]:
    """Read systems one by one; what cannot be read is a finding."""
    parts, out = [], []
    for system in with_progress(systems, "read %d of %d systems"):
        try:
            parts.append(frames_of([system], names, of_all_atoms=True))
        except DataError as error:
            out.append(
                Finding("error", "unreadable", error.what, None, str(error.where), error.fix or "")
            )
    return parts, out


def joined(parts: Sequence[Frames]) -> Frames:
    """Return all frames as one set; labels of one name have one size."""
    out = Frames(parts[0].names, {}, [])
    for part in parts:
        out.labels |= part.labels
        out.frames += part.frames
    return out


def check_data(
    train: Sequence[System],
    valid: Sequence[System] | None = None,
    *,
    rcut: float = 6.0,
    sel: int | Sequence[int] | None = None,
    type_map: Sequence[str] | None = None,
) -> Report:
    """Check training data, and validation data against them.

    Parameters
    ----------
    train, valid : sequence of System
        With names of types.
    rcut : float
        Cutoff [Å].
    sel : int or sequence of int, optional
        Numbers of neighbors that the model is to have.
    type_map : sequence of str, optional
        Types of the model.
    """
    own = (n for s in (*train, *(valid or ())) for n in s.type_map or ())
    names = list(dict.fromkeys([*(type_map or ()), *own]))
    parts, findings = readable(train, names)
    held, bad = readable(valid or (), names)
    findings += bad
    if not parts:
        return Report(ordered(findings), {})
    frames = joined(parts)
    told, found = check_groups(groups_of(frames))
    findings += told
    structures, needed, mean = check_structures(frames, rcut, sel)
    findings += structures + check_labels(frames)
    findings += check_copies(frames, joined(held) if held else None)
    findings += _check_types(frames, joined(held) if held else None, type_map)
    facts = _facts(frames, held) | {
        "rcut": rcut,
        "mean_neighbors": mean,
        "neighbors": dict(zip(frames.names, needed, strict=True)),
        "sel": [4 * math.ceil(1.1 * n / 4) for n in needed],
        "noise_floor": noise_floor(frames, found),
    }
    force, virial = found.slopes() if len(found.energy) else (None, None)
    facts["slopes"] = {
        name: {"value": s.value, "error": s.error, "pairs": s.pairs}
        for name, s in (("force", force), ("virial", virial))
        if s is not None and s.believed
    }
    return Report(ordered(findings), facts)


def _facts(frames: Frames, valid: Sequence[Frames]) -> dict[str, Any]:
    sizes = [len(f.types) for f in frames.frames]
    counts = np.bincount(
        np.concatenate([f.types for f in frames.frames]), minlength=len(frames.names)
    )
    return {
        "frames": len(frames.frames),
        "validation_frames": sum(len(v.frames) for v in valid),
        "atoms": [min(sizes), max(sizes)],
        "types": dict(zip(frames.names, counts.tolist(), strict=True)),
        "labels": {n: sum(n in f.labels for f in frames.frames) for n in sorted(frames.labels)},
    }


def _check_types(
    frames: Frames, valid: Frames | None, type_map: Sequence[str] | None
) -> list[Finding]:
    seen = {frames.names[t] for t in np.unique(np.concatenate([f.types for f in frames.frames]))}
    out = []
    missing = [n for n in type_map or () if n not in seen]
    if missing:
        text = f"no training frame has {', '.join(missing)}"
        fix = "leave it out of type_map, or add data"
        out.append(Finding("warning", "missing-element", text, len(missing), "model/type_map", fix))
    if valid is not None:
        types = np.unique(np.concatenate([f.types for f in valid.frames]))
        new = sorted({valid.names[t] for t in types} - seen)
        if new:
            text = f"validation data have {', '.join(new)}, training data have not"
            out.append(Finding("error", "untrained-element", text, len(new), "", "add data"))
    return out


def lines(report: Report) -> list[str]:
    """Return the report for a terminal."""
    facts = report.facts
    out = []
    if facts:
        low, high = facts["atoms"]
        out.append(
            f"{facts['frames']} frames of {low if low == high else f'{low} to {high}'} atoms"
            + (
                f", {facts['validation_frames']} for validation"
                if facts["validation_frames"]
                else ""
            )
        )
        out.append("atoms: " + ", ".join(f"{n} {c}" for n, c in facts["types"].items()))
        out.append(
            "labels: " + (", ".join(f"{n} in {c}" for n, c in facts["labels"].items()) or "none")
        )
        for name, slope in facts["slopes"].items():
            out.append(
                f"energy against work of the {name}: {slope['value']:.3f} ± {slope['error']:.3f} "
                f"({slope['pairs']} pairs; 1 is right)"
            )
        floor = facts["noise_floor"]
        if floor:
            units = {"energy": "eV", "force": "eV/Å"}
            shown = ", ".join(f"{n} at most {v:.2g} {units[n]}" for n, v in floor.items())
            out.append(f"noise: {shown}")
        out.append(
            f"neighbors within {facts['rcut']:g} Å: {facts['neighbors']}; sel {facts['sel']} would do"
        )
    out += [f.line() for f in report.findings]
    counts = [sum(f.level == level for f in report.findings) for level in ("error", "warning")]
    out.append(f"{counts[0]} errors, {counts[1]} warnings")
    return out
