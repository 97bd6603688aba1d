# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp test --uncertainty``: errors compared with the standard deviations that a file states."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepmd.base.errors import DataError, InputError
from deepmd.data.system import System
from deepmd.dpmodel.label import parameter_labels
from deepmd.entrypoints.data import batches
from deepmd.entrypoints.uncertainty import LABELS
from deepmd.infer import DeepEval, DeepPot
from deepmd.infer.uncertainty import Errors, Estimator, errors, labels_found, summary


class Trust:
    """Errors and standard deviations of all systems.

    Parameters
    ----------
    predictor : DeepEval
    path : path
        Of its file, for messages.
    """

    def __init__(self, predictor: DeepEval, path: str | os.PathLike[str]) -> None:
        if not isinstance(predictor, DeepPot):
            raise InputError("has no energies", where=path, fix="leave out --uncertainty")
        self.estimator, self.path = Estimator(predictor), path
        cheap = self.estimator.uncertainty.atoms is not None
        self.of_atoms = Estimator(predictor, forces="atoms") if cheap else None
        self._parts: list[tuple[Errors, Errors]] = []
        self._of_atoms: list[tuple[Errors, np.ndarray]] = []

    def add(self, system: System, frames: np.ndarray) -> None:
        """Evaluate frames of a system; those without energies and forces are passed over."""
        labels = [*LABELS, *parameter_labels(self.estimator.potential.model)]
        for batch in batches(system, frames, labels):
            if labels_found(batch):
                out = self.estimator.evaluate_batch(batch, derivatives=("force",))
                deviation = {k: out[f"{k}_std"] for k in ("energy", "force")}
                self._parts.append(errors(batch, out, deviation))
                if self.of_atoms is not None:
                    cheap = self.of_atoms.evaluate_batch(batch, derivatives=("force",))
                    deviation["force"] = cheap["force_std"]
                    self._of_atoms.append(
                        (errors(batch, out, deviation)[1], np.repeat(batch.atype, 3))
                    )

    def summary(self) -> dict[str, Any]:
        """Return mean deviations, their ratio to the errors, and coverages, by quantity."""
        if not self._parts:
            raise DataError(
                "no system has energies and forces", where="--uncertainty", fix="leave it out"
            )
        energy, force = (Errors.joined(side) for side in zip(*self._parts, strict=True))
        known = self.estimator.uncertainty
        found = {"energy": summary(energy, known.energy), "force": summary(force, known.force)}
        if known.atoms is None:
            return found
        each, atype = zip(*self._of_atoms, strict=True)
        cheap, types = Errors.joined(each), np.concatenate(atype)
        for t, name in enumerate(self.estimator.potential.get_type_map()):
            mine = Errors(*(value[types == t] for value in cheap))
            if len(mine.error):
                found[f"force_atoms_{name}"] = summary(mine, known.atoms.elements[t])
        return found

    def lines(self) -> Iterator[str]:
        """Lines of the report."""
        yield "# ----------uncertainty: errors against their standard deviations-----------"
        for name, found in self.summary().items():
            unit = "eV" if name == "energy" else "eV/Å"
            if name.startswith("force_atoms_"):
                name = f"force on {name.removeprefix('force_atoms_')}, from its atom alone"
            yield (
                f"# {name}: mean deviation {found['std']:.3e} {unit}, "
                f"RMS of error/deviation {found['rms_ratio']:.3f} (1 is right)"
            )
            inside = [
                f"{100 * float(c):g} %: {100 * v:.1f} %" for c, v in found["coverage"].items()
            ]
            if inside:
                yield f"#   errors inside of the intervals of {', '.join(inside)}"
