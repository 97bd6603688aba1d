# SPDX-License-Identifier: LGPL-3.0-or-later
"""Energies of whole frames that are added to those of a model, such as an Ewald sum."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from deepmd.base.plugin import Registry
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model.inputs import prepare
from deepmd.dpmodel.module import Registered
from deepmd.schema.registry import modifier_args

if TYPE_CHECKING:
    from deepmd.dpmodel.model.model import Model

#: Atomic values of a model, and the function from cotangents of them to the gradient of
#: ``Σ_i c_i · y_i`` by the edge vectors, (n_edges, 3).
Response = tuple[dict[str, Any], Callable[[Mapping[str, np.ndarray]], np.ndarray]]


class FrameEnergy(NamedTuple):
    """Energy of frames and its derivatives.

    Attributes
    ----------
    energy : (n_frames,) [eV]
    by_position : (n_atoms, 3) [eV/Å]
        Derivative by the positions, the cell being fixed.
    by_cell : (n_frames, 3, 3) [eV/Å]
        Derivative by the cell vectors (rows), the positions being fixed; zero for open frames.
    """

    energy: np.ndarray
    by_position: np.ndarray
    by_cell: np.ndarray


def respond(model: "Model", batch: Batch) -> Response:
    """Evaluate a model with NumPy on a batch with edges, ready for a vector–Jacobian product."""
    inputs = prepare(batch, model.packings())

    def pullback(cotangent: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.asarray(model.forward_edges(inputs, cotangent=cotangent)["vjp"])

    return model.atomic(inputs), pullback


class Modifier(Registered):
    """Energy that is no function of the edge vectors.

    Its energy, force and virial are added to those of the frames (:meth:`Model.assemble`). Energies
    and virials of atoms stay those of the model, since such a term has no unique share of an atom.
    A model is trained on labels less these terms.
    """

    registry: ClassVar[Registry] = Registry("modifier")
    keys = modifier_args

    @classmethod
    def for_model(
        cls,
        section: dict[str, Any],
        type_map: Sequence[str],
        where: str,
        read: Callable[[str], "Model"],
    ) -> "Modifier":
        """Build the modifier of a checked section for a model's types.

        ``where`` is the section's path in the input; ``read`` returns the model of a file.
        """
        return cls(**section)

    def adopt(self, type_map: Sequence[str], where: str | None = None) -> None:
        """Take the types of the model that is corrected; raise InputError if they do not fit."""

    def energy(self, batch: Batch, respond: Callable[..., Response] = respond) -> FrameEnergy:
        """Return the energy of the frames of a batch with edges, and its derivatives.

        ``respond`` evaluates models that it needs, in the form of a backend.
        """
        raise TypeError(f"{type(self).__name__} has no energy")

    def terms(
        self, batch: Batch, respond: Callable[..., Response] = respond
    ) -> dict[str, np.ndarray]:
        """Return ``energy`` (n_frames, 1), ``force`` (n_atoms, 3) and ``virial`` (n_frames, 9).

        The virial is minus the derivative by a strain of positions and cell,
        ``W_ab = -Σ_i (∂E/∂r_i)_a r_ib - Σ_k (∂E/∂h_k)_a h_kb``.
        """
        energy, by_position, by_cell = self.energy(batch, respond)
        n = batch.n_frames
        strain = np.zeros((n, 3, 3))
        np.add.at(strain, batch.frame, by_position[:, :, None] * batch.coord[:, None, :])
        strain += np.einsum("fka,fkb->fab", by_cell, np.reshape(batch.cell, (n, 3, 3)))
        return {
            "energy": energy.reshape(n, 1),
            "force": -by_position,
            "virial": -strain.reshape(n, 9),
        }
