# SPDX-License-Identifier: LGPL-3.0-or-later
"""Electron populations of atoms."""

from deepmd.infer.deep_eval import DeepEval


class DeepPopulation(DeepEval):
    """Populations of α and β electrons; the constructor's arguments are those of :class:`DeepEval`.

    :meth:`eval` returns the tuple of population (n_frames, n_atoms, 2), with ``atomic`` or without.
    """

    output = "population"

    def results(self, *, atomic: bool) -> list[str]:
        return ["atom_population"]
