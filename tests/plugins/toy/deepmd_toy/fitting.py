"""A fitting on a base with networks, and one without."""

import torch
from dargs import Argument

from deepmd.dpmodel import FittingOutputDef, OutputVariableDef, fitting_check_output
from deepmd.pt.model.task.ener import InvarFitting
from deepmd.pt.model.task.fitting import GeneralFitting
from deepmd.utils.argcheck import fitting_args_plugin


@GeneralFitting.register("some_energy")
@fitting_check_output
class SomeEnergy(InvarFitting):
    def __init__(self, ntypes: int, dim_descrpt: int, neuron: list[int], **kwargs) -> None:
        super().__init__("energy", ntypes, dim_descrpt, 1, neuron, **kwargs)


@GeneralFitting.register("some_fitting")
@fitting_check_output
class SomeFittingNet(GeneralFitting):
    """The square of a linear function."""

    def __init__(self, ntypes: int, dim_descrpt: int, width: int, **kwargs) -> None:
        self.width = width
        super().__init__("energy", ntypes, dim_descrpt, neuron=[width], **kwargs)

    def _net_out_dim(self) -> int:
        return self.width

    def output_def(self) -> FittingOutputDef:
        return FittingOutputDef(
            [
                OutputVariableDef(
                    "energy", [1], reducible=True, r_differentiable=True, c_differentiable=True
                )
            ]
        )

    def forward(
        self,
        descriptor: torch.Tensor,
        atype: torch.Tensor,
        gr: torch.Tensor | None = None,
        g2: torch.Tensor | None = None,
        h2: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        y = self._forward_common(descriptor, atype, gr, g2, h2, fparam, aparam)["energy"]
        return {"energy": (y * y).sum(-1, keepdim=True)}


@fitting_args_plugin.register("some_energy")
def some_energy_args() -> list[Argument]:
    return [
        Argument("neuron", list, optional=False, doc="Widths."),
        Argument("numb_fparam", int, optional=True, default=0, doc="Frame parameters."),
        Argument("seed", [int, None], optional=True, default=None, doc="Seed."),
    ]


@fitting_args_plugin.register("some_fitting")
def some_fitting_args() -> list[Argument]:
    return [
        Argument("width", int, optional=False, doc="Width."),
        Argument("seed", [int, None], optional=True, default=None, doc="Seed."),
    ]
