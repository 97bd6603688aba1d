# SPDX-License-Identifier: LGPL-3.0-or-later
"""The ASE calculator."""

import copy
import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes, all_properties
from ase.outputs import Properties

from deepmd.base.errors import InputError
from deepmd.dpmodel.neighbors import Overflow
from deepmd.infer import DeepPot
from deepmd.infer.frames import PARAMETERS, numbered
from deepmd.infer.uncertainty import Estimator

log = logging.getLogger(__name__)

#: Inputs of the model that are taken from ``atoms.info``. Spins are magnetic moments of the atoms.
_IN_INFO = tuple(name for name in PARAMETERS if name != "spin")


class DP(Calculator):
    """Energies, forces and stress of ASE atoms.

    Periodicity may differ between directions. Directions without it have no images, whatever the
    cell says. ``atoms.info["fparam"]``, ``["aparam"]`` and ``["charge_spin"]`` are inputs of the
    model; the spins of a model with spins are the initial magnetic moments (n_atoms, 3) of the
    atoms. A change of any of them leads to a new calculation.

    Parameters
    ----------
    model : str or path
        Model file or training checkpoint.
    label : str
        Name of the calculation.
    type_dict : dict of str to int, optional
        Type of every element; taken from the model if not given.
    neighbor_list : ase.neighborlist.NeighborList, optional
        Finds the pairs instead of the built-in search.
    head : str, optional
        Branch of a checkpoint with several.
    uncertainty : bool or sequence of paths
        Evaluate standard deviations, too, as the file has them; paths name the other models of a
        committee, whose means are then the results.
    uncertainty_forces : str
        ``atoms``, which costs next to nothing, or ``draws``, which costs 16 backward passes and has
        stresses, too; see :class:`deepmd.infer.uncertainty.Estimator`. By default ``atoms`` where
        the file has them.
    **kwargs
        For :class:`ase.calculators.calculator.Calculator`.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from deepmd.calculator import DP
    >>> water = molecule("H2O", calculator=DP("model.dp"))
    >>> water.get_potential_energy()

    Notes
    -----
    ``energies`` and ``stresses`` are those of atoms, whose sums are ``energy`` and ``stress``;
    stresses are evaluated when they are asked for, by ``atoms.get_stresses()``.
    ``results["virial"]`` (3, 3) [eV] is minus the derivative of the energy with respect to strain;
    it is no property ASE knows and is left out of what ASE exports. So is ``results["force_mag"]``
    (n_atoms, 3), minus the derivative of the energy with respect to the spins. With
    ``uncertainty`` there are ``energy_std`` [eV], ``energies_std`` (n_atoms,), ``forces_std``
    (n_atoms, 3) [eV/Å] and, in periodic cells and with ``draws``, ``stress_std`` (6,) [eV/Å³].
    """

    name = "DP"
    implemented_properties = [
        *("energy", "free_energy", "energies", "forces", "virial", "stress", "stresses"),
    ]

    def __init__(
        self,
        model: str | os.PathLike[str],
        label: str = "DP",
        type_dict: Mapping[str, int] | None = None,
        neighbor_list: Any = None,
        head: str | None = None,
        uncertainty: bool | Sequence[str | os.PathLike[str]] = False,
        uncertainty_forces: str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("nlist_backend", None)
        super().__init__(label=label, **kwargs)
        self.dp = DeepPot(model, neighbor_list=neighbor_list, head=head)
        self._estimator: Estimator | None = None
        if uncertainty:
            others = () if uncertainty is True else uncertainty
            rest = [DeepPot(path, neighbor_list=neighbor_list, head=head) for path in others]
            self._estimator = Estimator(self.dp, rest, forces=uncertainty_forces or "draws")
            if uncertainty_forces is None and self._estimator.uncertainty.atoms is not None:
                self._estimator = Estimator(self.dp, rest, forces="atoms")
        names = self.dp.get_type_map()
        self.type_dict = dict(type_dict or {n: k for k, n in enumerate(names)})
        self._parameters_used: dict[str, Any] = {}
        # The end of a simulation is the end of its calculator.
        weakref.finalize(self, _report, self.dp.evaluator.overflow)

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last calculation, parameters in ``info`` included."""
        changes = super().check_state(atoms, tol=tol)
        used: Any = self._parameters_used
        now: Any = atoms.info
        changes += [n for n in _IN_INFO if not np.array_equal(used.get(n), now.get(n))]
        return changes

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy", "forces", "virial"),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        """Calculate all properties; called by ASE."""
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        if atoms is None:
            raise InputError("no atoms were given", where="calculator DP")
        given = {k: atoms.info.get(k) for k in _IN_INFO}
        self._parameters_used = copy.deepcopy(given)
        if self.dp.has_spin:
            given["spin"] = spins(atoms)
        cell = periodic_cell(np.asarray(atoms.cell), atoms.pbc, atoms.positions, self.dp.get_rcut())
        types = numbered(
            atoms.get_chemical_symbols(),
            self.type_dict,
            where="calculator DP",
            fix="use a model that knows it, or give type_dict",
        )
        source = self.dp if self._estimator is None else self._estimator
        wanted = ("force", "virial", *(["atom_virial"] if "stresses" in properties else []))
        out = source.evaluate(atoms.positions[None], cell, types, derivatives=wanted, **given)
        virial = out["virial"][0].reshape(3, 3)
        self.results["energy"] = self.results["free_energy"] = out["energy"][0, 0]
        self.results["energies"] = out["atom_energy"][0, :, 0]
        self.results["forces"] = out["force"][0]
        self.results["virial"] = virial
        if self.dp.has_spin:
            self.results["force_mag"] = out["force_mag"][0]
        if atoms.pbc.any() and atoms.cell.rank == 3:
            self.results["stress"] = voigt(virial, atoms)
            if "atom_virial" in out:
                self.results["stresses"] = voigt(out["atom_virial"][0].reshape(-1, 3, 3), atoms)
        if self._estimator is not None:
            self.results |= deviations(out, atoms)

    def export_properties(self) -> Properties:
        """Return the results that ASE knows."""
        return Properties({k: v for k, v in self.results.items() if k in all_properties})


def voigt(virial: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Return the stress (…, 6) [eV/Å³] of virials (…, 3, 3) [eV], in the order of ASE."""
    stress = -0.5 * (virial + virial.swapaxes(-1, -2)) / atoms.get_volume()
    return stress.reshape(*virial.shape[:-2], 9)[..., [0, 4, 8, 5, 2, 1]]


def deviations(out: Mapping[str, np.ndarray], atoms: Atoms) -> dict[str, Any]:
    """Return the standard deviations in the results of an estimate, under the names of ASE."""
    found = {
        "energy_std": float(out["energy_std"][0, 0]),
        "energies_std": out["atom_energy_std"][0, :, 0],
        "forces_std": out["force_std"][0],
    }
    if "virial_std" in out and atoms.pbc.any() and atoms.cell.rank == 3:
        found["stress_std"] = out["virial_std"][0, [0, 4, 8, 5, 2, 1]] / atoms.get_volume()
    return found


def spins(atoms: Atoms) -> np.ndarray:
    """Return the spins of atoms, (n_atoms, 3): their initial magnetic moments.

    Raises
    ------
    InputError
        If there are none, or if they have no direction.
    """
    fix = "atoms.set_initial_magnetic_moments with three numbers per atom, zero for no spin"
    if not atoms.has("initial_magmoms"):
        raise InputError("the model needs spins, the atoms have none", where="magmoms", fix=fix)
    moments = atoms.get_initial_magnetic_moments()
    if moments.ndim != 2:
        raise InputError("the model needs directions of the spins", where="magmoms", fix=fix)
    return moments


def periodic_cell(
    cell: np.ndarray, pbc: Sequence[bool], positions: np.ndarray, rcut: float
) -> np.ndarray | None:
    """Return a cell (3, 3) [Å] that is periodic in all directions and gives the same neighbors.

    The vectors of open directions are put at right angles to all others, and made so long that no
    image is near. None if every direction is open.
    """
    periodic = np.asarray(pbc, dtype=bool)
    if not periodic.any():
        return None
    if periodic.all():
        return cell
    kept = cell[periodic]
    # The last right singular vectors are orthonormal and at right angles to the kept ones.
    normals = np.linalg.svd(kept)[2][len(kept) :]
    new = np.array(cell, dtype=np.float64)
    for k, normal in zip(np.flatnonzero(~periodic), normals, strict=True):
        height = positions @ normal
        extent = float(np.ptp(height)) if len(height) else 0.0
        new[k] = normal * (extent + 2.0 * rcut + 1.0)
    return new


def _report(overflow: Overflow) -> None:
    """Say how often atoms had more neighbors than the model looks at."""
    if overflow.centers:
        log.warning(
            "in all, %d times an atom had more neighbors than sel; the farthest were left out",
            overflow.centers,
        )
