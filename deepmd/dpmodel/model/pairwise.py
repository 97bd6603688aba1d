# SPDX-License-Identifier: LGPL-3.0-or-later
"""QM/MM corrections that are sums over the fragments around a QM region.

Zeng, Giese, Ekesan and York, J. Chem. Theory Comput. 17, 6993 (2021).
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.dpmodel import ops
from deepmd.dpmodel.atomic_model.pairwise import PairwiseAtomicModel
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.fragments import split_regions
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.model.inputs import Inputs
from deepmd.dpmodel.model.model import Model, with_terms
from deepmd.dpmodel.output_def import Level, of_level

#: Keys of the section that both models may have, and the whole does not.
_OF_PARTS = ("spin", "modifier", "use_srtab", "pair_exclude_types", "atom_exclude_types")


@Model.registry.register("pairwise_dprc")
class PairwiseModel(Model):
    """``E = E_QM(QM) + Σ_f E_QMMM(QM + f)`` over the fragments f.

    Regions come as ``aparam``: 0 for QM atoms, 1, 2, … for the atoms of each fragment, -1 for atoms
    that are left out. The QM atoms are copied for every fragment, and an atom's results are the
    sums over its copies.

    Parameters
    ----------
    atomic_model : PairwiseAtomicModel
    """

    @classmethod
    def from_section(cls, section: dict[str, Any]) -> "PairwiseModel":
        """Build the model of a checked section.

        Raises
        ------
        InputError
            If the models do not fit each other.
        """
        # It knows this class by name.
        from deepmd.dpmodel.model.build import build_atomic_model

        for name in _OF_PARTS:
            if section.get(name):
                raise NotAvailableError(
                    "is not built for pairwise_dprc",
                    where=f"model/{name}",
                    fix="leave it out, or give it in qm_model and qmmm_model",
                )
        names, shared = section.get("type_map"), section.get("type_embedding")
        if not names:
            raise InputError("no type_map", where="model", fix='name the types, e.g. ["O", "H"]')
        parts = []
        for name in ("qm_model", "qmmm_model"):
            own = {k: v for k, v in section[name].items() if k != "type_embedding" or v}
            given = {"type_map": names, **own}
            if shared is not None:
                if "type_embedding" in own:
                    raise InputError(
                        "both models have that of the whole",
                        where=f"model/{name}/type_embedding",
                        fix="leave it out",
                    )
                given["type_embedding"] = copy.deepcopy(shared)
            parts.append(build_atomic_model(given, f"model/{name}"))
        preset = {k: section[k] for k in ("preset_out_bias",) if k in section}
        atomic = PairwiseAtomicModel(*parts, names, **preset)
        atomic.set_given_biases()
        if shared is not None:
            atomic.share_types()
        return cls(atomic)

    # -- queries ------------------------------------------------------------------------------

    def expands(self) -> bool:
        """Whether another batch than the given one is evaluated."""
        return True

    def entry_inputs(self) -> tuple[InputDef, ...]:
        """Inputs of the evaluation entry: roles in place of regions."""
        others = (one for one in self.inputs() if one.name != "aparam")
        return (*others, InputDef("role", Level.ATOM, 1))

    def assembly_inputs(self) -> tuple[InputDef, ...]:
        """Atoms that others are copies of, and the places of atoms among their copies."""
        return (InputDef("owner", Level.ATOM, 1), InputDef("place", Level.ATOM, 1))

    def example_aparam(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return regions of ``n`` atoms for an example: (n, 1)."""
        return rng.integers(-1, 4, size=(n, 1)).astype(np.float64)

    # -- evaluation ---------------------------------------------------------------------------

    def expand(self, batch: Batch, *, all_centers: bool = False) -> Batch:
        """Return the batch with copies of the QM atoms; see :class:`Model`.

        Raises
        ------
        InputError
            If there are no regions, or other numbers.
        """
        if batch.owner is not None:
            return batch
        if batch.aparam is None:
            raise InputError(
                "the model needs the regions of the atoms, none are given",
                where="aparam",
                fix="give 0 for QM atoms, 1, 2, … for the fragments, -1 for atoms left out",
            )
        return split_regions(batch)

    def for_statistics(self, batch: Batch) -> Batch:
        """Return the batch as it is: the surroundings of all atoms, whatever their region."""
        return batch

    def assemble(
        self,
        raw: dict[str, Any],
        inputs: Inputs,
        n_frames: int,
        derivatives: Sequence[str],
        terms: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Sum over atoms and copies, and give the results of copies to their atoms."""
        copies = super().assemble(raw, inputs, n_frames, derivatives)
        per_frame = of_level(self.output_def().results(), Level.FRAME)
        owner = ops.cast(inputs.atom_inputs["owner"][:, 0], "int64")
        place = ops.cast(inputs.atom_inputs["place"][:, 0], "int64")
        (n,) = ops.shape(place)
        out: dict[str, Any] = {}
        for name, value in copies.items():
            if name in per_frame:
                out[name] = value
            elif name == "mask":
                out[name] = ops.take(value, place)
            else:  # row 0 is that of padding
                out[name] = ops.segment_sum(value, owner, n + 1)[1:]
        return with_terms(out, terms)
