# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models: atomic contributions summed, and their derivatives, once for every kind of model.

Everything is a function of the edge vectors ``vec = r_j - r_i``. With ``g = ∂(Σ output)/∂vec`` the
force is ``F_i = Σ g(out of i) - Σ g(into i)``, the virial ``W_ab = -Σ g_a vec_b``, and the part of
an edge belongs to its neighbor atom.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from deepmd.base.errors import InputError
from deepmd.base.plugin import Registry
from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.base import AtomicModel
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.construction import constructing
from deepmd.dpmodel.descriptor.base import Atoms
from deepmd.dpmodel.fitting.base import kept_atoms
from deepmd.dpmodel.model.inputs import Inputs
from deepmd.dpmodel.model.modifier import Modifier
from deepmd.dpmodel.model.queries import ModelQueries
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.dpmodel.output_def import Level, of_level
from deepmd.dpmodel.type_map import TypeChange

#: Key of a vector–Jacobian product among the results of :meth:`Model.forward_edges`.
VJP = "vjp"


class Model(ModelQueries):
    """An atomic model and what follows from it.

    Parameters
    ----------
    atomic_model : AtomicModel
    """

    serial = Serial(children=("atomic_model",))
    #: Energy of whole frames that is added, if there is one.
    modifier: Modifier | None = None
    #: Models that are more than their atomic model, by the ``type`` of their dictionary.
    registry: ClassVar[Registry] = Registry("model")

    def __init__(self, atomic_model: AtomicModel) -> None:
        self.atomic_model = atomic_model

    # -- changes ------------------------------------------------------------------------------

    def compress(self, settings: TableSettings) -> list[str]:
        """Tabulate the embedding networks, in place, which stay beside their tables.

        Returns
        -------
        list of str
            What stays as it was, a line each.

        Raises
        ------
        InputError
            If nothing can be tabulated.
        """
        if self.has_spin():  # without a spin, an atom and its partner are at one place
            settings = settings._replace(closest=0.0)
        lines = list(dict.fromkeys(self.atomic_model.compress(settings)))
        if not self.compressed():
            raise InputError(
                "; ".join(lines) or "there is no embedding network",
                where="dp compress",
                fix="nothing of this model can be tabulated",
            )
        return lines

    def uncompress(self) -> None:
        """Drop the tables of embedding networks, in place."""
        self.atomic_model.uncompress()

    def change_types(self, change: TypeChange) -> None:
        """Adopt another type map."""
        self.atomic_model.change_types(change)
        if self.modifier is not None:
            self.modifier.change_types(change)

    # -- evaluation ---------------------------------------------------------------------------

    def expand(self, batch: Batch, *, all_centers: bool = False) -> Batch:
        """Return the batch that is prepared and evaluated in place of the given one.

        Its types are numbered by ``atomic_model.type_map``. Expanding it again changes nothing.
        Models with spins and sums over fragments need another batch than the given one.

        Parameters
        ----------
        batch : Batch
            With edges.
        all_centers : bool
            Keep neighbors of atoms that add nothing to the result; statistics need them.
        """
        return batch

    def for_statistics(self, batch: Batch) -> Batch:
        """Return the batch that statistics of descriptors are taken from, with its edges."""
        return self.expand(batch, all_centers=True)

    def strain_vectors(self, inputs: Inputs) -> Any:
        """Return the part of the edge vectors that a deformation of the cell changes [Å]."""
        return inputs.vec

    def atomic(
        self, inputs: Inputs, extra: Sequence[str] = (), *, order: int = 3
    ) -> dict[str, Any]:
        """Evaluate every atom, biases included: {name: (n_atoms, size) float64}.

        ``order`` is the highest derivative that will be asked for, see :mod:`deepmd.dpmodel.ops`.
        """
        slots, start = {}, 0
        for packing in self.packings():
            slots[packing] = list(inputs.slots[start : start + packing.n_tables])
            start += packing.n_tables
        pad = ops.like([[self.rcut, 0.0, 0.0]], inputs.vec)
        atoms = Atoms(
            ops.xp(inputs.vec).concat([inputs.vec, pad], axis=0),
            inputs.i,
            inputs.j,
            inputs.atype,
            inputs.frame,
            inputs.frame_inputs,
            inputs.atom_inputs,
            order,
        )
        return self.atomic_model(atoms, slots, extra)

    def forward_edges(
        self,
        inputs: Inputs,
        extra: Sequence[str] = (),
        *,
        order: int = 1,
        cotangent: Mapping[str, Any] | None = None,
        weights: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Evaluate every atom, and the gradients with respect to the edge vectors.

        Parameters
        ----------
        inputs, extra, order
            As of :meth:`predict`.
        cotangent : dict of str to array, optional
            Outputs by name, (n_atoms, d): one vector–Jacobian product, the gradient of
            ``Σ_i c_i · y_i``, in place of the gradient of every summed component.
        weights : dict of str to array, optional
            Differentiable outputs by name, (n_atoms, d): weights of the atoms in the sums whose
            gradients are returned, one by default.

        Returns
        -------
        dict
            {name: (n_atoms, d), name_grad: (n_edges, d, 3)} float64; the second where the output
            is differentiable. With a cotangent ``vjp`` (n_edges, 3) in place of the gradients.
        """
        if cotangent is not None:
            return self._vjp(inputs, extra, cotangent, order=order)
        variables = self.differentiable()
        if not variables:
            return self.atomic(inputs, extra)
        if order == 2 and sum(v.size for v in variables) > 1:
            order = 3  # forms of order 2 serve one gradient

        def energy(vec: Any) -> tuple[dict[str, Any], list[Any]]:
            values = self.atomic(inputs._replace(vec=vec), extra, order=order)
            space = ops.xp(vec)
            weighted = values if weights is None else {k: w * values[k] for k, w in weights.items()}
            return values, [
                space.sum(weighted[v.name][:, c]) for v in variables for c in range(v.size)
            ]

        values, gradients = ops.edge_gradient(inputs.vec, energy, order=order)
        out, start = dict(values), 0
        for v in variables:
            part = gradients[start : start + v.size]
            out[v.edge_name] = ops.xp(inputs.vec).stack(part, axis=1)
            start += v.size
        return out

    def _vjp(
        self,
        inputs: Inputs,
        extra: Sequence[str],
        cotangent: Mapping[str, Any],
        *,
        order: int,
    ) -> dict[str, Any]:
        def contraction(vec: Any) -> tuple[dict[str, Any], list[Any]]:
            values = self.atomic(inputs._replace(vec=vec), extra, order=order)
            space = ops.xp(vec)
            return values, [sum(space.sum(c * values[name]) for name, c in cotangent.items())]

        values, (gradient,) = ops.edge_gradient(inputs.vec, contraction, order=order)
        return {**values, VJP: gradient}

    def predict(
        self,
        inputs: Inputs,
        n_frames: int,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
        order: int = 1,
    ) -> dict[str, Any]:
        """Evaluate frames.

        Parameters
        ----------
        inputs : Inputs
        n_frames : int
        derivatives : sequence of str
            Which of ``force``, ``virial``, ``atom_virial`` are wanted.
        extra : sequence of str
            Further atomic results, see :meth:`AtomicModel.call`.
        order : int
            Highest derivative that will be asked for: 1 that of the results by positions, 2
            derivatives of these by parameters, as in training, 3 any.

        Returns
        -------
        dict
            For an energy model ``energy`` (n_frames, 1), ``atom_energy`` (n_atoms, 1), ``force``
            (n_atoms, 3), ``virial`` (n_frames, 9), ``atom_virial`` (n_atoms, 9) [eV, Å]. For an
            output of several components the derivatives have an axis of components in the
            middle: ``force`` (n_atoms, size, 3). Outputs that are not differentiable have none.
            Where types are excluded, ``mask`` (n_atoms, 1) is 0 for their atoms.
        """
        if derivatives:
            raw = self.forward_edges(inputs, extra, order=order)
        else:
            raw = self.atomic(inputs, extra)
        return self.assemble(raw, inputs, n_frames, derivatives)

    def assemble(
        self,
        raw: dict[str, Any],
        inputs: Inputs,
        n_frames: int,
        derivatives: Sequence[str],
        terms: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Sum atomic values over frames, and edge gradients to forces and virials.

        ``terms``, those of a :class:`Modifier`, are added to the results of these names.
        """
        out: dict[str, Any] = {}
        if derivatives:
            inputs = inputs._replace(vec=self.strain_vectors(inputs))
        known = self.output_def().get_data()
        per_edge = of_level(self.output_def().raw_results(), Level.EDGE)
        excluded = len(self.atomic_model.atom_exclude_types) > 0
        for name, value in raw.items():
            if name in known:
                out[known[name].atom_name] = value
                out[name] = ops.segment_sum(value, inputs.frame, n_frames)
                mask = self.mask(value, inputs) if known[name].intensive or excluded else None
                if known[name].intensive:
                    counts = ops.segment_sum(mask, inputs.frame, n_frames)
                    out[name] = out[name] / ops.xp(counts).clip(counts, 1.0, None)
                if excluded:
                    out["mask"] = mask
            elif name not in per_edge:
                out[name] = value
        for v in self.differentiable() if derivatives else []:
            parts = [
                self.derivatives(raw[v.edge_name][:, c, :], inputs, n_frames, derivatives)
                for c in range(v.size)
            ]
            for key in parts[0]:
                one = len(parts) == 1
                out[key] = (
                    parts[0][key]
                    if one
                    else ops.xp(inputs.vec).stack([p[key] for p in parts], axis=1)
                )
        return with_terms(out, terms)

    def mask(self, value: Any, inputs: Inputs) -> Any:
        """Return 1 for atoms that count and 0 for those of excluded types: (n_atoms, 1)."""
        atomic = self.atomic_model
        return kept_atoms(atomic.atom_exclude_types, atomic.ntypes, inputs.atype, value)

    @staticmethod
    def derivatives(g: Any, inputs: Inputs, n_frames: int, wanted: Sequence[str]) -> dict[str, Any]:
        """Force (n_atoms, 3), virial (n_frames, 9), atomic virial (n_atoms, 9) from g (n_edges, 3)."""
        out = {}
        n = ops.shape(inputs.atype)[0]
        space = ops.xp(g)
        if "force" in wanted:
            out["force"] = ops.segment_sum(g, inputs.i, n) - ops.segment_sum(g, inputs.j, n)
        single = isinstance(n_frames, int) and n_frames == 1
        if "atom_virial" in wanted or ("virial" in wanted and not single):
            pair = -1.0 * g[:, :, None] * inputs.vec[:, None, :]
            pair = space.reshape(pair, (ops.shape(g)[0], 9))
            atom = ops.segment_sum(pair, inputs.j, n)
            if "atom_virial" in wanted:
                out["atom_virial"] = atom
            out["virial"] = ops.segment_sum(atom, inputs.frame, n_frames)
        elif "virial" in wanted:
            total = -1.0 * space.matmul(ops.matrix_transpose(g), inputs.vec)
            out["virial"] = space.reshape(total, (1, 9))
        return out

    # -- dictionaries -------------------------------------------------------------------------

    def serialize(self) -> dict:
        """Return the dictionary of the atomic model, and under ``modifier`` that of a modifier."""
        data = self.atomic_model.serialize()
        return data if self.modifier is None else {**data, "modifier": self.modifier.serialize()}

    @classmethod
    def deserialize(cls, data: dict) -> "Model":
        """Build a model from its dictionary.

        Raises
        ------
        ModelFileError
            If it is of another form, whatever is wrong with it.
        """
        with constructing(data, complete=True):
            if cls is Model and data.get("type") in cls.registry:
                return cls.registry.get(data["type"]).deserialize(data)
            data = dict(data)
            given = data.pop("modifier", None)
            atomic = AtomicModel.deserialize(data)  # which may have loaded a plugin
            known = cls is Model and data.get("type") in cls.registry
            model = cls.registry.get(data["type"])(atomic) if known else cls(atomic)
            if given is not None:
                model.modifier = Modifier.deserialize(given)
                model.modifier.adopt(model.get_type_map())
            return model


def with_terms(out: dict[str, Any], terms: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return results with the terms of a modifier added to those of the same names."""
    return {k: v + terms[k] if terms and k in terms else v for k, v in out.items()}


def get_model(data: dict[str, Any]) -> Model:
    """Build the model of a ``model`` section; the name of clients for two functions.

    See :func:`deepmd.schema.check.normalize_model` and :func:`deepmd.dpmodel.model.build_model`.
    """
    from deepmd.dpmodel.model.build import build_model
    from deepmd.schema.check import normalize_model

    return build_model(normalize_model(data))
