"""Sums over neighbors of weights and cosines of the distance."""

import torch
from dargs import Argument

from deepmd.pt.model.descriptor.base_descriptor import BaseDescriptor
from deepmd.pt.utils.update_sel import UpdateSel
from deepmd.utils.argcheck import descrpt_args_plugin


@BaseDescriptor.register("some_descrpt")
class SomeDescript(BaseDescriptor, torch.nn.Module):
    def __init__(self, rcut: float, sel: int, ntypes: int, waves: int = 4) -> None:
        super().__init__()
        self.rcut, self.sel, self.waves = rcut, sel, waves
        self.weight = torch.nn.Parameter(torch.ones(ntypes, waves, dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(waves, dtype=torch.float64))

    def get_rcut(self) -> float:
        return self.rcut

    def get_sel(self) -> list[int]:
        return [self.sel]

    def get_dim_out(self) -> int:
        return self.waves

    def mixed_types(self) -> bool:
        return True

    @classmethod
    def update_sel(cls, train_data, type_map, local_jdata):
        out = dict(local_jdata)
        distance, sel = UpdateSel().update_one_sel(
            train_data, type_map, out["rcut"], out["sel"], True
        )
        out["sel"] = sel[0]
        return out, distance

    def compute_input_stats(self, merged, path=None) -> None:
        samples = merged() if callable(merged) else merged
        self.mean += sum(float(one["energy"].mean()) for one in samples) / len(samples)

    def forward(
        self,
        coord_ext: torch.Tensor,
        atype_ext: torch.Tensor,
        nlist: torch.Tensor,
        mapping: torch.Tensor | None = None,
    ):
        nf, nloc, nnei = nlist.shape
        coord = coord_ext.view(nf, -1, 3)
        there = nlist >= 0
        j = torch.where(there, nlist, torch.zeros_like(nlist)).view(nf, nloc * nnei)
        other = torch.gather(coord, 1, j[:, :, None].expand(-1, -1, 3)).view(nf, nloc, nnei, 3)
        d = other - coord[:, :nloc, None, :]
        d = torch.where(there[..., None], d, torch.full_like(d, self.rcut))
        x = torch.clamp(torch.linalg.norm(d, dim=-1, keepdim=True) / self.rcut, max=1.0)
        switch = (1.0 - x) ** 3 * (1.0 + 3.0 * x)
        weight = self.weight[torch.gather(atype_ext, 1, j).view(nf, nloc, nnei)]
        k = torch.arange(self.waves, dtype=d.dtype, device=d.device)
        value = (weight * switch * torch.cos(torch.pi * k * x)).sum(2)
        return value - self.mean, None, None, None, switch


@descrpt_args_plugin.register("some_descrpt", alias=["some"], doc="Cosines of the distance.")
def descrpt_some_args() -> list[Argument]:
    return [
        Argument("rcut", float, optional=False, doc="Cutoff, Å."),
        Argument("sel", [int, str], optional=True, default="auto", doc="Number of neighbors."),
        Argument("waves", int, optional=True, default=4, doc="Number of cosines."),
    ]
