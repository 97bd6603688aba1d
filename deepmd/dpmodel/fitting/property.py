# SPDX-License-Identifier: LGPL-3.0-or-later
"""Any scalar properties, scaled and shifted to the spread of their labels."""

from typing import Any

from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms
from deepmd.dpmodel.fitting.base import Fitting, fitting_serial
from deepmd.dpmodel.fitting.invar import InvarFitting
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef, check_name
from deepmd.schema.common import POSITIVE, Rule
from deepmd.schema.settings import setting


@Fitting.register("property")
class PropertyFitting(InvarFitting):
    """Any scalar properties.

    ``task_dim`` numbers ``std_t y_i + bias_t``, summed or averaged over the atoms of a frame.
    Without ``distinguish_types`` bias and deviation of the first type serve for all.
    """

    reads_directions = False
    serial = fitting_serial(
        "property",
        6,
        "dim_out atom_ener task_dim intensive distinguish_types",
        constants=("dim_out",),
    )

    property_name: str = setting(
        ...,
        "Name of the output and of the data file.",
        rule=Rule(lambda v: v.isidentifier(), "must be letters, digits and _"),
    )
    task_dim: int = setting(1, "Numbers per frame.", rule=POSITIVE)
    intensive: bool = setting(False, "The mean over atoms is predicted, not the sum.")
    distinguish_types: bool = setting(True, "Bias and deviation differ between types.")

    def build(self) -> None:
        check_name(self.property_name, "model/fitting_net/property_name")
        super().build()

    @classmethod
    def construct(cls, config: dict, data: dict) -> "PropertyFitting":
        """Build from the stored keys."""
        return cls(property_name=config.pop("var_name"), **config)

    @property
    def var_name(self) -> str:  # type: ignore[override]
        """Name of the output."""
        return self.property_name

    @property
    def dim_out(self) -> int:  # type: ignore[override]
        """Numbers per atom."""
        return self.task_dim

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        variable = OutputVariableDef(
            self.var_name, [self.task_dim], reducible=True, intensive=self.intensive
        )
        return FittingOutputDef([variable])

    def kinds(self) -> list[str]:
        """A property, whatever its name."""
        return ["property"]

    @property
    def common_bias(self) -> bool:
        """Whether bias and deviation of the first type serve for all."""
        return not self.distinguish_types

    def shifted(self, value: Any, bias: Any, std: Any, atoms: Atoms) -> Any:
        """Apply deviation and bias, (ntypes, task_dim), to the output (n_atoms, task_dim)."""
        rows = atoms.atype if self.distinguish_types else 0 * atoms.atype
        return value * ops.take(std, rows) + ops.take(bias, rows)
