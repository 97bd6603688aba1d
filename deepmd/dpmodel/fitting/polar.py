# SPDX-License-Identifier: LGPL-3.0-or-later
"""A symmetric 3 × 3 tensor per atom, such as the polarizability.

Sommers et al., "Raman spectrum and polarizability of liquid water from deep neural networks",
Phys. Chem. Chem. Phys. 22, 10592 (2020).
"""

from typing import Any

import numpy as np

from deepmd.base.errors import InputError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.tensor import TensorFitting
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.settings import setting


@Fitting.register("polar")
class PolarFitting(TensorFitting):
    """A symmetric tensor per atom.

    ``α_i = s_t Tᵀ Y T + s_t (c_t + b_t) 1``, T the equivariant part of the descriptor, Y the
    diagonal matrix of the networks' output, or a full symmetric matrix, b the mean of the diagonal
    of the model's bias.
    """

    serial = fitting_serial(
        "polar",
        5,
        "embedding_width fit_diag shift_diag",
        buffers=("scale", "constant_matrix"),
    )
    var_name = "polar"
    quantity = "polarizability"
    sel_alias = "pol_type"

    fit_diag: bool = setting(True, "Fit the diagonal of the rotated tensor only.")
    scale: Any = setting(
        1.0, "Factor of the output, one for all or one per type.", kind=[float, list[float]]
    )
    shift_diag: bool = setting(True, "Add a constant per type to the diagonal.")

    def build(self) -> None:
        """Make networks and statistics, and one scale for every type."""
        if np.size(self.scale) not in (1, self.ntypes):
            raise InputError(
                f"{np.size(self.scale)} numbers for {self.ntypes} types",
                where="model/fitting_net/scale",
                fix="give one number, or one per type",
            )
        column = np.reshape(np.asarray(self.scale, dtype=np.float64), (-1, 1))
        self.scale = np.broadcast_to(column, (self.ntypes, 1)).copy()
        self.constant_matrix = np.zeros(self.ntypes)
        super().build()

    @property
    def net_out(self) -> int:
        """Numbers that the networks put out."""
        return self.embedding_width if self.fit_diag else self.embedding_width**2

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map; new types have the scale of all others, or 1."""
        super().change_types(change)
        same = bool((self.scale == self.scale[:1]).all())
        self.scale = change.rows(self.scale, self.scale[0] if same else 1.0)
        self.constant_matrix = change.rows(self.constant_matrix, 0.0)

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        variable = OutputVariableDef("polar", [3, 3], reducible=True, label=self.quantity)
        return FittingOutputDef([variable])

    def call(self, output: DescriptorOutput, atoms: Atoms, slots: Slots) -> dict[str, Any]:
        """Evaluate: polar (n_atoms, 9) float64, without the model's bias."""
        y = self.atomic_values(output, atoms, slots) * ops.take(self.scale, atoms.atype)
        t = self.rotation(output)  # (n_atoms, ng, 3)
        n, m = ops.shape(y)[0], self.embedding_width
        space = ops.xp(y)
        if self.fit_diag:
            right = y[:, :, None] * t
        else:
            full = space.reshape(y, (n, m, m))
            right = space.matmul(0.5 * (full + ops.matrix_transpose(full)), t)
        polar = space.matmul(ops.matrix_transpose(t), right)
        return {"polar": self.without_excluded(space.reshape(polar, (n, 9)), atoms)}

    def shifted(self, value: Any, bias: Any, std: Any, atoms: Atoms) -> Any:
        """Add a multiple of the unit matrix per type; anything else would not turn along."""
        if not self.shift_diag:
            return value
        mean = (bias[:, 0] + bias[:, 4] + bias[:, 8]) / 3.0
        shift = self.scale * (self.constant_matrix + mean)[:, None]  # (ntypes, 1)
        unit = ops.like(np.eye(3).reshape(1, 9), value)
        return value + self.without_excluded(ops.take(shift, atoms.atype) * unit, atoms)
