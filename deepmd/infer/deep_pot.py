# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies, forces and virials."""

from deepmd.infer.deep_eval import DeepEval


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

    def results(self, *, atomic: bool) -> list[str]:
        names = ["energy", "force", "virial"]
        names += ["atom_energy", "atom_virial"] * atomic
        return names + ["force_mag", "mask_mag"] * self.has_spin + ["hessian"] * self.has_hessian
