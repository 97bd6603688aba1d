# SPDX-License-Identifier: LGPL-3.0-or-later
"""Settings of spins under the names that clients import; see :mod:`deepmd.dpmodel.model.spin`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel.model.spin_section import spin_settings


def normalize_spin_use_spin(use_spin: Sequence[Any], type_map: Sequence[str]) -> list[bool]:
    """Return one flag per type, from flags, indices or names of the types with spin."""
    return spin_settings({"use_spin": use_spin, "virtual_scale": 1.0}, type_map)["use_spin"]


class Spin:
    """Which types have a spin, and the types of their virtual atoms.

    A model with spins has 2 n types: the real ones, then the virtual partner of each.

    Parameters
    ----------
    use_spin : (n,) list of bool
    virtual_scale : float or list of float
        Displacement of virtual atoms per unit of spin [Å], of all types or of those with spin.
    allow_missing_label : bool
        Kept for callers.
    """

    def __init__(
        self,
        use_spin: Sequence[bool],
        virtual_scale: float | Sequence[float] | None = None,
        allow_missing_label: bool = False,
    ) -> None:
        names = [str(t) for t in range(len(use_spin))]
        section = {"use_spin": [bool(u) for u in use_spin], "virtual_scale": virtual_scale}
        settings = spin_settings(section, names)
        self.use_spin, self.allow_missing_label = settings["use_spin"], allow_missing_label
        self.spin_mask = np.array(self.use_spin, np.int64)
        self.virtual_scale = np.array(settings["virtual_scale"])

    def get_ntypes_real(self) -> int:
        """Return the number of real types."""
        return len(self.use_spin)

    def get_ntypes_spin(self) -> int:
        """Return the number of types with spin."""
        return sum(self.use_spin)

    def get_ntypes_real_and_spin(self) -> int:
        """Return the number of real types and of types with spin together."""
        return self.get_ntypes_real() + self.get_ntypes_spin()

    def get_ntypes_input(self) -> int:
        """Return the number of types that descriptors see."""
        return 2 * self.get_ntypes_real()

    def get_use_spin(self) -> list[bool]:
        """Return one flag per type."""
        return list(self.use_spin)

    def get_virtual_scale(self) -> np.ndarray:
        """Return the displacements per unit of spin [Å]: (n,); 0 without spin."""
        return self.virtual_scale

    def get_spin_mask(self) -> np.ndarray:
        """Return 1 for types with spin, else 0: (n,)."""
        return self.spin_mask

    def get_virtual_scale_mask(self) -> np.ndarray:
        """Return the displacements per unit of spin [Å], 0 without spin: (n,)."""
        return self.virtual_scale * self.spin_mask

    def _placeholders(self) -> list[int]:
        n = self.get_ntypes_real()
        return [t + n for t, used in enumerate(self.use_spin) if not used]

    def get_pair_exclude_types(
        self, exclude_types: Sequence[tuple[int, int]] | None = None
    ) -> list[Any]:
        """Return pairs that do not see each other: partners of types without spin see nothing."""
        everything = range(self.get_ntypes_input())
        hidden = [[t, other] for t in self._placeholders() for other in everything]
        return hidden + list(exclude_types or ())

    def get_atom_exclude_types(self, exclude_types: Sequence[int] | None = None) -> list[int]:
        """Return types without a share in the output: all partners, and those that are given."""
        n = self.get_ntypes_real()
        return sorted({*range(n, 2 * n), *(exclude_types or ())})

    def get_atom_exclude_types_placeholder(
        self, exclude_types: Sequence[int] | None = None
    ) -> list[int]:
        """Return the partners of types without spin, and the types that are given."""
        return sorted({*self._placeholders(), *(exclude_types or ())})

    def serialize(self) -> dict[str, Any]:
        """Return the arguments of the class."""
        return {"use_spin": self.get_use_spin(), "virtual_scale": self.virtual_scale.tolist()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> "Spin":
        """Return the settings that were stored."""
        return cls(**data)
