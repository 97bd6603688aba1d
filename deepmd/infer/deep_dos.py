# SPDX-License-Identifier: LGPL-3.0-or-later
"""Densities of states, and other quantities without derivatives."""

from deepmd.infer.deep_eval import DeepEval


class InvariantEval(DeepEval):
    """Quantities of frames and atoms without derivatives.

    :meth:`eval` returns a tuple of value (n_frames, size) and, with ``atomic``, atom_value
    (n_frames, n_atoms, size).
    """

    def results(self, *, atomic: bool) -> list[str]:
        (name,) = self.model.output_def().keys()
        return [name, f"atom_{name}"] if atomic else [name]


class DeepDOS(InvariantEval):
    """A density of states; the constructor's arguments are those of :class:`DeepEval`."""

    output = "dos"

    @property
    def numb_dos(self) -> int:
        """Number of points of the grid."""
        return self.get_numb_dos()
