# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies, forces and virials."""

from typing import Any

import numpy as np

from deepmd.infer.deep_eval import DeepEval, known_inputs


class DeepPot(DeepEval):
    """A potential energy surface; the arguments of the constructor are those of :class:`DeepEval`.

    Examples
    --------
    >>> from deepmd.infer import DeepPot
    >>> potential = DeepPot("model.dp")
    >>> energy, force, virial = potential.eval(coords, cells, [0, 1, 1])
    """

    output = "energy"

    def eval(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool = False,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        **kwargs: Any,
    ) -> tuple[np.ndarray, ...]:
        """Evaluate frames.

        Parameters
        ----------
        coords : n_frames × n_atoms × 3 numbers of any shape [Å]
        cells : n_frames × 9 numbers, or 9 for all frames [Å]
            Rows are the cell vectors. None for an open system.
        atom_types : (n_atoms,), or (n_frames, n_atoms) with ``mixed_type``
            Index into the type map; -1 marks a virtual atom, whose results are zero.
        atomic : bool
            Whether energies and virials of atoms are returned too.
        fparam : n_frames × n_fparam numbers, or n_fparam for all frames
            Needed if the model has frame parameters without a default.
        aparam : n_frames × n_atoms × n_aparam numbers, or n_atoms × n_aparam, or n_aparam
        mixed_type : bool
            Whether every frame has its own row of types.
        **kwargs
            ``charge_spin``, n_frames × 2 or 2 numbers, and ``spin``, n_frames × n_atoms × 3 or
            n_atoms × 3 numbers, for models that take them; other models refuse ``spin``, all of
            them ``efield``.

        Returns
        -------
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

        Raises
        ------
        InputError
            If the arrays do not fit each other or the model.
        """
        derivatives: tuple[str, ...] = ("force", "virial")
        if atomic:
            derivatives = (*derivatives, "atom_virial")
        if self.has_hessian:
            derivatives = (*derivatives, "hessian")
        given = {"fparam": fparam, "aparam": aparam, "mixed_type": mixed_type, **kwargs}
        out = self.evaluate(
            coords, cells, atom_types, derivatives=derivatives, **known_inputs(given)
        )
        names = ["energy", "force", "virial"]
        if atomic:
            names += ["atom_energy", "atom_virial"]
        if self.has_spin:
            names += ["force_mag", "mask_mag"]
        if self.has_hessian:
            names.append("hessian")
        return tuple(out[name] for name in names)
