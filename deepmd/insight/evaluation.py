# SPDX-License-Identifier: LGPL-3.0-or-later
"""A model against the data of its training: labels and predictions frame by frame."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deepmd.data.system import System
from deepmd.dpmodel.label import Label, parameter_labels
from deepmd.infer import DeepEval

ENERGY, FORCE, VIRIAL = (
    Label("energy", 1, False, high_precision=True),
    Label("force", 3, True),
    Label("virial", 9, False),
)


@dataclasses.dataclass
class Compared:
    """One frame.

    Attributes
    ----------
    system, kind : str
        Path; ``training`` or ``validation``.
    number : int
    types : (n_atoms,)
    coord : (n_atoms, 3) [Å]
    cell : (3, 3) [Å] or None
    energy, force, virial : (label, prediction) or None
        Per atom [eV], (n_atoms, 3) [eV/Å], per atom (9,) [eV].
    """

    system: str
    kind: str
    number: int
    types: np.ndarray
    coord: np.ndarray
    cell: np.ndarray | None
    energy: tuple[float, float] | None = None
    force: tuple[np.ndarray, np.ndarray] | None = None
    virial: tuple[np.ndarray, np.ndarray] | None = None

    def force_error(self) -> float:
        """Root mean square error of the force components [eV/Å], NaN without labels."""
        if self.force is None:
            return np.nan
        return float(np.sqrt(np.mean(np.square(self.force[1] - self.force[0]))))

    def energy_error(self) -> float:
        """Error of the energy per atom [eV], NaN without label."""
        return np.nan if self.energy is None else self.energy[1] - self.energy[0]


def compare(
    model: Path, systems: Sequence[System], kind: str, most: int = 200, head: str | None = None
) -> list[Compared]:
    """Evaluate frames of systems, spread evenly, at most so many in all; by a branch, ``head``."""
    predictor = DeepEval(str(model), head=head)
    labels = [ENERGY, FORCE, VIRIAL, *parameter_labels(predictor.model)]
    total = sum(s.nframes for s in systems)
    out: list[Compared] = []
    for system in systems:
        count = max(1, min(system.nframes, round(most * system.nframes / max(total, 1))))
        numbers = np.unique(np.linspace(0, system.nframes - 1, count).round().astype(np.int64))
        step = max(1, 2000 // max(system.natoms, 1))
        for start in range(0, len(numbers), step):
            out += _compare(predictor, system, kind, numbers[start : start + step], labels)
    return out


def _compare(
    predictor: DeepEval, system: System, kind: str, numbers: np.ndarray, labels: Sequence[Label]
) -> list[Compared]:
    batch = system.load(numbers, labels)
    found = {name for name in ("energy", "force", "virial") if batch.find[name]}
    if not batch.periodic.all():
        found.discard("virial")
    result = predictor.evaluate_batch(batch, derivatives=sorted(found & {"force", "virial"}))
    ends = batch.offsets()
    out = []
    for k, number in enumerate(numbers):
        atoms = slice(ends[k], ends[k + 1])
        n = int(ends[k + 1] - ends[k])
        cell = batch.cell[k] if batch.periodic[k] else None
        one = Compared(system.path, kind, int(number), batch.atype[atoms], batch.coord[atoms], cell)
        if "energy" in found:
            pred = float(np.ravel(result["energy"][k])[0])
            one.energy = float(batch.labels["energy"][k, 0]) / n, pred / n
        if "force" in found:
            one.force = batch.labels["force"][atoms], result["force"][atoms].reshape(n, 3)
        if "virial" in found:
            one.virial = batch.labels["virial"][k] / n, result["virial"][k].reshape(9) / n
        out.append(one)
    return out


def rmse(frames: Sequence[Compared], what: str) -> float:
    """Root mean square error of ``energy`` (per atom), ``force`` or ``virial`` (per atom)."""
    errors = [
        np.ravel(np.asarray(pair[1]) - np.asarray(pair[0]))
        for f in frames
        if (pair := getattr(f, what)) is not None
    ]
    return float(np.sqrt(np.mean(np.square(np.concatenate(errors))))) if errors else np.nan
