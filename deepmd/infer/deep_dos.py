# SPDX-License-Identifier: LGPL-3.0-or-later
"""Densities of states, and other quantities without derivatives."""

from typing import Any

import numpy as np

from deepmd.infer.deep_eval import DeepEval, known_inputs


class InvariantEval(DeepEval):
    """Quantities of frames and atoms without derivatives."""

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
        coords, cells, atom_types, fparam, aparam, mixed_type
            See :meth:`deepmd.infer.DeepPot.eval`.
        atomic : bool
            Whether the values of the atoms are returned, too.

        Returns
        -------
        value : (n_frames, size)
        atom_value : (n_frames, n_atoms, size), with ``atomic``
        """
        given = {"fparam": fparam, "aparam": aparam, "mixed_type": mixed_type, **kwargs}
        out = self.evaluate(coords, cells, atom_types, derivatives=(), **known_inputs(given))
        (name,) = self.model.output_def().keys()
        return (out[name], out[f"atom_{name}"]) if atomic else (out[name],)


class DeepDOS(InvariantEval):
    """A density of states; the constructor's arguments are those of :class:`DeepEval`."""

    output = "dos"

    @property
    def numb_dos(self) -> int:
        """Number of points of the grid."""
        return self.get_numb_dos()
