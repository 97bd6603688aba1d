# SPDX-License-Identifier: LGPL-3.0-or-later
"""Fitting networks as bases of fittings of plugins."""

from typing import Any

import torch

from deepmd.dpmodel.descriptor.base import Atoms
from deepmd.dpmodel.fitting.base import PARAM_STD_FLOOR, Fitting, fitting_serial, kept_atoms
from deepmd.dpmodel.output_def import FittingOutputDef, OutputVariableDef
from deepmd.pt.lift import convert
from deepmd.pt.native.fitting import BaseFitting
from deepmd.schema.settings import setting

Tensor = torch.Tensor


class _Networks(Fitting):
    """Networks of a number of outputs, with the bias and statistics of a fitting."""

    serial = fitting_serial("networks", 1, "width")
    var_name = ""

    width: int = setting(..., "Numbers per atom.", key=False)

    @property
    def net_out(self) -> int:
        """Numbers that the networks put out."""
        return self.width


class GeneralFitting(BaseFitting, torch.nn.Module):
    """Base of fittings with networks: one per type, or one for all types.

    A subclass has ``_net_out_dim()``, ``output_def()`` and ``forward``, which calls
    :meth:`_forward_common`.

    Parameters
    ----------
    var_name : str
        Name of the output.
    ntypes, dim_descrpt : int
    neuron : list of int
    numb_fparam, numb_aparam, dim_case_embd : int
    default_fparam : list of float, optional
    resnet_dt : bool
    activation_function, precision : str
    mixed_types : bool
        Whether one network serves all types.
    seed : int, optional
    exclude_types : list of int
        Types of which nothing is predicted.
    trainable : bool or list of bool
    type_map : list of str, optional
    **kwargs
        Further keys of sections are accepted.
    """

    def __init__(
        self,
        var_name: str,
        ntypes: int,
        dim_descrpt: int,
        neuron: list[int] | None = None,
        bias_atom_e: Any = None,
        resnet_dt: bool = True,
        numb_fparam: int = 0,
        numb_aparam: int = 0,
        dim_case_embd: int = 0,
        activation_function: str = "tanh",
        precision: str = "float64",
        mixed_types: bool = True,
        rcond: float | None = None,
        seed: Any = None,
        exclude_types: list[int] | None = None,
        trainable: bool | list[bool] = True,
        type_map: list[str] | None = None,
        default_fparam: list[float] | None = None,
        **kwargs: Any,
    ) -> None:
        torch.nn.Module.__init__(self)
        self.var_name, self.ntypes, self.dim_descrpt = var_name, ntypes, dim_descrpt
        self.numb_fparam, self.numb_aparam = numb_fparam, numb_aparam
        self.mixed_types, self.rcond, self.type_map = mixed_types, rcond, type_map
        self.exclude_types, self.default_fparam = list(exclude_types or ()), default_fparam
        self.networks = convert(
            _Networks(
                ntypes,
                dim_descrpt,
                numb_fparam=numb_fparam,
                numb_aparam=numb_aparam,
                dim_case_embd=dim_case_embd,
                default_fparam=default_fparam,
                neuron=list(neuron or (128, 128, 128)),
                activation_function=activation_function,
                resnet_dt=resnet_dt,
                precision=precision,
                seed=seed,
                trainable=trainable,
                mixed_types=mixed_types,
                width=self._net_out_dim(),
            )
        )
        if bias_atom_e is not None:
            given = torch.as_tensor(bias_atom_e, dtype=torch.float64)
            self.networks.bias_atom_e = given.reshape(ntypes, -1)

    def _net_out_dim(self) -> int:
        """Return the numbers that the networks put out."""
        raise TypeError(f"{type(self).__name__} does not state the width of its output")

    def get_dim_fparam(self) -> int:
        """Return the number of frame parameters."""
        return self.numb_fparam

    def get_dim_aparam(self) -> int:
        """Return the number of atomic parameters."""
        return self.numb_aparam

    def get_sel_type(self) -> list[int]:
        """Return the types that are predicted; empty means all."""
        return [t for t in range(self.ntypes) if t not in self.exclude_types]

    def get_type_map(self) -> list[str]:
        """Return the names of the types."""
        return list(self.type_map or [])

    def _forward_common(
        self,
        descriptor: Tensor,
        atype: Tensor,
        gr: Tensor | None = None,
        g2: Tensor | None = None,
        h2: Tensor | None = None,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Evaluate the networks: {var_name: (n_frames, n_atoms, net_out) float64}.

        Parameters
        ----------
        descriptor : (n_frames, n_atoms, dim_descrpt)
        atype : (n_frames, n_atoms) int64
        fparam : (n_frames, numb_fparam), optional
        aparam : (n_frames, n_atoms, numb_aparam), optional
        """
        nf, na, width = descriptor.shape
        kinds = atype.reshape(-1)
        frame = torch.arange(nf, device=atype.device)[:, None].expand(nf, na).reshape(-1)
        atoms = Atoms(None, None, None, kinds, frame)
        if self.numb_fparam and fparam is not None:
            atoms = atoms._replace(frame_inputs={"fparam": fparam})
        if self.numb_aparam and aparam is not None:
            rows = aparam.reshape(-1, self.numb_aparam)
            atoms = atoms._replace(atom_inputs={"aparam": rows})
        nets = self.networks
        x = nets.network_input(descriptor.reshape(-1, width), atoms)
        if self.mixed_types:
            y = nets.nets.at()(x).double()
        else:
            parts = [
                nets.nets.at(t)(x).double() * (kinds == t)[:, None] for t in range(self.ntypes)
            ]
            y = torch.stack(parts).sum(0)
        y = y + nets.bias_atom_e.index_select(0, kinds)
        if self.exclude_types:
            y = y * kept_atoms(self.exclude_types, self.ntypes, kinds, y)
        return {self.var_name: y.reshape(nf, na, self._net_out_dim())}

    def compute_input_stats(self, merged: Any, protection: float = PARAM_STD_FLOOR) -> None:
        """Set means and deviations of the parameters of frames and atoms.

        Parameters
        ----------
        merged : list of dict, or function that returns one
        protection : float
            Smallest deviation that is divided by.
        """
        sizes = {"fparam": self.numb_fparam, "aparam": self.numb_aparam}
        for kind, size in ((k, n) for k, n in sizes.items() if n):
            samples = merged() if callable(merged) else merged
            rows = torch.cat([one[kind].reshape(-1, size) for one in samples])
            std = rows.std(0, correction=0).clamp_min(protection)
            getattr(self.networks, f"{kind}_avg").copy_(rows.mean(0))
            getattr(self.networks, f"{kind}_inv_std").copy_(1.0 / std)


class InvarFitting(GeneralFitting):
    """Numbers that do not change when the system is turned, summed over atoms.

    Parameters
    ----------
    var_name : str
        Name of the output.
    ntypes, dim_descrpt : int
    dim_out : int
        Numbers per atom.
    neuron : list of int
    **kwargs
        See :class:`GeneralFitting`.
    """

    def __init__(
        self,
        var_name: str,
        ntypes: int,
        dim_descrpt: int,
        dim_out: int,
        neuron: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        self.dim_out = dim_out  # before the base, which asks for it
        super().__init__(var_name, ntypes, dim_descrpt, neuron, **kwargs)

    def _net_out_dim(self) -> int:
        """Return the numbers that the networks put out."""
        return self.dim_out

    def output_def(self) -> FittingOutputDef:
        """Return what this fitting predicts."""
        return FittingOutputDef(
            [
                OutputVariableDef(
                    self.var_name,
                    [self.dim_out],
                    reducible=True,
                    r_differentiable=True,
                    c_differentiable=True,
                )
            ]
        )

    def forward(
        self,
        descriptor: Tensor,
        atype: Tensor,
        gr: Tensor | None = None,
        g2: Tensor | None = None,
        h2: Tensor | None = None,
        fparam: Tensor | None = None,
        aparam: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Evaluate: {var_name: (n_frames, n_atoms, dim_out)}."""
        return self._forward_common(descriptor, atype, gr, g2, h2, fparam, aparam)
