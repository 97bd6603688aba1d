# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp select``: the most informative frames of a data set, for labeling."""

import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from deepmd.backend.detect import resolve_model
from deepmd.base.errors import DataError, InputError
from deepmd.base.files import write_text
from deepmd.data.frames import Frames, frames_of
from deepmd.data.search import open_systems
from deepmd.data.structure_file import parse_keys
from deepmd.data.system import System
from deepmd.data.writers import write_frames
from deepmd.dpmodel.label import parameter_labels
from deepmd.entrypoints.data import batches
from deepmd.entrypoints.uncertainty import systems_of
from deepmd.infer import DeepPot
from deepmd.infer.uncertainty import Estimator, farthest, frame_places

log = logging.getLogger(__name__)


class Scores(NamedTuple):
    """Frames of systems in the order of their reading.

    Attributes
    ----------
    places : (n_frames, n_features) [eV]
        See :func:`frame_places`.
    energy : (n_frames,) [eV]
        Standard deviation of the energy per atom.
    force : (n_frames,) [eV/Å]
        Largest standard deviation of the force on an atom.
    """

    places: np.ndarray
    energy: np.ndarray
    force: np.ndarray


def select(
    *,
    INPUT: Sequence[str],
    model: str = "frozen_model",
    output: str = "selected",
    number: int = 50,
    low: float = 0.0,
    high: float | None = None,
    train: Sequence[str] | None = None,
    kind: str | None = None,
    keys: Sequence[str] | None = None,
    backend: str | None = None,
    **_: Any,
) -> list[int]:
    """Write the chosen frames without labels, and a list of them; return their numbers.

    The options are those of the command.
    """
    top = np.inf if high is None else high
    if number < 1:
        raise InputError(f"{number} frames", where="--number", fix="give 1 or more")
    if not 0.0 <= low < top:
        raise InputError(f"{low} to {top}", where="--low", fix="give 0 <= LOW < HIGH")
    path = resolve_model(model, backend)
    potential = DeepPot(path)
    estimator = Estimator(potential)
    types = potential.get_type_map()
    systems = open_systems(list(INPUT), type_map=types, keys=parse_keys(keys))
    found = scores(estimator, systems)
    known = np.zeros((0, found.places.shape[1]))
    if train:
        training = systems_of(potential, train, "training_data", keys)
        known = scores(estimator, training, forces=False).places
    inside = np.flatnonzero((found.force >= low) & (found.force < top))
    log.info("%s", shares(found.force, low, top))
    if not len(inside):
        raise DataError(
            f"no frame has a force deviation from {low:g} to {top:g} eV/Å; "
            f"they reach from {found.force.min():.3g} to {found.force.max():.3g}",
            where="--low",
            fix="choose other limits",
        )
    start = int(np.argmax(found.energy[inside]))
    chosen = inside[farthest(found.places[inside], number, known, start)]
    frames = frames_of(systems, types, only=[la.name for la in parameter_labels(potential.model)])
    names = write_frames(frames.subset(chosen), output, kind)
    write_text(f"{output.rstrip('/')}.txt", listing(frames, found, chosen))
    several = f" in {len(names)} systems" if len(names) > 1 else ""
    log.info("wrote %d of %d frames to %s%s", len(chosen), len(frames.frames), output, several)
    return chosen.tolist()


def scores(estimator: Estimator, systems: Sequence[System], *, forces: bool = True) -> Scores:
    """Evaluate all frames of systems; without ``forces`` their deviations are zero."""
    labels = parameter_labels(estimator.potential.model)
    parts: list[tuple[np.ndarray, ...]] = []
    for system in systems:
        for batch in batches(system, np.arange(system.nframes), labels):
            out = estimator.evaluate_batch(batch, derivatives=("force",) if forces else ())
            largest = np.zeros(batch.n_frames)
            if forces:
                np.maximum.at(largest, batch.frame, np.linalg.norm(out["force_std"], axis=1))
            energy = out["energy_std"][:, 0] / batch.natoms
            parts.append((frame_places(estimator, batch), energy, largest))
    if not parts:
        raise DataError("no frame", where="INPUT")
    return Scores(*map(np.concatenate, zip(*parts, strict=True)))


def shares(force: np.ndarray, low: float, top: float) -> str:
    """Return how many frames are accurate, candidates and failed, as programs of active learning."""
    below, above = int((force < low).sum()), int((force >= top).sum())
    n = len(force)
    return (
        f"{n} frames: {below} below {low:g} eV/Å, {n - below - above} candidates, "
        f"{above} from {top:g} eV/Å on"
    )


def listing(frames: Frames, found: Scores, chosen: np.ndarray) -> str:
    """Return the text that names the chosen frames, in the order of the choice."""
    head = "# system  frame  energy_std/atom [eV]  max force_std [eV/Å]"
    rows = [
        f"{frames.frames[k].source} {frames.frames[k].number} "
        f"{found.energy[k]:.6e} {found.force[k]:.6e}"
        for k in chosen
    ]
    return "\n".join([head, *rows]) + "\n"
