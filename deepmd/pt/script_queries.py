# SPDX-License-Identifier: LGPL-3.0-or-later
"""What a TorchScript file says about its model.

Every method is compiled by ``torch.jit.script`` and called by its name, so that each is spelled out.
The attributes are those of :class:`deepmd.pt.script.Program`.
"""

import torch


class Queries(torch.nn.Module):
    """The questions that programs in ``.pth`` files answer."""

    rcut: float
    type_map: list[str]
    names: list[str]
    sel: list[int]
    sel_type: list[int]
    nnei: int
    dim_fparam: int
    dim_aparam: int
    dim_chg_spin: int
    default_fparam: list[float]
    default_chg_spin: list[float]
    mixed: bool
    message_passing: bool
    model_def_script: str
    min_nbor_dist: torch.Tensor
    observed: list[str]

    @torch.jit.export
    def get_rcut(self) -> float:
        """Cutoff [Å]."""
        return self.rcut

    @torch.jit.export
    def get_type_map(self) -> list[str]:
        """Names of the types."""
        return self.type_map

    @torch.jit.export
    def get_ntypes(self) -> int:
        """Number of types."""
        return len(self.type_map)

    @torch.jit.export
    def get_dim_fparam(self) -> int:
        """Number of frame parameters."""
        return self.dim_fparam

    @torch.jit.export
    def get_dim_aparam(self) -> int:
        """Number of atomic parameters."""
        return self.dim_aparam

    @torch.jit.export
    def get_dim_chg_spin(self) -> int:
        """Number of charge and multiplicity: 2 where they are inputs, else 0."""
        return self.dim_chg_spin

    @torch.jit.export
    def get_sel_type(self) -> list[int]:
        """Types that are predicted; empty means all."""
        return self.sel_type

    @torch.jit.export
    def get_sel(self) -> list[int]:
        """Largest numbers of neighbours."""
        return self.sel

    @torch.jit.export
    def get_nnei(self) -> int:
        """Largest number of neighbours, all types together."""
        return self.nnei

    @torch.jit.export
    def get_nsel(self) -> int:
        """Largest number of neighbours, all types together."""
        return self.nnei

    @torch.jit.export
    def is_aparam_nall(self) -> bool:
        """Whether atomic parameters are given for ghosts, too."""
        return False

    @torch.jit.export
    def model_output_type(self) -> list[str]:
        """Names of what is predicted."""
        return self.names

    @torch.jit.export
    def mixed_types(self) -> bool:
        """Whether one list of neighbours of all types is used."""
        return self.mixed

    @torch.jit.export
    def has_message_passing(self) -> bool:
        """Whether atoms beyond the cutoff matter."""
        return self.message_passing

    @torch.jit.export
    def need_sorted_nlist_for_lower(self) -> bool:
        """Whether the list must be sorted by distance."""
        return False

    @torch.jit.export
    def get_model_def_script(self) -> str:
        """The model section of the input, as JSON."""
        return self.model_def_script

    @torch.jit.export
    def get_min_nbor_dist(self) -> float | None:
        """Smallest distance of the training data [Å]."""
        value = float(self.min_nbor_dist.item())
        if value > 0.0:
            return value
        return None

    @torch.jit.export
    def has_default_fparam(self) -> bool:
        """Whether frame parameters may be left out."""
        return len(self.default_fparam) > 0

    @torch.jit.export
    def get_default_fparam(self) -> list[float]:
        """Frame parameters that are used when none are given."""
        return self.default_fparam

    @torch.jit.export
    def has_chg_spin_ebd(self) -> bool:
        """Whether charge and spin are inputs."""
        return self.dim_chg_spin > 0

    @torch.jit.export
    def has_default_chg_spin(self) -> bool:
        """Whether charge and spin have defaults."""
        return len(self.default_chg_spin) > 0

    @torch.jit.export
    def get_default_chg_spin(self) -> list[float]:
        """Charge and multiplicity that are used when none are given."""
        return self.default_chg_spin

    @torch.jit.export
    def has_spin(self) -> bool:
        """Whether atoms have spins."""
        return False

    @torch.jit.export
    def get_observed_type_list(self) -> list[str]:
        """Types that were in the training data."""
        return self.observed
