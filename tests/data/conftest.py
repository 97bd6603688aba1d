# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small synthetic systems."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest


class Synthetic:
    """What was written for one system, sets joined."""

    def __init__(self, path: str, arrays: dict[str, np.ndarray], types: np.ndarray) -> None:
        self.path, self.arrays, self.types = path, arrays, types


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Synthetic]:
    """Write a system: ``make("name", sets=(4, 3), types=[0, 1, 0])``."""

    def write(
        name: str = "sys",
        *,
        sets: tuple[int, ...] = (4,),
        types: tuple[int, ...] = (0, 1, 1, 0, 1),
        names: tuple[str, ...] | None = ("A", "B"),
        pbc: bool = True,
        dtype: str = "f8",
        shaped: bool = False,
        seed: int = 0,
        hdf5: str | None = None,
    ) -> Synthetic:
        rng = np.random.default_rng(seed)
        n, f = len(types), sum(sets)
        arrays = {
            "coord": rng.uniform(0, 5, (f, n * 3)),
            "box": np.tile((np.eye(3) * 5 + 0.3 * np.tri(3)).ravel(), (f, 1)),
            "energy": rng.normal(size=f),
            "force": rng.normal(size=(f, n * 3)),
        }
        arrays = {k: v.astype(dtype) for k, v in arrays.items()}
        if not pbc:
            del arrays["box"]
        cuts = np.cumsum(sets)[:-1]
        stored = {}
        for key, value in arrays.items():
            if shaped and key in ("coord", "force"):
                value = value.reshape(f, n, 3)
            for k, part in enumerate(np.split(value, cuts)):
                stored[f"set.{k:03d}/{key}.npy"] = part
        if hdf5 is not None:
            with h5py.File(tmp_path / hdf5, "a") as handle:
                group = handle.create_group(name)
                group["type.raw"] = np.array(types)
                if names is not None:
                    group["type_map.raw"] = np.array(names, dtype="S2")
                if not pbc:
                    group["nopbc"] = True
                for key, value in stored.items():
                    group[key] = value
            return Synthetic(f"{tmp_path / hdf5}#/{name}", arrays, np.array(types))
        root = tmp_path / name
        for key, value in stored.items():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            np.save(root / key, value)
        (root / "type.raw").write_text("\n".join(map(str, types)) + "\n")
        if names is not None:
            (root / "type_map.raw").write_text("\n".join(names) + "\n")
        if not pbc:
            (root / "nopbc").touch()
        return Synthetic(str(root), arrays, np.array(types))

    return write
