# SPDX-License-Identifier: LGPL-3.0-or-later
"""Dipoles, polarizabilities and Wannier centers."""

from typing import Any

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.infer.deep_eval import DeepEval


class DeepTensor(DeepEval):
    """A tensor of every atom; the constructor's arguments are those of :class:`DeepEval`.

    :meth:`eval` returns the tensors of the atoms, (n_frames, n_atoms, dim), or their sum,
    (n_frames, dim), without ``atomic``.
    """

    atomic_by_default = True
    returns_tuple = False

    @property
    def tselt(self) -> list[int]:
        """Types that are predicted; empty means all."""
        return self.get_sel_type()

    @property
    def output_dim(self) -> int:
        """Number of components."""
        return self.model.output_def()[str(self.output)].size

    def results(self, *, atomic: bool) -> list[str]:
        return [f"atom_{self.output}" if atomic else str(self.output)]

    def eval_full(
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
        """Evaluate frames with derivatives.

        Returns
        -------
        tensor : (n_frames, dim)
        force : (n_frames, dim, n_atoms, 3)
            Minus the derivative of every component with respect to positions.
        virial : (n_frames, dim, 9)
        atom_tensor : (n_frames, n_atoms, dim), with ``atomic``
        atom_virial : (n_frames, dim, n_atoms, 9), with ``atomic``
        """
        if not self.model.differentiable():
            raise NotAvailableError(f"a {self.output} has no derivatives", fix="use eval()")
        names = [str(self.output), "force", "virial"]
        names += [f"atom_{self.output}", "atom_virial"] * atomic
        given = {"fparam": fparam, "aparam": aparam, "mixed_type": mixed_type, **kwargs}
        out = self._select(names, (coords, cells, atom_types), given)
        # The components come before the atoms.
        by_component = ("force", "atom_virial")
        return tuple(
            v.swapaxes(1, 2) if k in by_component else v for k, v in zip(names, out, strict=True)
        )


class DeepDipole(DeepTensor):
    """A dipole per atom."""

    output = "dipole"


class DeepPolar(DeepTensor):
    """A polarizability per atom."""

    output = "polar"


class DeepGlobalPolar(DeepPolar):
    """The polarizability of a frame: without ``atomic`` the sum over the atoms."""

    atomic_by_default = False


class DeepWFC(DeepTensor):
    """Displacements of Wannier centers."""

    output = "wfc"
