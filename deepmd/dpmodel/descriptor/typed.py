# SPDX-License-Identifier: LGPL-3.0-or-later
"""What descriptors with distinguished neighbour types share: statistics, slots and padding."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel import ops
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.descriptor.base import Atoms, Descriptor, DescriptorOutput, Slots
from deepmd.dpmodel.neighbors import Packing, pack
from deepmd.dpmodel.nn.activation import precision_name
from deepmd.dpmodel.nn.environment import environment_matrix
from deepmd.dpmodel.nn.layers import EmbeddingNetwork, NetworkCollection
from deepmd.dpmodel.nn.random import Seed, child_seed
from deepmd.utils.errors import ModelFileError

STD_FLOOR = 0.01
STD_WITHOUT_DATA = 0.1


class TypedDescriptor(Descriptor):
    """A descriptor that reads one block of neighbours per type, padded to what a batch needs.

    The definition has ``sel[b]`` slots for neighbours of type b; the empty ones hold a row of
    zeros before normalisation, ``-davg/dstd`` after. A block holds ``K`` slots, as many as the
    batch needs; the other ``sel[b] - K`` are a constant, which :meth:`padding_row` supplies.
    """

    width = 4  # numbers in a row of the environment matrix
    one_sided: bool

    def _init_environment(
        self,
        *,
        rcut: float,
        rcut_smth: float,
        sel: Sequence[int],
        exclude_types: Sequence[Sequence[int]],
        env_protection: float,
        set_davg_zero: bool,
        precision: str,
        type_map: Sequence[str] | None,
        trainable: bool,
    ) -> None:
        """Set what all of these descriptors hold; called by their constructors."""
        self.rcut, self.rcut_smth = float(rcut), float(rcut_smth)
        self.sel = [int(n) for n in sel]
        self.exclude_types = [list(pair) for pair in exclude_types]
        self.env_protection = env_protection
        self.set_davg_zero = set_davg_zero
        self.precision = precision_name(precision)
        self.type_map = None if type_map is None else list(type_map)
        self.trainable = trainable
        self.davg = np.zeros((self.ntypes, self.width))
        self.dstd = np.ones((self.ntypes, self.width))

    @property
    def ntypes(self) -> int:
        """Number of types."""
        return len(self.sel)

    @property
    def nnei(self) -> int:
        """Number of slots, all types together."""
        return sum(self.sel)

    @property
    def env_mat(self) -> dict[str, Any]:
        """Settings of the environment matrix, for the dictionary."""
        return {
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "protection": self.env_protection,
            "use_exp_switch": False,
        }

    def excluded(self, a: int, b: int) -> bool:
        """Whether neighbours of type b count nothing for centres of type a."""
        return [a, b] in self.exclude_types or [b, a] in self.exclude_types

    def packings(self) -> list[Packing]:
        """One table per neighbour type; centres grouped by type when the networks differ."""
        return [self.packing]

    @property
    def packing(self) -> Packing:
        """The layout of the neighbours."""
        return Packing("typed", self.ntypes, self.rcut, tuple(self.sel), not self.one_sided)

    def groups(self, atoms: Atoms, slots: Slots) -> Iterator[tuple[int | None, Any, list[Any]]]:
        """Iterate over (centre type or None, rows or None, tables per neighbour type)."""
        tables = slots[self.packing]
        if self.one_sided:
            yield None, None, tables
            return
        step = self.ntypes + 1
        for a in range(self.ntypes):
            part = tables[a * step : (a + 1) * step]
            yield a, part[0], part[1:]

    def rows(self, a: int | None, atoms: Atoms, table: Any, b: int) -> Any:
        """Normalised environment rows (n, K, width) of neighbours of type b, in the precision.

        ``a`` is the type of all centres, or None when ``table`` has a row for every atom.
        """
        d = ops.take(atoms.padded, table)
        r = environment_matrix(
            d, self.rcut, self.rcut_smth, self.env_protection, radial=self.width == 1
        )
        r = (r - self._per_centre(self.davg, a, atoms)) / self._per_centre(self.dstd, a, atoms)
        if any(self.excluded(t, b) for t in range(self.ntypes)):
            # An excluded neighbour counts nothing, but an empty slot beside it still does.
            seen = np.array([[float(not self.excluded(t, b))] for t in range(self.ntypes)])
            empty = ops.cast(table < 0, "float64")[:, :, None]
            seen = self._per_centre(ops.like(seen, r), a, atoms)
            r = r * (seen + (1.0 - seen) * empty)
        return ops.cast(r, self.precision)

    def padding_row(self, a: int | None, atoms: Atoms) -> Any:
        """Row (n or 1, 1, width) of an empty slot, normalised, in the precision."""
        return ops.cast(self._per_centre(-self.davg / self.dstd, a, atoms), self.precision)

    @staticmethod
    def _per_centre(table: Any, a: int | None, atoms: Atoms) -> Any:
        """Rows of a table per type, for centres of one type (1, 1, w) or every atom (n, 1, w)."""
        if a is not None:
            return table[a : a + 1, None, :]
        return ops.take(table, atoms.atype)[:, None, :]

    @staticmethod
    def assemble(
        atoms: Atoms, parts: Sequence[tuple[Any, DescriptorOutput]]
    ) -> DescriptorOutput:
        """Put the outputs of groups of centres, (rows, output), into the order of the atoms."""
        if len(parts) == 1 and parts[0][0] is None:
            return parts[0][1]
        n = ops.shape(atoms.atype)[0]
        space = ops.xp(parts[0][1].value)
        index = space.concat([rows for rows, _ in parts], axis=0)

        def merge(name: str) -> Any:
            values = [getattr(output, name) for _, output in parts]
            if values[0] is None:
                return None
            return ops.scatter_rows(space.concat(values, axis=0), index, n)

        return DescriptorOutput(merge("value"), merge("rotation"))

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
            "mixed_types": False,
        }

    def environment_sums(self, batch: Batch) -> dict[str, np.ndarray]:
        """Sum environment rows by centre type: number of slots, sum, sum of squares."""
        vec = batch.vectors()
        r2 = np.einsum("ea,ea->e", vec, vec)
        tables = pack([self._all_centres()], batch.edges, batch.atype, r2)
        sums = {f"{kind}_{t}": np.zeros(3) for t in range(self.ntypes) for kind in "ra"}
        for t in range(self.ntypes):
            centres = int((batch.atype == t).sum())
            sums[f"r_{t}"][0], sums[f"a_{t}"][0] = centres * self.nnei, 3 * centres * self.nnei
        for b, table in enumerate(tables):
            rows, columns = np.nonzero(table >= 0)
            edge = table[rows, columns]
            r = environment_matrix(vec[edge], self.rcut, self.rcut_smth, self.env_protection)
            centre_type = batch.atype[rows]
            for t in range(self.ntypes):
                if self.excluded(t, b):
                    continue
                mine = r[centre_type == t]
                for kind, values in (("r", mine[:, :1]), ("a", mine[:, 1:])):
                    sums[f"{kind}_{t}"][1:] += values.sum(), (values * values).sum()
        return sums

    def _all_centres(self) -> Packing:
        return Packing("typed", self.ntypes, self.rcut, tuple(self.sel))

    def set_statistics(self, sums: Mapping[str, np.ndarray]) -> None:
        """Set ``davg`` and ``dstd`` from the sums of all sampled frames."""
        for t in range(self.ntypes):
            mean_r, std_r = _moments(sums[f"r_{t}"])
            _, std_a = _moments(sums[f"a_{t}"])
            self.dstd[t] = [std_r, std_a, std_a, std_a][: self.width]
            self.davg[t] = 0.0
            if not self.set_davg_zero:
                self.davg[t, 0] = mean_r

    # -- dictionaries: files repeat the statistics for every slot ------------------------------

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
            return np.array(value[:, 0] if self.nnei else np.ones((self.ntypes, self.width)))
        return super().restore_array(name, value)


def protected(data: dict) -> dict:
    """Upgrade version 1, which had no protection of the denominators."""
    return {"env_protection": 0.0, **data}


def pair_networks(descriptor: Any, ndim: int, seed: Seed) -> NetworkCollection:
    """Embedding networks of one number, per neighbour type (ndim 1) or pair of types (2)."""
    networks = [
        EmbeddingNetwork(
            1,
            descriptor.neuron,
            activation_function=descriptor.activation_function,
            resnet_dt=descriptor.resnet_dt,
            precision=descriptor.precision,
            seed=child_seed(seed, k),
        )
        for k in range(descriptor.ntypes**ndim)
    ]
    return NetworkCollection(ndim, descriptor.ntypes, "embedding_network", networks)


def _moments(sums: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation, at least the floor, from (number, sum, sum of squares)."""
    number, total, squares = sums
    if number == 0:
        return 0.0, STD_WITHOUT_DATA
    mean = total / number
    std = np.sqrt(max(0.0, squares / number - mean * mean))
    return mean, std if std >= STD_FLOOR else STD_FLOOR
