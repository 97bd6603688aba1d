# SPDX-License-Identifier: LGPL-3.0-or-later
"""Wrapper of the traced core in a TorchScript file: pairs, packing, assembly.

Everything in this file is compiled by ``torch.jit.script``; hence loops over lists and no
comprehension where a tensor decides. Packing follows :mod:`deepmd.dpmodel.neighbors`. The atoms of
all frames, ghosts included, have *places*: 0, 1, … in the order of the input.
"""

import torch

from deepmd.pt.torchscript.fragments import groups_of, joined
from deepmd.pt.torchscript.neighbors import Pairs, frame_pairs, pack_all
from deepmd.pt.torchscript.spin import Atoms, doubled, folded, shifts, with_partners


class Program(torch.nn.Module):
    """A model as it is stored in a ``.pth`` file.

    What other programs call is added by :func:`deepmd.pt.torchscript.entries.source_of`.

    Parameters
    ----------
    core : torch.nn.Module
        The traced evaluation entry.
    settings : dict
        The attributes, of :func:`deepmd.pt.torchscript.export.settings_of`.
    """

    entry_version: int
    #: Whether the core has weights of atoms in its gradients among the inputs of atoms.
    takes_cotangents: bool
    rcut: float
    core_types: int
    #: Atoms without spin and their partners are at the same place, and neighbors.
    shortest: float
    message_passing: bool
    #: Whether ``aparam`` are numbers of regions, each of which is evaluated with the first.
    regions: bool
    precision: str
    model_def_script: str
    probes: list[dict[str, torch.Tensor]]
    # Of every output.
    names: list[str]
    sizes: list[int]
    differentiable: list[bool]
    intensive: list[bool]
    # Of every packing.
    layouts: list[str]
    rcuts: list[float]
    sels: list[list[int]]
    grouped: list[bool]
    nearest: list[int]
    excluded: list[list[int]]
    edge_rcuts: list[float]
    edge_sels: list[int]
    # Of every type; without spins, ``use_spin`` is empty.
    contributing: list[bool]
    use_spin: list[bool]
    scale: torch.Tensor
    # Parameters, and what they are where none are given.
    dim_fparam: int
    dim_aparam: int
    dim_chg_spin: int
    default_fparam: torch.Tensor
    usual_chg_spin: torch.Tensor
    min_nbor_dist: torch.Tensor

    def __init__(self, core: torch.nn.Module, settings: dict) -> None:
        super().__init__()
        self.core = core
        for name, value in settings.items():
            if isinstance(value, torch.Tensor):
                self.register_buffer(name, value)
            else:
                setattr(self, name, torch.jit.Attribute(value, Program.__annotations__[name]))

    # -- evaluation ---------------------------------------------------------------------------

    @torch.jit.export
    def make_slots(
        self,
        i: torch.Tensor,
        j: torch.Tensor,
        atype: torch.Tensor,
        frame: torch.Tensor,
        vec: torch.Tensor,
    ) -> list[torch.Tensor]:
        """Pack edges, sorted by center, of atoms, sorted by frame, as the model wants them."""
        r2 = (vec * vec).sum(-1).clamp_min(self.shortest)
        return pack_all(
            self.layouts,
            self.core_types,
            self.rcuts,
            self.sels,
            self.grouped,
            self.excluded,
            self.nearest,
            self.edge_rcuts,
            self.edge_sels,
            Pairs(i, j, atype, frame, vec, r2),
        )

    @torch.jit.export
    def evaluate_frames(
        self,
        coord: torch.Tensor,
        atype: torch.Tensor,
        spin: torch.Tensor | None,
        box: torch.Tensor | None,
        fparam: torch.Tensor | None,
        aparam: torch.Tensor | None,
        do_atomic_virial: bool,
        charge_spin: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate frames.

        Parameters
        ----------
        coord : (n_frames, n_atoms, 3) or (n_frames, 3 n_atoms) [Å]
        atype : (n_frames, n_atoms)
            -1 for virtual atoms.
        spin : as coord, optional
        box : (n_frames, 9), optional [Å]
            None or zero: no periodicity.
        """
        if not self.regions:
            return self.frames(
                coord, atype, spin, box, fparam, aparam, do_atomic_virial, charge_spin
            )
        types = atype.to(torch.int64)
        nf, na = types.shape[0], types.shape[1]
        groups = groups_of(aparam, types, na, None)
        parts = self.frames(
            coord.reshape(nf, 3 * na)[groups.frame],
            groups.types,
            None,
            of_frames(box, groups.frame, nf),
            of_frames(fparam, groups.frame, nf),
            groups.role,
            do_atomic_virial,
            of_frames(charge_spin, groups.frame, nf),
        )
        return joined(parts, groups, types, na)

    def frames(
        self,
        coord: torch.Tensor,
        atype: torch.Tensor,
        spin: torch.Tensor | None,
        box: torch.Tensor | None,
        fparam: torch.Tensor | None,
        aparam: torch.Tensor | None,
        do_atomic_virial: bool,
        charge_spin: torch.Tensor | None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate frames, or groups of which ``aparam`` are the roles."""
        nf, na = atype.shape[0], atype.shape[1]
        types = atype.to(torch.int64)
        places = torch.arange(nf * na, device=types.device)
        atoms = self.atoms(types, na, places, fparam, aparam, charge_spin)
        shift = shifts(spin, types, self.scale)
        xyz = coord.to(torch.float64).reshape(nf, na, 3)
        i, j, vec = frame_pairs(xyz, types, box, self.reach(shift))
        return self.results(i, j, vec, atoms, shift, "", do_atomic_virial)

    @torch.jit.export
    def evaluate_extended(
        self,
        coord: torch.Tensor,
        atype: torch.Tensor,
        spin: torch.Tensor | None,
        nlist: torch.Tensor,
        mapping: torch.Tensor | None,
        fparam: torch.Tensor | None,
        aparam: torch.Tensor | None,
        do_atomic_virial: bool,
        comm_dict: dict[str, torch.Tensor] | None,
        charge_spin: torch.Tensor | None,
        cotangents: dict[str, torch.Tensor] | None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate local atoms among ghosts, with a given neighbor list.

        Parameters
        ----------
        coord : (n_frames, n_all, 3) or (n_frames, 3 n_all) [Å]
            Local atoms first, then ghosts.
        atype : (n_frames, n_all)
        spin : as coord, optional
        nlist : (n_frames, n_local, any width)
            Numbers of extended atoms in any order, -1 where there is none; may reach beyond the
            cutoff. With spins it must hold the neighbors within the cutoff and the longest
            displacement.
        mapping : (n_frames, n_all), optional
            Local atom of every extended one, -1: none, nothing but its type matters; needed by
            models that exchange messages.
        cotangents : dict of str to (n_frames, n_local, d), optional
            Weights of the atoms in the sums that are differentiated, under the names
            ``{output}_cotangent``.
        """
        if not self.regions:
            return self.extended(
                coord,
                atype,
                spin,
                nlist,
                mapping,
                fparam,
                aparam,
                do_atomic_virial,
                comm_dict,
                charge_spin,
                cotangents,
            )
        types = atype.to(torch.int64)
        nf, nall, nloc = types.shape[0], types.shape[1], nlist.shape[1]
        groups = groups_of(aparam, types, nloc, mapping)
        weights: dict[str, torch.Tensor] = {}
        if cotangents is not None:
            for name, value in cotangents.items():
                weights[name] = value[groups.frame]
        parts = self.extended(
            coord.reshape(nf, 3 * nall)[groups.frame],
            groups.types,
            None,
            nlist[groups.frame],
            of_frames(mapping, groups.frame, nf),
            of_frames(fparam, groups.frame, nf),
            groups.role,
            do_atomic_virial,
            comm_dict,
            of_frames(charge_spin, groups.frame, nf),
            weights,
        )
        return joined(parts, groups, types, nloc)

    def extended(
        self,
        coord: torch.Tensor,
        atype: torch.Tensor,
        spin: torch.Tensor | None,
        nlist: torch.Tensor,
        mapping: torch.Tensor | None,
        fparam: torch.Tensor | None,
        aparam: torch.Tensor | None,
        do_atomic_virial: bool,
        comm_dict: dict[str, torch.Tensor] | None,
        charge_spin: torch.Tensor | None,
        cotangents: dict[str, torch.Tensor] | None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate local atoms among ghosts, of frames or of groups; see evaluate_extended."""
        nf, nall, nloc = atype.shape[0], atype.shape[1], nlist.shape[1]
        types = atype.to(torch.int64)
        owner = torch.arange(nf * nall, device=types.device)
        if self.message_passing:
            if comm_dict is not None and len(comm_dict) > 0:
                raise ValueError("this model exchanges messages; it runs on one process only")
            if mapping is None:
                raise ValueError("this model exchanges messages and needs the mapping of ghosts")
            owner = (owner.reshape(nf, nall)[:, :1] + mapping).reshape(-1)
            owner = torch.where(mapping.reshape(-1) < 0, -torch.ones_like(owner), owner)
        atoms = self.atoms(types, nloc, owner, fparam, aparam, charge_spin)
        if cotangents is not None:
            for name, value in cotangents.items():
                atoms.atom_inputs[name] = value.to(torch.float64)
        shift = shifts(spin, types, self.scale)
        given = (nlist >= 0) & (types[:, :nloc] >= 0)[:, :, None]
        where = torch.nonzero(given)
        first = where[:, 0] * nall
        i, j = first + where[:, 1], first + nlist[given].to(torch.int64)
        xyz = coord.to(torch.float64).reshape(nf * nall, 3)
        vec = xyz[j] - xyz[i]
        r2, reach = (vec * vec).sum(-1), self.reach(shift)
        near = (r2 <= reach * reach) & (r2 > 0.0) & (types.reshape(-1)[j] >= 0)
        i, j, vec = i[near], j[near], vec[near]
        return self.results(i, j, vec, atoms, shift, "extended_", do_atomic_virial)

    def atoms(
        self,
        types: torch.Tensor,
        nloc: int,
        owner: torch.Tensor,
        fparam: torch.Tensor | None,
        aparam: torch.Tensor | None,
        charge_spin: torch.Tensor | None,
    ) -> Atoms:
        """Atoms with the inputs of frames and atoms, by name."""
        nf, nothing = types.shape[0], self.default_fparam[:0]
        frame_inputs: dict[str, torch.Tensor] = {}
        atom_inputs: dict[str, torch.Tensor] = {}
        if self.dim_fparam > 0:
            frame_inputs["fparam"] = given_or_usual(
                fparam, self.dim_fparam, self.default_fparam, "fparam", nf
            )
        if self.dim_chg_spin > 0:
            frame_inputs["charge_spin"] = given_or_usual(
                charge_spin, self.dim_chg_spin, self.usual_chg_spin, "charge_spin", nf
            )
        if self.dim_aparam > 0:
            a = given_or_usual(aparam, nloc * self.dim_aparam, nothing, "aparam", nf)
            name = "role" if self.regions else "aparam"
            atom_inputs[name] = a.reshape(nf, nloc, self.dim_aparam)
        return Atoms(types, nloc, owner, frame_inputs, atom_inputs)

    def with_cotangents(
        self, atom_inputs: dict[str, torch.Tensor], n: int
    ) -> dict[str, torch.Tensor]:
        """Inputs of n atoms with the weights that the core wants; one where none are given."""
        if not self.takes_cotangents:
            return atom_inputs
        weighted = atom_inputs.copy()
        for k in range(len(self.names)):
            name = self.names[k] + "_cotangent"
            if self.differentiable[k] and name not in weighted:
                weighted[name] = torch.ones(
                    (n, self.sizes[k]), dtype=torch.float64, device=self.scale.device
                )
        return weighted

    def reach(self, shift: torch.Tensor) -> float:
        """Largest distance [Å] of atoms that see each other, or each other's partners."""
        if shift.numel() == 0:
            return self.rcut
        farthest = float(torch.sqrt((shift * shift).sum(-1)).max().item())
        return self.rcut + farthest * (2.0 if self.message_passing else 1.0)

    # -- assembly -----------------------------------------------------------------------------

    def results(
        self,
        i: torch.Tensor,
        j: torch.Tensor,
        vec: torch.Tensor,
        atoms: Atoms,
        shift: torch.Tensor,
        prefix: str,
        do_atomic_virial: bool,
    ) -> dict[str, torch.Tensor]:
        """Evaluate atoms and, with spins, their partners.

        Parameters
        ----------
        i, j : (n_pairs,)
            Places of atoms; sorted by i.
        vec : (n_pairs, 3) [Å]
        shift : (n_places, 3) [Å]
            From atoms to their partners; empty without spins.
        prefix : str
            Of the names of results that ghosts have, too.
        """
        mask = atoms.types[:, : atoms.nloc] >= 0
        if len(self.use_spin) == 0:
            out = self.assembled(i, j, vec, vec, atoms, prefix, do_atomic_virial)
        else:
            shift = torch.stack([0.0 * shift, shift], 1).reshape(-1, 3)
            rows = torch.nonzero(mask)
            centers = rows[:, 0] * atoms.types.shape[1] + rows[:, 1]
            i, j, vec, between = with_partners(
                i, j, vec, centers, shift, self.rcut, self.message_passing
            )
            twice = doubled(atoms, shift, len(self.use_spin))
            out = self.assembled(i, j, vec, between, twice, prefix, do_atomic_virial)
            out = folded(out, self.names, atoms.types, self.use_spin, self.scale, prefix)
        out["mask"] = mask.to(torch.int32)
        return out

    def assembled(
        self,
        i: torch.Tensor,
        j: torch.Tensor,
        vec: torch.Tensor,
        between: torch.Tensor,
        atoms: Atoms,
        prefix: str,
        do_atomic_virial: bool,
    ) -> dict[str, torch.Tensor]:
        """Evaluate atoms: their values and those of frames, in the order of the input.

        The core gets the real centers, followed by one atom per type that has no edges: these
        stand for neighbors of which nothing but the type is known. An intensive value of a frame
        is the mean over its atoms of ``contributing`` types.

        Parameters
        ----------
        between : (n_pairs, 3) [Å]
            What is deformed with the cell: spins are not.
        """
        nf, nall, nloc = atoms.types.shape[0], atoms.types.shape[1], atoms.nloc
        flat = atoms.types.reshape(-1)
        rows = torch.nonzero(atoms.types[:, :nloc] >= 0)
        n, frame, place = rows.shape[0], rows[:, 0], rows[:, 0] * nloc + rows[:, 1]
        centers = frame * nall + rows[:, 1]
        number = torch.full_like(flat, -1)
        number[centers] = torch.arange(n, device=flat.device)
        owner = atoms.owner[j]
        known = torch.where(owner < 0, owner, number[owner.clamp_min(0)])
        kinds = torch.arange(self.core_types, dtype=torch.int64, device=flat.device)
        every, frames = torch.cat([flat[centers], kinds]), torch.cat([frame, 0 * kinds + nf - 1])
        atom_inputs: dict[str, torch.Tensor] = {}
        for name, value in atoms.atom_inputs.items():
            rows = value.flatten(0, 1)[place]
            atom_inputs[name] = torch.cat([rows, rows.new_zeros((self.core_types, rows.shape[1]))])
        first, second = number[i], torch.where(known >= 0, known, n + flat[j])
        slots = self.make_slots(first, second, every, frames, vec)
        atom_inputs = self.with_cotangents(atom_inputs, every.shape[0])
        raw = self.core(vec, first, second, every, frames, atoms.frame_inputs, atom_inputs, slots)
        contributing = torch.tensor(self.contributing, device=flat.device)
        out: dict[str, torch.Tensor] = {}
        for k in range(len(self.names)):
            name, size = self.names[k], self.sizes[k]
            values = raw[name][:n]
            ordered = values.new_zeros((nf * nloc, size)).index_copy(0, place, values)
            out["atom_" + name] = ordered.reshape(nf, nloc, size)
            total = out["atom_" + name].sum(1)
            if self.intensive[k]:
                counts = total.new_zeros(nf * nloc)
                counts[place] = contributing[every[:n]].to(total)
                total = total / counts.reshape(nf, nloc).sum(1, keepdim=True).clamp_min(1.0)
            out[name] = total
            if self.differentiable[k]:
                g = raw[name + "_grad"]
                add_derivatives(out, g, between, i, j, nf, nall, prefix, do_atomic_virial)
        return out


def of_frames(given: torch.Tensor | None, frame: torch.Tensor, nf: int) -> torch.Tensor | None:
    """Rows of what frames are given, (n_frames, size) in any shape, for other frames."""
    if given is None or given.numel() == 0:
        return None
    return given.reshape(nf, -1)[frame]


def given_or_usual(
    given: torch.Tensor | None, size: int, usual: torch.Tensor, name: str, nf: int
) -> torch.Tensor:
    """Numbers of every frame (n_frames, size), the default ones where none are given."""
    if given is not None and given.numel() > 0:
        return given.to(torch.float64).reshape(nf, -1)[:, :size]
    if usual.shape[0] < size:
        raise ValueError("the model needs " + name + ", which was not given")
    return usual[:size].reshape(1, size).repeat(nf, 1)


def add_derivatives(
    out: dict[str, torch.Tensor],
    g: torch.Tensor,
    vec: torch.Tensor,
    i: torch.Tensor,
    j: torch.Tensor,
    nf: int,
    na: int,
    prefix: str,
    do_atomic_virial: bool,
) -> None:
    """Add force, virial and atomic virial from gradients (n_edges, d, 3); without d where it is 1."""
    d = g.shape[1]
    force = g.new_zeros((nf * na, d, 3)).index_add(0, i, g).index_add(0, j, -g)
    pair = -(g[:, :, :, None] * vec[:, None, None, :]).reshape(-1, d, 9)
    frame = torch.div(i, na, rounding_mode="floor")
    out["virial"] = g.new_zeros((nf, d, 9)).index_add(0, frame, pair).squeeze(1)
    out[prefix + "force"] = force.reshape(nf, na, d, 3).transpose(1, 2).squeeze(1)
    if do_atomic_virial:
        atoms = g.new_zeros((nf * na, d, 9)).index_add(0, j, pair).reshape(nf, na, d, 9)
        name = "atom_virial" if prefix == "" else "extended_virial"
        out[name] = atoms.transpose(1, 2).squeeze(1)
