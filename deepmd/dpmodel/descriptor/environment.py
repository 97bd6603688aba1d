# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptors on the environment matrix: normalization, exclusions, statistics."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, ModelFileError
from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.construction import claim
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput
from deepmd.dpmodel.module import Serial
from deepmd.dpmodel.neighbors import Packing, pack
from deepmd.dpmodel.nn.activation import precision_name
from deepmd.dpmodel.nn.environment import environment_matrix
from deepmd.dpmodel.nn.tabulation import Limits, Tables, TableSettings, tabulated
from deepmd.dpmodel.type_map import TypeChange
from deepmd.schema.descriptor import (
    ENV_PROTECTION,
    EXCLUDE_TYPES,
    TRAINABLE,
    CutoffSettings,
)
from deepmd.schema.network import PRECISION, SEED
from deepmd.schema.settings import setting

STD_FLOOR = 0.01
STD_WITHOUT_DATA = 0.1


class EnvironmentDescriptor(CutoffSettings, Descriptor):
    """A descriptor that reads rows of the environment matrix, normalized by center type.

    The definition has ``nnei`` slots; the empty ones hold a row of zeros before normalization,
    ``-davg/dstd`` after. Files repeat ``davg`` and ``dstd`` for every slot.
    """

    width = 4  # numbers in a row of the environment matrix
    child_kinds = {"compress": Tables}
    #: Tables of the embedding networks, where they are compressed.
    tables: Any
    ntypes: int

    exclude_types: list[list[int]] = EXCLUDE_TYPES
    env_protection: float = ENV_PROTECTION
    precision: str = PRECISION
    trainable: bool = TRAINABLE
    seed: int | tuple[int, ...] | None = SEED
    set_davg_zero: bool = setting(False, "Take the mean of the environment as 0.")

    def build(self) -> None:
        super().build()
        if any(isinstance(n, str) for n in self.sel):
            raise InputError(
                "the numbers of neighbors are not known",
                where="model/descriptor",
                fix='give numbers in place of "auto", which training finds in its data',
            )
        claim(self.ntypes, self.width)
        self.tables = None
        self.davg = np.zeros((self.ntypes, self.width))
        self.dstd = np.ones((self.ntypes, self.width))

    @property
    def dtype(self) -> str:
        """Name of the precision."""
        return precision_name(self.precision)

    @property
    def nnei(self) -> int:
        """Number of slots, all types together."""
        return sum(self.sel)

    @property
    def reads_beyond_cutoff(self) -> bool:
        """Whether excluded neighbors take slots that would be filled with the mean."""
        return bool(self.exclude_types) and not self.set_davg_zero

    @property
    def env_mat(self) -> dict[str, Any]:
        """Settings of the environment matrix, for the dictionary."""
        return {
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            # Files say 0 for the parts of a descriptor, whatever it is.
            "protection": self.env_protection if self.serial.type else 0.0,
            "use_exp_switch": False,
        }

    @property
    def std_of_new_types(self) -> float:
        """Deviation of types that a change of the type map adds."""
        return 1.0

    @property
    def empty_slots_contribute(self) -> bool:
        """Whether the empty slots of an atom change its descriptor."""
        return False

    @property
    def depends_on_order(self) -> bool:
        """Whether empty slots take the type of the frame's first atom."""
        return False

    def warnings(self, hidden: Collection[tuple[int, int]] = ()) -> list[str]:
        """Return what a user should know of the physics; see :class:`Descriptor`."""
        found = []
        if self.empty_slots_contribute and self.depends_on_order:
            found.append(
                "energies of this model depend on the order of the atoms: in empty slots the type "
                "embedding is that of the first atom; train with set_davg_zero, or with "
                'tebd_input_mode "strip" and smooth_type_embedding'
            )
        if self.empty_slots_contribute and sorted_pairs(self.exclude_types) - set(hidden):
            found.append(
                "energies jump when a neighbor excluded by exclude_types crosses the cutoff: it "
                "contributes nothing, but an empty slot contributes the mean; set set_davg_zero, "
                "or use pair_exclude_types of the model"
            )
        return found

    def change_types(self, change: TypeChange) -> np.ndarray | None:
        """Reorder the statistics, and adopt the type map; see :class:`Descriptor`."""
        self.change_statistics(change)
        return super().change_types(change)

    def change_statistics(self, change: TypeChange) -> None:
        """Reorder the statistics; those of new types change nothing."""
        self.davg = change.rows(self.davg, 0.0)
        self.dstd = change.rows(self.dstd, self.std_of_new_types)
        self.tables = None  # their range and order follow from the types

    def excluded(self, a: int, b: int) -> bool:
        """Whether neighbors of type b count nothing for centers of type a."""
        return [a, b] in self.exclude_types or [b, a] in self.exclude_types

    def normalized(self, a: int | None, atoms: Atoms, table: Any) -> Any:
        """Environment rows (n, K, width) of the slots of a table, normalized, float64.

        ``a`` is the type of all centers, or None when ``table`` has a row for every atom.
        """
        r = environment_matrix(
            ops.take(atoms.padded, table),
            self.rcut,
            self.rcut_smth,
            self.env_protection,
            radial=self.width == 1,
        )
        return (r - per_center(self.davg, a, atoms)) / per_center(self.dstd, a, atoms)

    def padding_row(self, a: int | None, atoms: Atoms) -> Any:
        """Row (n or 1, 1, width) of an empty slot, normalized, in the precision."""
        return ops.cast(per_center(-self.davg / self.dstd, a, atoms), self.dtype)

    # -- tables ------------------------------------------------------------------------------------

    @property
    def stored_version(self) -> int:
        """Version of the dictionary: a later one with tables."""
        return self.serial.version + (self.tables is not None)

    def tabulated(
        self,
        network: Any,
        limits: Limits,
        settings: TableSettings,
        *,
        symmetric: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Table of a network, in the precision, and its description."""
        data, info = tabulated(network, limits, settings, symmetric=symmetric)
        return data.astype(self.dtype), info

    def uncompress(self) -> None:
        """Go back to the networks; see :class:`Descriptor`."""
        self.tables = None

    def radial_limits(self, centers: Sequence[int], settings: TableSettings) -> Limits:
        """Limits of the components of rows that centers of some types have."""
        davg, dstd = self.davg[list(centers)], self.dstd[list(centers)]

        def largest(distance: float) -> float:
            weight = self._row_at(distance)[0]
            return float(np.ceil((weight - davg) / dstd).max())

        end = () if settings.closest is None else (largest(settings.closest),)
        lower = float(np.floor(-davg / dstd).min())
        return Limits(lower, largest(settings.min_distance), *end)

    def _row_at(self, distance: float) -> np.ndarray:
        """Row of the environment matrix of a neighbor along x."""
        d = np.array([max(distance, 1e-20), 0.0, 0.0])
        return environment_matrix(d, self.rcut, self.rcut_smth, self.env_protection)

    def angular_limits(self, centers: Sequence[int], settings: TableSettings) -> Limits:
        """Limits of products of the angular components of two rows of centers of some types."""
        dstd = self.dstd[list(centers), 1:]

        def largest(distance: float) -> float:
            return float(np.ceil(((self._row_at(distance)[1] / dstd) ** 2).max()))

        most = largest(settings.min_distance)
        end = () if settings.closest is None else (largest(settings.closest),)
        return Limits(-most, most, *end)

    # -- statistics: mean and deviation over all slots, the empty ones included ----------------

    def statistics_key(self) -> dict[str, Any]:
        """Return what the statistics depend on."""
        return {
            "type": "se_r" if self.width == 1 else "se_a",
            "ntypes": self.ntypes,
            "rcut": round(self.rcut, 2),
            "rcut_smth": round(self.rcut_smth, 2),
            "nsel": self.nnei,
            "sel": self.sel,
            "mixed_types": self.mixed_types,
        }

    def environment_sums(self, batch: Batch) -> dict[str, np.ndarray]:
        """Sum environment rows by center type: number of slots, sum, sum of squares."""
        vec = batch.vectors()
        layout = "mixed" if self.mixed_types else "typed"
        packing = Packing(layout, self.ntypes, self.rcut, tuple(self.sel))
        tables = pack([packing], batch.edges, batch.atype, vec)
        sums = {f"{kind}_{t}": np.zeros(3) for t in range(self.ntypes) for kind in "ra"}
        for t in range(self.ntypes):
            centers = int((batch.atype == t).sum())
            sums[f"r_{t}"][0], sums[f"a_{t}"][0] = centers * self.nnei, 3 * centers * self.nnei
        pairs = np.array(
            [[self.excluded(a, b) for b in range(self.ntypes)] for a in range(self.ntypes)]
        )
        edge = np.concatenate([table[table >= 0] for table in tables])
        center, neighbor = batch.atype[batch.edges.i[edge]], batch.atype[batch.edges.j[edge]]
        r = environment_matrix(vec[edge], self.rcut, self.rcut_smth, self.env_protection)
        r = r * ~pairs[center, neighbor][:, None]
        for t in range(self.ntypes):
            mine = r[center == t]
            for kind, values in (("r", mine[:, :1]), ("a", mine[:, 1:])):
                sums[f"{kind}_{t}"][1:] += values.sum(), (values * values).sum()
        return sums

    def set_statistics(self, sums: Mapping[str, np.ndarray]) -> None:
        """Set ``davg`` and ``dstd`` from the sums of all sampled frames."""
        for t in range(self.ntypes):
            mean_r, std_r = moments(sums[f"r_{t}"])
            _, std_a = moments(sums[f"a_{t}"])
            self.dstd[t] = [std_r, std_a, std_a, std_a][: self.width]
            self.davg[t] = 0.0
            if not self.set_davg_zero:
                self.davg[t, 0] = mean_r

    # -- dictionaries: files repeat the statistics for every slot ------------------------------

    def serialize(self) -> dict:
        """Return the neutral dictionary; files name the precision, its parts as it was given."""
        data = super().serialize()
        return data | {"precision": self.dtype} if "precision" in data else data

    def stored_array(self, name: str) -> Any:
        value = super().stored_array(name)
        if name in ("davg", "dstd"):
            return np.repeat(value[:, None, :], self.nnei, axis=1)
        return value

    def restore_array(self, name: str, value: Any) -> Any:
        if name in ("davg", "dstd"):
            value = np.asarray(value)
            if value.shape != (self.ntypes, self.nnei, self.width):
                raise ModelFileError(
                    f"{name} has shape {value.shape}, "
                    f"expected {(self.ntypes, self.nnei, self.width)}"
                )
            if self.nnei and not (value == value[:, :1]).all():
                raise ModelFileError(f"{name} differs between the slots of a type")
            if name == "davg" and "set_davg_zero" in self.settings and value.any():
                self.set_davg_zero = False  # what counts is that empty slots have a mean
            return np.array(value[:, 0] if self.nnei else np.ones((self.ntypes, self.width)))
        return super().restore_array(name, value)


def symmetrized(sums: Any, nnei: int, axis_neuron: int) -> DescriptorOutput:
    """``T T_<ᵀ`` of ``T = (1/N) Σ_j G_ij ⊗ R_ij``, ``T_<`` being its first rows.

    Parameters
    ----------
    sums : (n, ng, 4)
        Over the slots of each atom.
    nnei, axis_neuron : int
        Number of slots, and of rows.

    Returns
    -------
    DescriptorOutput
        value (n, ng * axis_neuron), rotation (n, ng, 3).
    """
    t = sums * (1.0 / nnei)
    d = ops.xp(t).matmul(t, ops.matrix_transpose(t[:, :axis_neuron, :]))
    n, ng, _ = ops.shape(t)
    return DescriptorOutput(ops.xp(d).reshape(d, (n, ng * axis_neuron)), t[:, :, 1:])


def sorted_pairs(pairs: Sequence[Sequence[int]]) -> set[tuple[int, int]]:
    """Return pairs of types, each with the smaller number first."""
    return {(min(pair), max(pair)) for pair in pairs}


def per_center(table: Any, a: int | None, atoms: Atoms) -> Any:
    """Rows of a table per type, for centers of one type (1, 1, w) or every atom (n, 1, w)."""
    if a is not None:
        return table[a : a + 1, None, :]
    return ops.take(table, atoms.atype)[:, None, :]


def environment_serial(
    type_: str,
    layout: str,
    *,
    children: tuple[str, ...] = ("embeddings",),
    constants: tuple[str, ...] = ("env_mat", "spin"),
    **others: Any,
) -> Serial:
    """Return the form of the dictionary of such a descriptor, in its second version.

    The third has tables of the networks.
    """
    serial = Serial(
        layout=f"@class type @version {layout}",
        name="Descriptor",
        type=type_,
        version=2,
        accepts=(1, 2),
        buffers=("davg", "dstd"),
        children=children,
        constants=constants,
        upgrades={1: protected},
        **others,
    )
    return with_tables(serial)


def with_tables(serial: Serial) -> Serial:
    """Return the form of the dictionary of a descriptor whose networks may be tabulated."""
    return dataclasses.replace(
        serial,
        layout=f"{serial.layout} compress",
        children=(*serial.children, "tables"),
        optional=(*serial.optional, "tables"),
        keys={**serial.keys, "tables": "compress"},
        accepts=(*serial.accepts, serial.version + 1),
    )


def protected(data: dict) -> dict:
    """Upgrade version 1, which had no protection of the denominators."""
    return {"env_protection": 0.0, **data}


def moments(sums: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, at least the floor, from (number, sum, sum of squares)."""
    number, total, squares = sums
    if number == 0:
        return 0.0, STD_WITHOUT_DATA
    mean = total / number
    std = np.sqrt(max(0.0, squares / number - mean * mean))
    return mean, std if std >= STD_FLOOR else STD_FLOOR
