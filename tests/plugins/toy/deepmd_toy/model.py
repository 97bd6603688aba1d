"""An atomic model, and the model around it."""

import torch
from dargs import Argument

from deepmd.dpmodel import FittingOutputDef, OutputVariableDef
from deepmd.pt.model.atomic_model.base_atomic_model import BaseAtomicModel
from deepmd.pt.model.model.make_model import make_model
from deepmd.pt.model.model.model import BaseModel
from deepmd.utils.argcheck import model_args_plugin
from deepmd_toy.descriptor import SomeDescript


class SomeAtomicModel(BaseAtomicModel):
    def __init__(self, rcut: float, sel: int, type_map: list[str]) -> None:
        super().__init__(type_map)
        self.descriptor = SomeDescript(rcut, sel, len(type_map))
        self.scale = torch.nn.Parameter(torch.full((), 0.1, dtype=torch.float64))

    def get_rcut(self) -> float:
        return self.descriptor.rcut

    def get_sel(self) -> list[int]:
        return [self.descriptor.sel]

    def fitting_output_def(self) -> FittingOutputDef:
        return FittingOutputDef(
            [
                OutputVariableDef(
                    "energy", [1], reducible=True, r_differentiable=True, c_differentiable=True
                )
            ]
        )

    def forward_atomic(
        self,
        extended_coord: torch.Tensor,
        extended_atype: torch.Tensor,
        nlist: torch.Tensor,
        mapping: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
        do_atomic_virial: bool = False,
        comm_dict: dict[str, torch.Tensor] | None = None,
    ) -> dict[str, torch.Tensor]:
        value = self.descriptor(extended_coord, extended_atype, nlist, mapping)[0]
        return {"energy": self.scale * torch.tanh(value).sum(-1, keepdim=True)}


@BaseModel.register("some_model")
class SomeModel(make_model(SomeAtomicModel), BaseModel):
    pass


@model_args_plugin.register("some_model")
def some_model_args() -> Argument:
    return Argument(
        "some_model",
        dict,
        [
            Argument("rcut", float, optional=False, doc="Cutoff, Å."),
            Argument("sel", int, optional=False, doc="Number of neighbors."),
        ],
        doc="A model of a plugin.",
    )
