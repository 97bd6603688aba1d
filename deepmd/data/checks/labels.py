# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checks of labels: offsets of energies, outliers, net forces, noise."""

import numpy as np

from deepmd.data.checks.finding import Finding
from deepmd.data.checks.work import Works
from deepmd.data.frames import Frame, Frames

#: Force that no useful frame has [eV/Å]; how many times the spread an outlier is away.
_LARGEST_FORCE, _FAR = 100.0, 12.0
#: Offsets of compositions from the fit by elements that are suspicious [eV/atom].
_OFFSET = 1.0
#: Net force per atom that is noise or a missing part [eV/Å].
_NET_FORCE = 0.02
#: Sizes of virials by volume that no solid has [eV/Å³]: 1 is 160 GPa.
_LARGEST_STRESS = 5.0


def check_labels(frames: Frames) -> list[Finding]:
    """Return findings about labels that are there."""
    out = _check_forces([f for f in frames.frames if "force" in f.labels])
    with_energy = [f for f in frames.frames if "energy" in f.labels]
    out += _check_energies(frames, with_energy)
    return out + _check_virials([f for f in frames.frames if "virial" in f.labels])


def _check_forces(frames: list[Frame]) -> list[Finding]:
    if not frames:
        return []
    forces = [f.labels["force"].reshape(-1, 3) for f in frames]
    largest = np.array([np.linalg.norm(f, axis=1).max() for f in forces])
    spread = float(np.sqrt(np.mean(np.concatenate([np.square(f).sum(axis=1) for f in forces]))))
    typical = float(np.sqrt(np.median(np.concatenate([np.square(f).sum(axis=1) for f in forces]))))
    out = []
    worst = int(np.argmax(largest))
    where = f"{frames[worst].source}: frame {frames[worst].number}"
    if spread == 0.0:
        out.append(
            Finding("error", "zero-forces", "all forces are zero", 0.0, where, "declare keys")
        )
    elif largest[worst] > max(_LARGEST_FORCE, 30.0 * typical):
        count = int((largest > max(_LARGEST_FORCE, 30.0 * typical)).sum())
        text = f"{count} frames have forces up to {largest[worst]:.1f} eV/Å, the median is {typical:.2f}"
        out.append(
            Finding("warning", "force-outliers", text, float(largest[worst]), where, "remove them")
        )
    net = np.array([np.linalg.norm(f.sum(axis=0)) / np.sqrt(len(f)) for f in forces])
    if np.median(net) > max(_NET_FORCE, 0.02 * spread) and spread > 0.0:
        text = f"forces of a frame add up to {np.median(net):.3g} eV/Å times √atoms (median), not to zero"
        fix = "an external field, fixed atoms, or labels that are not converged"
        out.append(Finding("warning", "net-force", text, float(np.median(net)), "", fix))
    return out


def _check_energies(frames: Frames, chosen: list[Frame]) -> list[Finding]:
    if len(chosen) < 2:
        return []
    counts = np.stack([np.bincount(f.types, minlength=len(frames.names)) for f in chosen]).astype(
        float
    )
    energy = np.array([f.labels["energy"][0] for f in chosen])
    natoms = counts.sum(axis=1)
    out = []
    if np.ptp(energy / natoms) == 0.0:
        out.append(Finding("error", "constant-energy", f"all energies are {energy[0]:g} eV", 0.0))
        return out
    # every composition counts once, or the largest would decide
    kinds, member = np.unique(counts, axis=0, return_inverse=True)
    member = member.reshape(-1)
    mean = np.array([np.median(energy[member == k]) for k in range(len(kinds))])
    rank = int(np.linalg.matrix_rank(kinds))
    spread = np.array([_spread((energy / natoms)[member == k]) for k in range(len(kinds))])
    if len(kinds) > rank:
        out += _offsets(
            frames,
            kinds,
            mean,
            spread,
            [chosen[int(np.argmax(member == k))] for k in range(len(kinds))],
        )
    for k in range(len(kinds)):
        part = np.flatnonzero(member == k)
        away = np.abs(energy[part] - mean[k]) / natoms[part]
        worst = int(np.argmax(away))
        if len(part) >= 8 and away[worst] > _FAR * max(spread[k], 1e-4):
            frame = chosen[int(part[worst])]
            text = (
                f"the energy is {away[worst]:.3g} eV/atom from the median of its composition, "
                f"{away[worst] / max(spread[k], 1e-12):.0f} times the usual"
            )
            where = f"{frame.source}: frame {frame.number}"
            out.append(
                Finding("warning", "energy-outlier", text, float(away[worst]), where, "check it")
            )
    return out


def _spread(values: np.ndarray) -> float:
    """Standard deviation by the median of absolute deviations."""
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _offsets(
    frames: Frames, kinds: np.ndarray, mean: np.ndarray, spread: np.ndarray, first: list[Frame]
) -> list[Finding]:
    """Compositions whose energies do not lie on a sum over elements; robust against some of them."""
    natoms = kinds.sum(axis=1)
    weight = np.ones(len(kinds))
    for _ in range(20):  # absolute deviations
        scaled = weight[:, None] / natoms[:, None]
        bias, *_ = np.linalg.lstsq(kinds * scaled, mean * scaled[:, 0], rcond=None)
        rest = (mean - kinds @ bias) / natoms
        weight = 1.0 / np.sqrt(np.maximum(np.abs(rest), 1e-3))
    worst = int(np.argmax(np.abs(rest)))
    usual = max(_spread(rest), float(np.median(spread)))
    if abs(rest[worst]) <= max(_OFFSET, 6.0 * usual):
        return []
    frame = first[worst]
    text = (
        f"energies of {frames.formula(frame)} lie {rest[worst]:+.3g} eV/atom off the sum over elements "
        f"that fits the other compositions ({usual:.2g} is usual)"
    )
    fix = "another pseudopotential, functional or reference energy?"
    return [Finding("warning", "energy-offset", text, float(rest[worst]), frame.source, fix)]


def _check_virials(frames: list[Frame]) -> list[Finding]:
    sizes = [
        float(np.abs(f.labels["virial"]).max() / abs(np.linalg.det(f.cell)))
        for f in frames
        if f.cell is not None
    ]
    if sizes and np.median(sizes) > _LARGEST_STRESS:
        text = f"virials are {np.median(sizes):.3g} eV/Å³ times the volume (median), far beyond any solid"
        fix = "the virial is in eV: minus volume times stress in eV/Å³ (1 GPa is 1/160.2 of it)"
        return [
            Finding("error", "virial-size", text, float(np.median(sizes)), frames[0].source, fix)
        ]
    return []


def noise_floor(frames: Frames, found: Works) -> dict[str, float]:
    """Return errors below which no model can come, as far as the labels show them.

    Returns
    -------
    dict
        ``energy`` [eV], an upper bound from what forces do not explain between the nearest frames;
        ``force`` [eV/Å], root mean square of the net force per atom; only what is known.
    """
    out = {}
    residual = found.residual() if len(found.energy) else np.nan
    if np.isfinite(residual):
        out["energy"] = residual / np.sqrt(2.0)
    forces = [f.labels["force"].reshape(-1, 3) for f in frames.frames if "force" in f.labels]
    if forces:
        out["force"] = float(
            np.sqrt(np.mean([np.square(f.sum(axis=0)).mean() / len(f) for f in forces]))
        )
    return out
