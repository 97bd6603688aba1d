# SPDX-License-Identifier: LGPL-3.0-or-later
r"""Units and signs from energy differences of near frames.

Between two frames that are close, the energy changes by the work of the mean force and virial,

.. math:: \Delta E = -\tfrac12 (F_1 + F_2) \cdot \Delta r - \tfrac12 (W_1 + W_2) : \varepsilon ,

to third order in the displacements, where :math:`\varepsilon` is the strain of the cell and
:math:`\Delta r` what is left of the displacements. Where no virials are known, the energy of the strain is
fitted, too: a constant virial per atom and the two constants of an isotropic solid. The slope of one side against the other is 1 where
the units are eV, Å and eV/Å; any other number names the mistake.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from deepmd.data.checks.finding import Finding
from deepmd.data.frames import Frame, Frames

#: Frames of one kind that are compared with each other.
_MOST = 200
#: Others that a frame is compared with.
_NEAREST = 3
#: Largest mean displacement of an atom [Å] and strain of two frames that are near.
_FARTHEST, _LARGEST_STRAIN = 0.6, 0.15
#: Smallest multiple correlation, fewest pairs, largest relative error of a slope that is believed, and
#: how far from the number of its story it may be (a factor): displacements are not infinitesimal.
_CORRELATION, _FEWEST, _UNCERTAIN, _FACTOR = 0.8, 4, 0.3, 1.37
#: At this median distance [Å] of frames third orders may change a slope by this factor, at smaller
#: ones less, by the square of the distance: one that near 1 tells nothing then.
_NEAR, _ANHARMONIC = 0.25, 3.0
#: Slopes that tell a story.
STORIES = {
    1.0: "",
    -1.0: "forces have the wrong sign (gradients in place of forces?)",
    23.0605: "energies are kcal/mol where forces are eV/Å",
    1 / 23.0605: "forces are kcal/mol/Å where energies are eV",
    51.4221: "forces are Hartree/Bohr where energies are eV",
    1 / 51.4221: "energies are eV where forces are 51 times too large",
    27.2114: "forces are Hartree/Å where energies are eV",
    1 / 27.2114: "energies are Hartree where forces are eV/Å",
    1.88973: "forces are per Bohr where positions are Å",
    0.529177: "positions are Bohr where forces are per Å",
    96.4853: "energies are kJ/mol where forces are eV/Å",
    1 / 96.4853: "forces are kJ/mol/Å where energies are eV",
    1000.0: "energies are meV where forces are eV/Å",
    0.001: "forces are meV/Å where energies are eV",
}
_VIRIAL_STORIES = {
    1.0: "",
    -1.0: "the virial has the wrong sign (stress times volume in place of minus that)",
    160.21766: "the virial is too small by 160.2 (GPa taken for eV/Å³?)",
    1 / 160.21766: "the virial is too large by 160.2 (GPa in place of eV)",
    -1 / 160.21766: "the virial is too large by 160.2 and has the wrong sign",
    1 / 1602.1766: "the virial is too large by 1602 (kbar in place of eV)",
    -1 / 1602.1766: "the virial is too large by 1602 and has the wrong sign (kbar in place of eV)",
}


@dataclasses.dataclass(frozen=True)
class Slope:
    """Coefficient of a fit.

    Attributes
    ----------
    value, error : float
        With its standard error.
    correlation : float
        Of the whole fit.
    pairs : int
    """

    value: float
    error: float
    correlation: float
    pairs: int

    @property
    def believed(self) -> bool:
        """Whether it says something about the units."""
        sure = self.error <= _UNCERTAIN * abs(self.value)
        return self.pairs >= _FEWEST and self.correlation >= _CORRELATION and sure


@dataclasses.dataclass
class Works:
    """Energy differences of near frames and the work between them, [eV]: (n_pairs,) each.

    Attributes
    ----------
    energy, force, virial : (n_pairs,)
        The virial is NaN where it is not known and the cells differ.
    displacement : (n_pairs,)
        Length of the displacement of all atoms [Å].
    strain : (n_pairs,)
        Largest element.
    natoms : (n_pairs,)
    elastic : (n_pairs, 8)
        Differences of the terms that the energy of a strained solid is a sum of.
    """

    energy: np.ndarray
    force: np.ndarray
    virial: np.ndarray
    displacement: np.ndarray
    strain: np.ndarray
    natoms: np.ndarray
    elastic: np.ndarray

    def slopes(self) -> tuple[Slope | None, Slope | None]:
        """Slopes of the energy against the work of forces and of virials; None if not known."""
        known = np.isfinite(self.virial)
        if known.sum() < _FEWEST:
            return self._without_virial(), None
        columns = [self.force[known]]
        strained = known & (self.strain > 1e-4)
        if strained.sum() >= 2:
            columns.append(self.virial[known])
        fits = _fit(self.energy[known], columns, self._sizes()[known])
        return fits[0], fits[1]

    def _sizes(self) -> np.ndarray:
        """Distances of the pairs; errors are of third order in them, so that near pairs count more."""
        return np.hypot(self.displacement, 3.0 * self.strain * np.sqrt(self.natoms))

    def _without_virial(self) -> Slope | None:
        """Slope against the work of forces beside a fitted energy of the strain."""
        terms = [column for column in self.elastic.T if np.abs(column).max(initial=0.0) > 1e-12]
        if len(self.energy) < 2 * (len(terms) + 1):
            return None
        return _fit(self.energy, [self.force, *terms], self._sizes())[0]

    def factor(self) -> float:
        """Factor by which the distances of the frames may change a slope."""
        sizes = np.hypot(self.displacement / np.sqrt(self.natoms), 3.0 * self.strain)
        return float(_ANHARMONIC ** (min(1.0, float(np.median(sizes)) / _NEAR) ** 2))

    def allows(self, slope: float) -> bool:
        """Whether a slope may be 1 but for the distances of the frames."""
        return slope > 0 and abs(np.log(slope)) < np.log(self.factor())

    def residual(self) -> float:
        """Root mean square [eV] of what the work does not explain, of the nearest fifth of pairs."""
        rest = self.energy - self.force - self.virial
        near = np.argsort(np.where(np.isfinite(rest), self.displacement, np.inf))
        rest = rest[near[: max(2, len(near) // 5)]]
        rest = rest[np.isfinite(rest)]
        return float(np.sqrt(np.mean(np.square(rest)))) if len(rest) else np.nan


def _fit(y: np.ndarray, columns: list[np.ndarray], size: np.ndarray) -> list[Slope | None]:
    """Fit ``y`` by columns, without a constant."""
    none: list[Slope | None] = [None, None]
    if len(y) < len(columns) + 2 or not np.square(y).sum() > 0:
        return none
    weight = 1.0 / np.maximum(size, 1e-2 * size.max()) ** 2
    x = np.stack(columns, axis=1) * weight[:, None]
    y = y * weight
    scale = np.sqrt(np.square(x).sum(axis=0))
    if not (scale > 0).all():
        return none
    value, *_ = np.linalg.lstsq(x / scale, y, rcond=None)
    rest = y - x / scale @ value
    correlation = np.sqrt(max(0.0, 1.0 - np.square(rest).sum() / np.square(y).sum()))
    variance = np.square(rest).sum() / (len(y) - len(columns))
    errors = np.sqrt(np.diag(np.linalg.pinv((x / scale).T @ (x / scale))) * variance)
    found = [
        Slope(float(v / s), float(e / s), float(correlation), len(y))
        for v, e, s in zip(value, errors, scale, strict=True)
    ]
    return [*found, None][:2]


def works(groups: Iterable[list[Frame]]) -> Works:
    """Compare near frames; every group has the same atoms in the same order."""
    rows = [row for frames in groups for row in _works_of(frames[:_MOST])]
    table = np.array(rows, dtype=np.float64).reshape(-1, 14).T
    energy, force, virial, displacement, strain, natoms = table[:6]
    return Works(energy, force, virial, displacement, strain, natoms, table[6:].T)


def _works_of(frames: list[Frame]) -> Iterator[tuple[float, ...]]:
    frames = [f for f in frames if "energy" in f.labels and "force" in f.labels]
    if len(frames) < 2:
        return
    coord = np.stack([f.coord for f in frames])
    force = np.stack([f.labels["force"].reshape(-1, 3) for f in frames])
    cells = None if frames[0].cell is None else np.stack([np.asarray(f.cell) for f in frames])
    natoms, done = coord.shape[1], set()
    elastic = _elastic_terms(cells, len(frames)) * natoms
    for k in range(len(frames)):
        step, strain = _displacements(coord, cells, k)
        size = np.sqrt(np.square(step).mean(axis=(1, 2)) * 3.0)
        stretch = np.abs(strain).max(axis=(1, 2))
        distance = np.where((size < 1e-9) & (stretch < 1e-9), np.inf, size + 3.0 * stretch)
        distance[k] = np.inf
        for other in np.argsort(distance)[:_NEAREST].tolist():
            pair = (min(k, other), max(k, other))
            far = size[other] > _FARTHEST or stretch[other] > _LARGEST_STRAIN
            if not np.isfinite(distance[other]) or far or pair in done:
                continue
            done.add(pair)
            mean = 0.5 * (force[k] + force[other])
            yield (
                float(frames[other].labels["energy"][0] - frames[k].labels["energy"][0]),
                -float((mean * step[other]).sum()),
                _work_of_strain(frames[k], frames[other], strain[other]),
                float(size[other]) * np.sqrt(natoms),
                float(stretch[other]),
                float(natoms),
                *(elastic[other] - elastic[k]).tolist(),
            )


def _elastic_terms(cells: np.ndarray | None, nframes: int) -> np.ndarray:
    """Elements of the strain (F, 6) from the mean cell, the square of its trace and its own square."""
    if cells is None:
        return np.zeros((nframes, 8))
    strain = np.linalg.inv(cells.mean(axis=0)) @ cells - np.eye(3)
    strain = 0.5 * (strain + strain.transpose(0, 2, 1))
    trace = np.trace(strain, axis1=1, axis2=2)
    squares = np.stack([trace**2, np.square(strain).sum(axis=(1, 2))], axis=1)
    return np.concatenate([strain[:, *np.triu_indices(3)], squares], axis=1)


def _work_of_strain(one: Frame, two: Frame, strain: np.ndarray) -> float:
    """Energy [eV] of a small strain (3, 3) by the mean virial; NaN where it is not known."""
    if np.abs(strain).max() < 1e-9:
        return 0.0
    virials = [f.labels.get("virial") for f in (one, two)]
    if virials[0] is None or virials[1] is None:
        return np.nan
    return -0.5 * float((virials[0] + virials[1]) @ strain.reshape(-1))


def _displacements(
    coord: np.ndarray, cells: np.ndarray | None, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements (F, N, 3) [Å] from frame ``k`` to all, without the strain (F, 3, 3) of the cell."""
    if cells is None:
        return coord - coord[k], np.zeros((len(coord), 3, 3))
    inverse = np.linalg.inv(cells)
    fractional = np.einsum("fna,fab->fnb", coord, inverse)
    step = fractional - fractional[k]
    step -= np.round(step)
    # rows are cell vectors: h' = h (1 + e); the symmetric part is the strain
    strain = np.einsum("ab,fbc->fac", inverse[k], cells) - np.eye(3)
    middle = 0.5 * (cells + cells[k])
    return np.einsum("fna,fab->fnb", step, middle), 0.5 * (strain + strain.transpose(0, 2, 1))


def groups_of(frames: Frames) -> list[list[Frame]]:
    """Return the frames with the same atoms in the same order and the same labels."""
    return [g.frames for g in frames.systems(mixed=False).values()]


def story(slope: float, stories: dict[float, str], factor: float = _FACTOR) -> str | None:
    """Return what a slope tells; empty where it is right, None where it tells nothing known.

    It may be off the number of its story by a factor.
    """
    fitting = [value for value in stories if slope * value > 0]
    if not fitting:
        return None
    nearest = min(fitting, key=lambda value: abs(np.log(slope / value)))
    return stories[nearest] if abs(np.log(slope / nearest)) <= np.log(factor) else None


def check_units(found: Works, where: str = "") -> list[Finding]:
    """Return what the slopes say about the units."""
    force, virial = found.slopes()
    if force is None or not force.believed:
        text = "no near frames: units of energy and force cannot be compared"
        number = 0.0 if force is None else force.correlation
        return [Finding("note", "units-unknown", text, number, where)]
    factor = max(_FACTOR, found.factor())
    wrong = story(force.value, STORIES, factor)
    if wrong != "" and not found.allows(force.value):
        fix = "convert to eV, Å and eV/Å"
        return [_wrong("units", force, "forces", wrong, where, fix)]
    if virial is not None and virial.believed:
        wrong = story(virial.value, _VIRIAL_STORIES, factor)
        if wrong != "" and not found.allows(virial.value):
            fix = "the virial is minus volume times stress, in eV"
            return [_wrong("virial", virial, "virial", wrong, where, fix)]
    return []


def check_groups(groups: Iterable[list[Frame]]) -> tuple[list[Finding], Works]:
    """Return what the slopes of every group say, and the work between all near frames.

    Systems of other units may stand beside good ones, so that each is looked at by itself; where none
    has enough near frames, all are taken together.
    """
    parts = [(frames[0].source, works([frames])) for frames in groups]
    whole = Works(*(np.concatenate(p) for p in zip(*(_arrays(w) for _, w in parts), strict=True)))
    told = [(source, check_units(found, source)) for source, found in parts]
    sure = [(source, f) for source, f in told if not any(x.code == "units-unknown" for x in f)]
    if not sure:
        return check_units(whole), whole
    out: dict[tuple[str, str | None], list[Finding]] = {}
    for finding in (f for _, found in sure for f in found):
        key = finding.code, finding.text.partition("expected 1")[2]
        out.setdefault(key, []).append(finding)
    several = [dataclasses.replace(f[0], where=_and_more(f)) for f in out.values()]
    return several, whole


def _arrays(found: Works) -> list[np.ndarray]:
    return [getattr(found, field.name) for field in dataclasses.fields(found)]


def _and_more(found: list[Finding]) -> str:
    sources = list(dict.fromkeys(f.where for f in found))
    return sources[0] + (f" and {len(sources) - 1} more" if len(sources) > 1 else "")


def _wrong(code: str, slope: Slope, of: str, told: str | None, where: str, fix: str) -> Finding:
    text = (
        f"energies change by {slope.value:.4g} times the work of the {of} ({slope.pairs} pairs of "
        "near frames), expected 1"
    )
    level = "error" if told else "warning"
    return Finding(level, code, f"{text}: {told}" if told else text, slope.value, where, fix)
