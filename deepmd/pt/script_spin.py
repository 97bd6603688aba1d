# SPDX-License-Identifier: LGPL-3.0-or-later
"""The TorchScript wrapper of models with spins: atoms and their virtual partners.

As in :mod:`deepmd.dpmodel.model.spin`, atom k is number 2k of the core and its partner 2k + 1; here
this holds for places, too: those of the atoms of all frames, one frame after another, ghosts
included.
"""

import torch

from deepmd.pt.script import Program


class SpinProgram(Program):
    """A model with spins as it is stored in a ``.pth`` file; see :class:`Program`."""

    # TorchScript does not look at the annotations of a base class.
    __annotations__ = {
        **Program.__annotations__,
        "use_spin": list[bool],
    }

    def forward(
        self,
        coord: torch.Tensor,
        atype: torch.Tensor,
        spin: torch.Tensor,
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
        spin : as coord
        box : (n_frames, 9), optional [Å]
            None or zero: no periodicity.
        """
        nf, na = atype.shape[0], atype.shape[1]
        xyz = coord.to(torch.float64).reshape(nf, na, 3)
        types = atype.to(torch.int64)
        real = types >= 0
        number = torch.cumsum(real.reshape(-1).to(torch.int64), 0).reshape(nf, na) - 1
        shift = self.shifts(spin, types)
        farthest = 0.0
        if shift.numel() > 0:
            farthest = float(torch.sqrt((shift * shift).sum(-1)).max().item())
        reach = self.rcut + farthest * (2.0 if self.message_passing else 1.0)
        i, j, vec = self.pairs(xyz, real, number, box, reach)
        place = torch.nonzero(real.reshape(-1))[:, 0]
        return self.results(
            place[i],
            place[j],
            vec,
            shift,
            types,
            na,
            number.reshape(-1),
            self.frame_parameters(fparam, charge_spin, nf),
            self.atom_parameters(aparam, nf, na, coord),
            "",
            do_atomic_virial,
        )

    @torch.jit.export
    def forward_lower(
        self,
        extended_coord: torch.Tensor,
        extended_atype: torch.Tensor,
        extended_spin: torch.Tensor,
        nlist: torch.Tensor,
        mapping: torch.Tensor | None = None,
        fparam: torch.Tensor | None = None,
        aparam: torch.Tensor | None = None,
        do_atomic_virial: bool = False,
        comm_dict: dict[str, torch.Tensor] | None = None,
        charge_spin: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Evaluate local atoms among ghosts, with a given neighbour list; see :class:`Program`.

        The list must hold the neighbours within the cutoff and the longest displacement.

        Parameters
        ----------
        extended_spin : as extended_coord
        """
        nf, nall = extended_atype.shape[0], extended_atype.shape[1]
        nloc = nlist.shape[1]
        xyz = extended_coord.to(torch.float64).reshape(nf * nall, 3)
        types = extended_atype.to(torch.int64)
        real = types[:, :nloc] >= 0
        given = (nlist >= 0) & real[:, :, None]
        where = torch.nonzero(given)
        first = where[:, 0] * nall
        centre, neighbor = first + where[:, 1], first + nlist[given].to(torch.int64)
        seen = types.reshape(-1)[neighbor] >= 0
        centre, neighbor = centre[seen], neighbor[seen]
        images = torch.full_like(types, -1).reshape(-1)
        if self.message_passing:
            number = torch.cumsum(real.reshape(-1).to(torch.int64), 0).reshape(nf, nloc) - 1
            every = torch.arange(nf * nall, device=types.device)
            frame = torch.div(every, nall, rounding_mode="floor")
            owner = self.owners(mapping, comm_dict, frame, every - frame * nall)
            images = number[frame, owner]
        return self.results(
            centre,
            neighbor,
            xyz[neighbor] - xyz[centre],
            self.shifts(extended_spin, types),
            types,
            nloc,
            images,
            self.frame_parameters(fparam, charge_spin, nf),
            self.atom_parameters(aparam, nf, nloc, extended_coord),
            "extended",
            do_atomic_virial,
        )

    def results(
        self,
        centre: torch.Tensor,
        neighbor: torch.Tensor,
        vec: torch.Tensor,
        shift: torch.Tensor,
        types: torch.Tensor,
        nloc: int,
        images: torch.Tensor,
        fparam: torch.Tensor,
        aparam: torch.Tensor,
        kind: str,
        do_atomic_virial: bool,
    ) -> dict[str, torch.Tensor]:
        """Evaluate atoms and partners, and give the partners' results to their atoms.

        Parameters
        ----------
        centre, neighbor : (n_pairs,)
            Places of atoms.
        vec : (n_pairs, 3) [Å]
        shift : (n_frames * n_all, 3) [Å]
            From an atom to its partner.
        types : (n_frames, n_all)
        nloc : int
            The first atoms of a frame are centres, the others ghosts.
        images : (n_frames * n_all,)
            Number among the real centres of the atom in a place, -1 where it does not matter.
        fparam : (n_frames, d)
        aparam : (n_frames, n_local, d)
        kind : str
            Whether ghosts are among the atoms.
        """
        nf, nall = types.shape[0], types.shape[1]
        real = types[:, :nloc] >= 0
        rows = torch.nonzero(real)
        sites = rows[:, 0] * nall + rows[:, 1]
        number = torch.full_like(types, -1).reshape(-1)
        number[sites] = torch.arange(sites.shape[0], device=types.device)
        i, j, vec = self.with_partners(centre, neighbor, vec, sites, shift)
        own = types[:, :nloc][real]
        nt = len(self.use_spin)
        both_types = torch.stack([own, own + nt], 1).reshape(-1)
        ni, nj = torch.div(i, 2, rounding_mode="floor"), torch.div(j, 2, rounding_mode="floor")
        known, kinds = images[nj], types.reshape(-1)[nj] + (j - 2 * nj) * nt
        raw = self.evaluate(
            vec,
            2 * number[ni] + (i - 2 * ni),
            torch.where(known >= 0, 2 * known + (j - 2 * nj), 2 * sites.shape[0] + kinds),
            both_types,
            rows[:, 0].repeat_interleave(2),
            fparam,
            torch.cat(
                [
                    aparam[real].repeat_interleave(2, 0),
                    torch.stack([0.0 * shift[sites], shift[sites]], 1).reshape(-1, 3),
                ],
                dim=1,
            ),
        )
        place = 2 * (rows[:, 0] * nloc + rows[:, 1])
        places = torch.stack([place, place + 1], 1).reshape(-1)
        both = self.totals(raw, both_types, places, nf, 2 * nloc)
        # Spins stay as they are when the cell is deformed: what counts are the vectors of the sites.
        strained = vec + shift[ni] * (i - 2 * ni)[:, None] - shift[nj] * (j - 2 * nj)[:, None]
        self.add_derivatives(both, raw, strained, i, j, nf, 2 * nall, kind, do_atomic_virial)
        return self.folded(both, types, real, kind)

    def folded(
        self, both: dict[str, torch.Tensor], types: torch.Tensor, real: torch.Tensor, kind: str
    ) -> dict[str, torch.Tensor]:
        """Results of atoms from those of atoms and partners."""
        prefix = "" if kind == "" else "extended_"
        out: dict[str, torch.Tensor] = {}
        for name, value in both.items():
            if name in ("force", "extended_force", "atom_virial", "extended_virial"):
                out[name] = value[:, 0::2] + value[:, 1::2]
            elif name.startswith("atom_"):
                out[name] = value[:, 0::2]
            else:
                out[name] = value
        inner = types.clamp(min=0)
        magnetic = torch.tensor(self.use_spin, device=types.device)[inner] & (types >= 0)
        out[prefix + "force_mag"] = both[prefix + "force"][:, 1::2] * self.scale[inner][:, :, None]
        out[prefix + "mask_mag"] = magnetic[:, :, None]
        out["mask"] = real.to(torch.int32)
        return out

    def shifts(self, spin: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """Vectors (n_atoms of all frames, 3) [Å] from atoms to partners; 0 for virtual atoms."""
        zero = torch.zeros_like(self.scale[:1])
        scale = torch.where(types < 0, zero, self.scale[types.clamp(min=0)])
        return spin.to(torch.float64).reshape(-1, 3) * scale.reshape(-1, 1)

    def with_partners(
        self,
        centre: torch.Tensor,
        neighbor: torch.Tensor,
        vec: torch.Tensor,
        sites: torch.Tensor,
        shift: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs of atoms and partners within the cutoff, sorted by centre: 2 place (+ 1), vectors.

        Partners are centres in models that exchange messages only. They come before the atoms, as
        in :meth:`deepmd.dpmodel.model.SpinModel.expand`.
        """
        i_parts: list[torch.Tensor] = []
        j_parts: list[torch.Tensor] = []
        parts: list[torch.Tensor] = []
        for b in (1, 0):
            for a in range(2 if self.message_passing else 1):
                i_parts.append(2 * centre + a)
                j_parts.append(2 * neighbor + b)
                parts.append(vec + b * shift[neighbor] - a * shift[centre])
                if a != b:
                    i_parts.append(2 * sites + a)
                    j_parts.append(2 * sites + b)
                    parts.append((b - a) * shift[sites])
        i, j, vec = torch.cat(i_parts), torch.cat(j_parts), torch.cat(parts)
        order = torch.argsort(i, stable=True)
        i, j, vec = i[order], j[order], vec[order]
        r2 = (vec * vec).sum(-1)
        same = torch.div(i, 2, rounding_mode="floor") == torch.div(j, 2, rounding_mode="floor")
        near = (r2 <= self.rcut * self.rcut) & ((r2 > 0.0) | same)
        return i[near], j[near], vec[near]

    # -- queries ------------------------------------------------------------------------------

    @torch.jit.export
    def has_spin(self) -> bool:
        """Whether atoms have spins."""
        return True

    @torch.jit.export
    def get_use_spin(self) -> list[bool]:
        """Which types have a spin."""
        return self.use_spin
