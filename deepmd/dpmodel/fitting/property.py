# SPDX-License-Identifier: LGPL-3.0-or-later
"""Any scalar properties, scaled and shifted to the spread of their labels."""

from collections.abc import Sequence
from typing import Any

from dargs import Argument

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.schema.common import POSITIVE, Rule, option, required
from deepmd.schema.fitting import common_fitting_arguments
from deepmd.schema.registry import fitting_args


@Fitting.register("property")
class PropertyFitting(InvarFitting):
    """``task_dim`` numbers ``std_t y_i + bias_t``, summed or averaged over the atoms of a frame.

    Parameters
    ----------
    ntypes, dim_descrpt : int
        Number of types, width of the descriptor.
    property_name : str
        Name of the output and of the data file.
    task_dim : int
        Numbers per frame.
    intensive : bool
        The property of a frame is the mean over its atoms, not the sum.
    distinguish_types : bool
        Bias and deviation of every type; otherwise those of the first serve for all.
    atom_ener, options
        See :class:`~deepmd.dpmodel.fitting.invar.InvarFitting`.
    """

    serial = fitting_serial(
        "property",
        6,
        "dim_out atom_ener task_dim intensive distinguish_types",
        constants=("dim_out",),
    )

    def __init__(
        self,
        ntypes: int,
        dim_descrpt: int,
        *,
        property_name: str,
        task_dim: int = 1,
        intensive: bool = False,
        distinguish_types: bool = True,
        atom_ener: Sequence[float | None] | None = None,
        **options: Any,
    ) -> None:
        self.task_dim, self.intensive = task_dim, intensive
        self.distinguish_types = distinguish_types
        super().__init__(
            ntypes,
            dim_descrpt,
            var_name=property_name,
            dim_out=task_dim,
            atom_ener=atom_ener,
            **options,
        )

    @classmethod
    def construct(cls, config: dict, data: dict) -> "PropertyFitting":
        """Build from the stored keys."""
        return cls(property_name=config.pop("var_name"), **config)

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        variable = OutputVariableDef(
            self.var_name, [self.task_dim], reducible=True, intensive=self.intensive
        )
        return FittingOutputDef([variable])

    def shifted(self, value: Any, bias: Any, std: Any, atoms: Atoms) -> Any:
        """Apply deviation and bias, (ntypes, task_dim), to the output (n_atoms, task_dim)."""
        rows = atoms.atype if self.distinguish_types else 0 * atoms.atype
        return value * ops.take(std, rows) + ops.take(bias, rows)


@fitting_args.register("property", doc="Any scalar properties.")
def property_fitting_arguments() -> list[Argument]:
    """Keys of the property fitting."""
    return [
        *common_fitting_arguments([120, 120, 120]),
        required(
            "property_name",
            str,
            "Name of the output and of the data file.",
            rule=Rule(lambda v: v.isidentifier(), "must be letters, digits and _"),
        ),
        option("task_dim", int, 1, "Numbers per frame.", rule=POSITIVE),
        option("intensive", bool, False, "The mean over atoms is predicted, not the sum."),
        option("distinguish_types", bool, True, "Bias and deviation differ between types."),
    ]
