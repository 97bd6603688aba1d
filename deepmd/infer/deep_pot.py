# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies, forces and virials."""

from typing import Any

import numpy as np

from deepmd.infer.deep_eval import DeepEval
from deepmd.infer.frames import make_frames
from deepmd.infer.unfolded import unfolded_virials


class DeepPot(DeepEval):
    """A potential energy surface; the arguments of the constructor are those of :class:`DeepEval`.

    :meth:`eval` returns

    energy : (n_frames, 1) [eV]
    force : (n_frames, n_atoms, 3) [eV/Å]
    virial : (n_frames, 9) [eV]
        Minus the derivative of the energy with respect to strain, row by row.
    atom_energy : (n_frames, n_atoms, 1) [eV], with ``atomic``
    atom_virial : (n_frames, n_atoms, 9) [eV], with ``atomic``
    force_mag : (n_frames, n_atoms, 3), of models with spins
        Minus the derivative of the energy with respect to the spins; zero for types without.
    mask_mag : (n_frames, n_atoms, 1), of models with spins
        1 for atoms of types with a spin, else 0.
    hessian : (n_frames, 3 n_atoms, 3 n_atoms) [eV/Å²], of models trained for it

    Examples
    --------
    >>> from deepmd.infer import DeepPot
    >>> potential = DeepPot("model.dp")
    >>> energy, force, virial = potential.eval(coords, cells, [0, 1, 1])
    """

    output = "energy"

    def eval_unfolded_virial(
        self, coords: Any, cells: Any, atom_types: Any, **parameters: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate energies and virials of atoms in the decomposition of the heat flux.

        For models that pass messages these virials are not those of ``eval(..., atomic=True)``; the
        sums agree. See :func:`deepmd.infer.unfolded.unfolded_virials`.

        Parameters
        ----------
        coords, cells, atom_types, **parameters
            See :meth:`eval`.

        Returns
        -------
        atom_energy : (n_frames, n_atoms, 1) [eV]
        atom_virial : (n_frames, n_atoms, 9) [eV]
            ``W_ab`` of atom i: ``-Σ_k (∂e_k/∂r_i)_a (r_i - r_k)_b``. The potential part of the heat
            flux is ``J_b = Σ_i Σ_a W_ab v_a``.
        """
        frames = make_frames(self.model, coords, cells, atom_types, **parameters)
        found = unfolded_virials(self.evaluator, frames.batch(slice(None)))
        out = []
        for value in found:
            out.append(np.zeros((*frames.real.shape, value.shape[1])))
            out[-1][frames.real] = value
        return out[0], out[1]

    def results(self, *, atomic: bool) -> list[str]:
        names = ["energy", "force", "virial"]
        names += ["atom_energy", "atom_virial"] * atomic
        return names + ["force_mag", "mask_mag"] * self.has_spin + ["hessian"] * self.has_hessian
