# SPDX-License-Identifier: LGPL-3.0-or-later
"""Second derivatives of the energy with respect to positions."""

from collections.abc import Sequence
from typing import Any

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel import ops
from deepmd.dpmodel.model.inputs import Inputs
from deepmd.dpmodel.model.model import Model


def predict_with_hessian(
    model: Model,
    inputs: Inputs,
    n_frames: int,
    *,
    columns: int,
    derivatives: Sequence[str] = (),
    order: int = 1,
) -> dict[str, Any]:
    """Evaluate frames as :meth:`Model.predict` does, and differentiate the forces.

    One coordinate of all frames is differentiated at a time, so that the work is that of the
    largest frame.

    Parameters
    ----------
    model : Model
        With one differentiable output of one component: an energy.
    inputs : Inputs
    n_frames : int
    columns : int
        Coordinates of the largest frame, 3 times its atoms, or more.
    derivatives : sequence of str
    order : int
        As of :meth:`Model.predict`, for the Hessian, too.

    Returns
    -------
    dict
        As of :meth:`Model.predict`, and ``hessian`` (n_atoms, 3 × columns) [eV/Å²]: three rows of
        the matrix of the frame for every atom, zero behind the last coordinate of the frame.
    """
    if model.expands():
        raise NotAvailableError(
            "second derivatives are not built for models with spins or fragments"
        )
    wanted = [*derivatives, *(() if "force" in derivatives else ("force",))]
    place = _places(inputs, n_frames)

    def forces(vec: Any) -> tuple[dict[str, Any], list[Any]]:
        moved = inputs._replace(vec=vec)
        pred = model.predict(moved, n_frames, derivatives=wanted, order=3)
        space, force = ops.xp(vec), pred["force"]
        totals = []
        for atom in range(columns // 3):
            chosen = space.astype(place == atom, space.float64)[:, None]
            row = space.sum(chosen * force, axis=0)
            totals += [row[a] for a in range(3)]
        return pred, totals

    out, gradients = ops.edge_gradient(inputs.vec, forces, order=1 if order == 1 else 3)
    space, (n_edges, _) = ops.xp(inputs.vec), ops.shape(inputs.vec)
    g = space.stack(gradients, axis=-1) if gradients else space.zeros((n_edges, 3, 0))
    g = space.reshape(g, (n_edges, 3 * len(gradients)))
    # A force is minus a derivative, and so is what ``derivatives`` makes of a gradient.
    out["hessian"] = model.derivatives(g, inputs, n_frames, ("force",))["force"]
    return out


def _places(inputs: Inputs, n_frames: int) -> Any:
    """Return the number of every atom in its frame: (n_atoms,) float64."""
    number = ops.row_numbers(inputs.atype)
    space = ops.xp(number)
    count = ops.segment_sum(number * 0.0 + 1.0, inputs.frame, n_frames)
    # The numbers of a frame's atoms follow each other: their sum tells the first one.
    total = ops.segment_sum(number, inputs.frame, n_frames) - 0.5 * count * (count - 1.0)
    return number - ops.take(total / space.clip(count, 1.0, None), inputs.frame)


def frame_hessian(model: Model, inputs: Inputs) -> Any:
    """Return ``∂²E/∂r∂r`` of one frame, (3 n_atoms, 3 n_atoms) float64 [eV/Å²]."""
    size = 3 * inputs.atype.shape[0]
    rows = predict_with_hessian(model, inputs, 1, columns=size)["hessian"]
    return ops.xp(rows).reshape(rows, (size, size))
