# SPDX-License-Identifier: LGPL-3.0-or-later
"""Arguments that losses share, and those of the built-in ones."""

from dargs import Argument, Variant

from deepmd.schema.common import NOT_NEGATIVE, Rule, choice, flag, option, unset
from deepmd.schema.registry import loss_args


def loss_variant() -> Variant:
    """Choice among the registered losses."""
    return loss_args.variant(default="ener")


def prefactor_arguments(key: str, what: str, start: float, limit: float) -> list[Argument]:
    """Weights of one part of the loss: ``start_pref_key`` goes over to ``limit_pref_key``."""
    return [
        option(
            f"start_pref_{key}",
            [float, int],
            start,
            f"Weight of the {what} at the start of the training.",
            rule=NOT_NEGATIVE,
        ),
        option(
            f"limit_pref_{key}",
            [float, int],
            limit,
            f"Weight of the {what} in the limit of a vanishing learning rate.",
            rule=NOT_NEGATIVE,
        ),
    ]


def ener_loss_arguments() -> list[Argument]:
    """Keys of the energy loss."""
    return [
        *prefactor_arguments("e", "energy error", 0.02, 1.0),
        *prefactor_arguments("f", "force error", 1000, 1.0),
        *prefactor_arguments("v", "virial error", 0.0, 0.0),
        *prefactor_arguments("h", "Hessian error", 0.0, 0.0),
        *prefactor_arguments("ae", "error of atomic energies", 0.0, 0.0),
        *prefactor_arguments("pf", "force error weighted by atom_pref.npy", 0.0, 0.0),
        *prefactor_arguments("gf", "error of generalised forces", 0.0, 0.0),
        flag("use_default_pf", "Systems without atom_pref.npy count with weight 1."),
        unset(
            "relative_f",
            [float, None],
            "Divide force errors by the force's length plus this, eV/Å.",
        ),
        flag(
            "enable_atom_ener_coeff",
            "The energy label is a sum of atomic energies weighted by atom_ener_coeff.npy.",
        ),
        option(
            "numb_generalized_coord",
            int,
            0,
            "Number of generalised coordinates.",
            rule=NOT_NEGATIVE,
        ),
        flag("use_huber", "Huber's loss in place of squares."),
        choice("loss_func", "Squares (mse) or absolute values (mae).", "mse", "mae"),
        flag("f_use_norm", "Take the length of each force error (mae or Huber)."),
        option(
            "huber_delta",
            [float, list[float]],
            0.01,
            "Where Huber's loss becomes linear: one number, or [energy, force, virial].",
            rule=Rule(
                lambda v: all(d > 0 for d in v) and len(v) == 3 if isinstance(v, list) else v > 0,
                "must be one number or three, greater than 0",
            ),
        ),
        flag(
            "intensive_ener_virial",
            "Divide energy and virial terms by the squared number of atoms, not by the number.",
        ),
    ]
