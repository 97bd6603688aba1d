# SPDX-License-Identifier: LGPL-3.0-or-later
"""A symmetric 3 × 3 tensor per atom, such as the polarizability.

Sommers et al., "Raman spectrum and polarizability of liquid water from deep neural networks",
Phys. Chem. Chem. Phys. 22, 10592 (2020).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from dargs import Argument

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, DescriptorOutput, Slots
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.tensor import TensorFitting, tensor_arguments
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.schema.common import option
from deepmd.schema.registry import fitting_args
from deepmd.utils.errors import InputError


@Fitting.register("polar")
class PolarFitting(TensorFitting):
    """``α_i = s_t Tᵀ Y T + s_t (c_t + b_t) 1``, T the equivariant part of the descriptor.

    Y is the diagonal matrix of the networks' output, or a full symmetric matrix; b the mean of the
    diagonal of the model's bias.

    Parameters
    ----------
    ntypes, dim_descrpt : int
        Number of types, width of the descriptor.
    embedding_width : int
        Rows of the descriptor's equivariant part.
    fit_diag : bool
        Whether Y is diagonal.
    scale : float or list of float
        s, one for all or one per type.
    shift_diag : bool
        Whether the multiple of the unit matrix is added.
    options
        See :meth:`Fitting._init_networks`.
    """

    serial = fitting_serial(
        "polar",
        5,
        "embedding_width fit_diag shift_diag",
        buffers=("scale", "constant_matrix"),
    )
    var_name = "polar"

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        embedding_width: int,
        fit_diag: bool = True,
        scale: float | Sequence[float] = 1.0,
        shift_diag: bool = True,
        **options: Any,
    ) -> None:
        self.embedding_width, self.fit_diag, self.shift_diag = embedding_width, fit_diag, shift_diag
        if np.size(scale) not in (1, ntypes):
            raise InputError(
                f"{np.size(scale)} numbers for {ntypes} types",
                where="model/fitting_net/scale",
                fix="give one number, or one per type",
            )
        column = np.reshape(np.asarray(scale, dtype=np.float64), (-1, 1))
        self.scale = np.broadcast_to(column, (ntypes, 1)).copy()
        self.constant_matrix = np.zeros(ntypes)
        self._init_networks(
            ntypes=ntypes,
            dim_descrpt=dim_descrpt,
            net_out=embedding_width if fit_diag else embedding_width**2,
            **options,
        )

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        variable = OutputVariableDef("polar", [3, 3], reducible=True, label="polarizability")
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


@fitting_args.register("polar", doc="A symmetric tensor per atom.")
def polar_fitting_arguments() -> list[Argument]:
    """Keys of the polarizability fitting."""
    return [
        *tensor_arguments("pol_type", "polarizability"),
        option("fit_diag", bool, True, "Fit the diagonal of the rotated tensor only."),
        option(
            "scale", [float, list[float]], 1.0, "Factor of the output, one for all or one per type."
        ),
        option("shift_diag", bool, True, "Add a constant per type to the diagonal."),
    ]
