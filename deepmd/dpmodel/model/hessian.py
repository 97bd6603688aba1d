# SPDX-License-Identifier: LGPL-3.0-or-later
"""Second derivatives of the energy with respect to positions."""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.model.inputs import Inputs
from deepmd.dpmodel.model.model import Model


def frame_hessian(model: Model, inputs: Inputs) -> Any:
    """Return ``∂²E/∂r∂r`` of one frame, by differentiating every component of the forces.

    Parameters
    ----------
    model : Model
        With one differentiable output of one component: an energy.
    inputs : Inputs
        Of a single frame.

    Returns
    -------
    (3 n_atoms, 3 n_atoms) float64 [eV/Å²]
    """
    n = inputs.atype.shape[0]

    def forces(vec: Any) -> tuple[dict[str, Any], list[Any]]:
        moved = inputs._replace(vec=vec)
        force = model.predict(moved, 1, derivatives=("force",), keep_graph=True)["force"]
        return {}, [force[i, a] for i in range(n) for a in range(3)]

    _, gradients = ops.edge_gradient(inputs.vec, forces)
    space = ops.xp(inputs.vec)
    if not gradients:
        return space.zeros((0, 0))
    # A force is minus a derivative, and so is what ``derivatives`` makes of a gradient.
    rows = [
        space.reshape(model.derivatives(g, inputs, 1, ("force",))["force"], (3 * n,))
        for g in gradients
    ]
    return space.stack(rows, axis=0)
