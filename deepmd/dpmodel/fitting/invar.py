# SPDX-License-Identifier: LGPL-3.0-or-later
"""Any number of invariant quantities per atom."""

from collections.abc import Sequence
from typing import Any

from deepmd.dpmodel.descriptor.base import Atoms, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef


@Fitting.register("invar")
class InvarFitting(Fitting):
    """Numbers that do not change when the system is turned: ``y_i = N(x_i)``, summed over atoms.

    Parameters
    ----------
    ntypes, dim_descrpt : int
        Number of types, width of the descriptor.
    var_name : str
        Name of the output.
    dim_out : int
        Numbers per atom.
    atom_ener : list of (float or None), optional
        With at least one number the output of an isolated atom is subtracted; see
        :class:`~deepmd.dpmodel.fitting.ener.EnergyFitting`.
    options
        See :meth:`Fitting._init_networks`.
    """

    serial = fitting_serial("invar", 4, "dim_out atom_ener", constants=())

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        var_name: str,
        dim_out: int,
        atom_ener: Sequence[float | None] | None = None,
        **options: Any,
    ) -> None:
        self.var_name, self.dim_out = var_name, dim_out
        self.atom_ener = None if atom_ener is None else list(atom_ener)
        self._init_networks(ntypes=ntypes, dim_descrpt=dim_descrpt, net_out=dim_out, **options)

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        return FittingOutputDef(
            [
                OutputVariableDef(
                    self.var_name,
                    [self.dim_out],
                    reducible=True,
                    r_differentiable=True,
                    c_differentiable=True,
                )
            ]
        )

    def call(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> dict[str, Any]:
        """Evaluate: {var_name: (n_atoms, dim_out)} float64, without the model's bias."""
        y = self.atomic_values(output, atoms, slots)
        y = self.without_vacuum(y, output, atoms, slots)
        return {self.var_name: self.without_excluded(y, atoms)}
