# SPDX-License-Identifier: LGPL-3.0-or-later
"""What surrounds the traced core in a TorchScript file: pairs, packing, assembly.

Everything in this file is compiled by ``torch.jit.script``; hence loops over lists and no
comprehension where a tensor decides. Packing follows :mod:`deepmd.dpmodel.neighbors`.
"""

import torch

from deepmd.pt.script_neighbors import find_pairs, pack
from deepmd.pt.script_queries import Queries


class Program(Queries):
    """A model as it is stored in a ``.pth`` file.

    Parameters
    ----------
    core : torch.nn.Module
        The traced evaluation entry: 7 arrays and the slots -> list of arrays.
    settings : dict
        Of :func:`deepmd.pt.export.settings_of`.
    """

    # TorchScript does not look at the annotations of a base class.
    type_map: list[str]
    names: list[str]
    sizes: list[int]
    differentiable: list[bool]
    intensive: list[bool]
    counted: list[bool]
    layouts: list[str]
    rcuts: list[float]
    sels: list[list[int]]
    grouped: list[bool]
    nearest: list[int]
    excluded: list[list[int]]
    edge_rcuts: list[float]
    edge_sels: list[int]
    default_fparam: list[float]
    default_chg_spin: list[float]
    sel: list[int]
    observed: list[str]
    probes: list[dict[str, torch.Tensor]]
    precision: str

    def __init__(self, core: torch.nn.Module, settings: dict) -> None:
        super().__init__()
        self.core = core
        for name, value in settings.items():
            if isinstance(value, torch.Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, value)

    # -- evaluation ---------------------------------------------------------------------------

    @torch.jit.export
    def forward_edges(
        self,
        vec: torch.Tensor,
        i: torch.Tensor,
        j: torch.Tensor,
        atype: torch.Tensor,
        frame: torch.Tensor,
        fparam: torch.Tensor,
        aparam: torch.Tensor,
        slots: list[torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """Evaluate atoms and gradients by edge vectors; see ``Model.forward_edges``."""
        values = self.core(vec, i, j, atype, frame, fparam, aparam, slots)
        out: dict[str, torch.Tensor] = {}
        position = 0
        for k in range(len(self.names)):
            out[self.names[k]] = values[position]
            position += 1
        for k in range(len(self.names)):
            if self.differentiable[k]:
                out[self.names[k] + "_grad"] = values[position]
                position += 1
        return out

    @torch.jit.export
    def make_slots(
        self,
        i: torch.Tensor,
        j: torch.Tensor,
        atype: torch.Tensor,
        frame: torch.Tensor,
        r2: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Pack edges, sorted by centre, of atoms, sorted by frame, as the model wants them."""
        slots: list[torch.Tensor] = []
        for k in range(len(self.layouts)):
            slots += pack(
                self.layouts[k],
                self.core_types,
                self.rcuts[k],
                self.sels[k],
                self.grouped[k],
                self.nearest[k],
                self.excluded[k],
                self.edge_rcuts[k],
                self.edge_sels[k],
                i,
                j,
                atype,
                r2,
                frame,
            )
        return slots

    def evaluate(
        self,
        vec: torch.Tensor,
        i: torch.Tensor,
        j: torch.Tensor,
        atype: torch.Tensor,
        frame: torch.Tensor,
        fparam: torch.Tensor,
        aparam: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Evaluate atoms, followed by one atom per type that has no edges.

        These stand for neighbours of which nothing but the type is known: ``n_atoms + type``.
        """
        n = atype.shape[0]
        types = torch.arange(self.core_types, dtype=torch.int64, device=atype.device)
        every = torch.cat([atype, types])
        frames = torch.cat([frame, torch.full_like(types, fparam.shape[0] - 1)])
        out = self.forward_edges(
            vec,
            i,
            j,
            every,
            frames,
            fparam,
            torch.cat([aparam, aparam.new_zeros((types.shape[0], aparam.shape[1]))]),
            self.make_slots(i, j, every, frames, (vec * vec).sum(-1).clamp_min(self.shortest)),
        )
        for name in self.names:
            out[name] = out[name][:n]
        return out

    def forward(
        self,
        coord: torch.Tensor,
        atype: torch.Tensor,
        box: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
        do_atomic_virial: bool = False,
        charge_spin: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate frames.

        Parameters
        ----------
        coord : (n_frames, n_atoms, 3) or (n_frames, 3 n_atoms) [Å]
        atype : (n_frames, n_atoms)
            -1 for virtual atoms.
        box : (n_frames, 9), optional [Å]
            None or zero: no periodicity.
        """
        nf, na = atype.shape[0], atype.shape[1]
        xyz = coord.to(torch.float64).reshape(nf, na, 3)
        real = atype >= 0
        types = atype[real].to(torch.int64)
        rows = torch.nonzero(real)
        number = torch.cumsum(real.reshape(-1).to(torch.int64), 0).reshape(nf, na) - 1
        i, j, vec = self.pairs(xyz, real, number, box, self.rcut)
        raw = self.evaluate(
            vec,
            i,
            j,
            types,
            rows[:, 0],
            self.frame_parameters(fparam, charge_spin, nf),
            self.atom_parameters(aparam, nf, na, coord)[real],
        )
        place = rows[:, 0] * na + rows[:, 1]
        out = self.totals(raw, types, place, nf, na)
        self.add_derivatives(out, raw, vec, place[i], place[j], nf, na, "", do_atomic_virial)
        out["mask"] = real.to(torch.int32)
        return out

    @torch.jit.export
    def forward_lower(
        self,
        extended_coord: torch.Tensor,
        extended_atype: torch.Tensor,
        nlist: torch.Tensor,
        mapping: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
        do_atomic_virial: bool = False,
        comm_dict: dict[str, torch.Tensor] | None = None,
        charge_spin: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate local atoms among ghosts, with a given neighbour list.

        Parameters
        ----------
        extended_coord : (n_frames, n_all, 3) or (n_frames, 3 n_all) [Å]
            Local atoms first, then ghosts.
        extended_atype : (n_frames, n_all)
        nlist : (n_frames, n_local, any width)
            Numbers of extended atoms in any order, -1 where there is none; may reach beyond the
            cutoff.
        mapping : (n_frames, n_all), optional
            Local atom of every extended one; needed by models that exchange messages.
        """
        nf, nall = extended_atype.shape[0], extended_atype.shape[1]
        nloc = nlist.shape[1]
        xyz = extended_coord.to(torch.float64).reshape(nf * nall, 3)
        types = extended_atype.to(torch.int64)
        real = types[:, :nloc] >= 0
        number = torch.cumsum(real.reshape(-1).to(torch.int64), 0).reshape(nf, nloc) - 1
        given = (nlist >= 0) & real[:, :, None]
        where = torch.nonzero(given)
        first = where[:, 0] * nall
        centre, neighbor = first + where[:, 1], first + nlist[given].to(torch.int64)
        vec = xyz[neighbor] - xyz[centre]
        r2 = (vec * vec).sum(-1)
        flat = types.reshape(-1)
        near = (r2 <= self.rcut * self.rcut) & (r2 > 0.0) & (flat[neighbor] >= 0)
        vec, where, centre, neighbor = vec[near], where[near], centre[near], neighbor[near]
        rows = torch.nonzero(real)
        j = flat[neighbor] + rows.shape[0]
        if self.message_passing:
            owner = self.owners(mapping, comm_dict, where[:, 0], neighbor - where[:, 0] * nall)
            j = number[where[:, 0], owner]
        own = types[:, :nloc][real]
        raw = self.evaluate(
            vec,
            number[where[:, 0], where[:, 1]],
            j,
            own,
            rows[:, 0],
            self.frame_parameters(fparam, charge_spin, nf),
            self.atom_parameters(aparam, nf, nloc, extended_coord)[real],
        )
        out = self.totals(raw, own, rows[:, 0] * nloc + rows[:, 1], nf, nloc)
        self.add_derivatives(
            out, raw, vec, centre, neighbor, nf, nall, "extended", do_atomic_virial
        )
        out["mask"] = real.to(torch.int32)
        return out

    def pairs(
        self,
        xyz: torch.Tensor,
        real: torch.Tensor,
        number: torch.Tensor,
        box: torch.Tensor | None,
        rcut: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Centres, neighbours and vectors of all pairs of real atoms, numbered over all frames.

        Parameters
        ----------
        xyz : (n_frames, n_atoms, 3) [Å]
        real : (n_frames, n_atoms) bool
        number : (n_frames, n_atoms) int64
            Of real atoms.
        box : (n_frames, 9), optional [Å]
        rcut : float [Å]
        """
        i_parts: list[torch.Tensor] = []
        j_parts: list[torch.Tensor] = []
        vec_parts: list[torch.Tensor] = []
        for f in range(xyz.shape[0]):
            cell = torch.zeros((3, 3), dtype=torch.float64, device=xyz.device)
            if box is not None and box.numel() > 0:
                cell = box[f].to(torch.float64).reshape(3, 3)
            i, j, vec = find_pairs(xyz[f][real[f]], cell, rcut)
            here = number[f][real[f]]
            i_parts.append(here[i])
            j_parts.append(here[j])
            vec_parts.append(vec)
        return torch.cat(i_parts), torch.cat(j_parts), torch.cat(vec_parts)

    def owners(
        self,
        mapping: torch.Tensor | None,
        comm_dict: dict[str, torch.Tensor] | None,
        frame: torch.Tensor,
        neighbor: torch.Tensor,
    ) -> torch.Tensor:
        """Local atoms (n_edges,) of which extended atoms are images."""
        if comm_dict is not None and len(comm_dict) > 0:
            raise ValueError("this model exchanges messages; it runs on one process only")
        if mapping is None:
            raise ValueError("this model exchanges messages and needs the mapping of ghosts")
        return mapping[frame, neighbor].to(torch.int64)

    # -- assembly -----------------------------------------------------------------------------

    def totals(
        self,
        raw: dict[str, torch.Tensor],
        types: torch.Tensor,
        place: torch.Tensor,
        nf: int,
        na: int,
    ) -> dict[str, torch.Tensor]:
        """Values of atoms, in the order of the input, and of frames.

        An intensive one is the mean over the atoms of types that are ``counted``.
        """
        out: dict[str, torch.Tensor] = {}
        for k in range(len(self.names)):
            name, size = self.names[k], self.sizes[k]
            atoms = raw[name].new_zeros((nf * na, size)).index_copy(0, place, raw[name])
            atoms = atoms.reshape(nf, na, size)
            out["atom_" + name] = atoms
            total = atoms.sum(1)
            if self.intensive[k]:
                counts = torch.zeros(nf * na, dtype=total.dtype, device=total.device)
                counts[place] = torch.tensor(self.counted, device=total.device)[types].to(total)
                total = total / counts.reshape(nf, na).sum(1, keepdim=True).clamp_min(1.0)
            out[name] = total
        return out

    def add_derivatives(
        self,
        out: dict[str, torch.Tensor],
        raw: dict[str, torch.Tensor],
        vec: torch.Tensor,
        centre: torch.Tensor,
        neighbor: torch.Tensor,
        nf: int,
        na: int,
        kind: str,
        do_atomic_virial: bool,
    ) -> None:
        """Add force, virial and atomic virial; ``kind`` says whether ghosts are among the atoms."""
        for k in range(len(self.names)):
            if self.differentiable[k]:
                force, virial, atoms = self.derivatives(
                    raw[self.names[k] + "_grad"], vec, centre, neighbor, nf, na, do_atomic_virial
                )
                out["virial"] = virial
                out["force" if kind == "" else "extended_force"] = force
                if do_atomic_virial:
                    out["atom_virial" if kind == "" else "extended_virial"] = atoms

    def derivatives(
        self,
        g: torch.Tensor,
        vec: torch.Tensor,
        centre: torch.Tensor,
        neighbor: torch.Tensor,
        nf: int,
        na: int,
        do_atomic_virial: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Force, virial and atomic virial from gradients (n_edges, d, 3)."""
        d = g.shape[1]
        force = g.new_zeros((nf * na, d, 3)).index_add(0, centre, g).index_add(0, neighbor, -g)
        pair = -(g[:, :, :, None] * vec[:, None, None, :]).reshape(-1, d, 9)
        frame = torch.div(centre, na, rounding_mode="floor")
        virial = g.new_zeros((nf, d, 9)).index_add(0, frame, pair)
        atoms = g.new_zeros((0, d, 9))
        if do_atomic_virial:
            atoms = g.new_zeros((nf * na, d, 9)).index_add(0, neighbor, pair)
            atoms = atoms.reshape(nf, na, d, 9)
        force = force.reshape(nf, na, d, 3)
        if d == 1:
            return force[:, :, 0], virial[:, 0], atoms[:, :, 0] if do_atomic_virial else atoms
        if do_atomic_virial:
            atoms = atoms.transpose(1, 2)
        return force.transpose(1, 2), virial, atoms

    def frame_parameters(
        self, fparam: torch.Tensor | None, charge_spin: torch.Tensor | None, nf: int
    ) -> torch.Tensor:
        """Frame parameters, then charge and multiplicity: (n_frames, d)."""
        own = self.given_or_usual(fparam, self.dim_fparam, self.usual_fparam, "fparam", nf)
        more = self.given_or_usual(
            charge_spin, self.dim_chg_spin, self.usual_chg_spin, "charge_spin", nf
        )
        return torch.cat([own, more], dim=1)

    def given_or_usual(
        self, given: torch.Tensor | None, size: int, usual: torch.Tensor, name: str, nf: int
    ) -> torch.Tensor:
        """Numbers of every frame (n_frames, size), the default ones where none are given."""
        if given is not None and (given.numel() > 0 or size == 0):
            return given.to(torch.float64).reshape(nf, -1)[:, :size]
        if usual.shape[0] < size:
            raise ValueError("the model needs " + name + ", which was not given")
        return usual[:size].reshape(1, size).repeat(nf, 1)

    def atom_parameters(
        self, aparam: torch.Tensor | None, nf: int, na: int, like: torch.Tensor
    ) -> torch.Tensor:
        """Atomic parameters (n_frames, n_atoms, d)."""
        if self.dim_aparam == 0:
            return torch.zeros((nf, na, 0), dtype=torch.float64, device=like.device)
        if aparam is None:
            raise ValueError("the model needs aparam, which was not given")
        return aparam.to(torch.float64).reshape(nf, -1, self.dim_aparam)[:, :na]
