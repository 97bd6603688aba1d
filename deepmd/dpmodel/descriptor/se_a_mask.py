# SPDX-License-Identifier: LGPL-3.0-or-later
"""Smooth-edition descriptor of whole open frames, in which a mask hides atoms.

As se_e2_a (:mod:`deepmd.dpmodel.descriptor.se_e2_a`) without cutoff: every atom sees every other one that the
mask leaves, and the rows of the environment are ``(1/r, x/r², y/r², z/r²)`` without mean and deviation.
"""

from typing import Any

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel import ops
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, edge_ends
from deepmd.dpmodel.descriptor.se_e2_a import DescrptSeA
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import WHOLE_FRAME
from deepmd.dpmodel.nn.environment import environment
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.dpmodel.nn.type_embedding import TypeEmbedding
from deepmd.dpmodel.output_def import Level
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.settings import setting


@Descriptor.register("se_a_mask")
class DescrptSeAMask(DescrptSeA):
    r"""``D_i = T T_<ᵀ`` with ``T = (1/N) Σ_j m_i m_j G(1/r_ij) ⊗ R_ij`` over all atoms of an open frame.

    The masks m are 1 for atoms whose ``aparam`` is more than 1/2, else 0; N is the sum of ``sel``.
    """

    serial = Serial(
        layout="@class type @version sel neuron axis_neuron resnet_dt activation_function precision"
        " embeddings exclude_types type_map trainable type_one_side",
        name="Descriptor",
        type="se_a_mask",
        children=("embeddings",),
    )
    rcut = WHOLE_FRAME
    rcut_smth = 0.0
    env_protection = 0.0
    set_davg_zero = True

    sel: list[int] = setting(
        ...,
        "Largest number of atoms of each type in a frame.",
        kind=[list[int]],
    )

    def build(self) -> None:
        super().build()
        self.davg = self.dstd = None  # type: ignore[assignment]

    @property
    def message_passing(self) -> bool:
        """True: the masks of neighbors matter, so that no atom can be evaluated without the others."""
        return True

    def inputs(self) -> tuple[InputDef, ...]:
        """The mask."""
        return (InputDef("aparam", Level.ATOM, 1),)

    def statistics_parts(self) -> list[Descriptor]:
        """Return nothing: rows are not normalized."""
        return []

    def change_statistics(self, change: TypeChange) -> None:
        """There are none."""

    @classmethod
    def with_type_embedding(cls, section: dict[str, Any], types: TypeEmbedding) -> dict[str, Any]:
        """Raise NotAvailableError: networks are per type."""
        raise NotAvailableError(
            "se_a_mask has networks per type, and none for vectors of types",
            where="model/type_embedding",
            fix="leave it out",
        )

    def compress(self, settings: TableSettings) -> list[str]:
        """Raise NotAvailableError: 1/r has no largest value that the frames would bound."""
        raise NotAvailableError("se_a_mask is not tabulated", where="model/descriptor/type")

    def normalized(self, a: int | None, atoms: Atoms, table: Any) -> Any:
        """Rows (n, K, 4) of the slots of a table, zero for empty slots and where an atom is hidden."""
        rows = environment(ops.take(atoms.padded, table), self.rcut, 0.0, switch=_unit).rows
        seen = ops.cast(table >= 0, "float64")
        mask = atoms.atom_inputs.get("aparam")
        if mask is not None:
            visible = ops.cast(mask[:, 0] > 0.5, "float64")
            for end in edge_ends(atoms, table):
                seen = seen * ops.take(visible, end)
        return rows * seen[:, :, None]

    def pair(self, a: int | None, b: int, atoms: Atoms, table: Any) -> Any:
        """Sum over the atoms of type b of G ⊗ R: (n, ng, 4); empty slots add nothing."""
        rows = self.rows(a, atoms, table, b)
        return self.network(a, b).contract(rows, order=atoms.order)


def _unit(r: Any, rcut: float, rcut_smth: float) -> Any:
    """Weight 1 at any distance."""
    return 0.0 * r + 1.0
