# SPDX-License-Identifier: LGPL-3.0-or-later
"""Data and batches under the names that clients import."""

from collections.abc import Callable

import numpy as np
import pytest

from deepmd.infer.ewald_recp import EwaldRecp
from deepmd.utils.batch_size import AutoBatchSize
from deepmd.utils.data import DeepmdData
from deepmd.utils.data_system import DeepmdDataSystem
from deepmd.utils.errors import InputError
from deepmd.utils.path import DPPath
from deepmd.utils.plugin import make_plugin_registry
from deepmd.utils.version import check_version_compatibility


def test_one_system_with_sorted_atoms(make: Callable) -> None:
    made = make(sets=(4, 3))
    data = DeepmdData(made.path, shuffle_test=False, type_map=["B", "A"])
    data.add("energy", 1, must=True).add("force", 3, atomic=True, repeat=1).add("virial", 9)
    assert (data.get_natoms(), data.pbc, data.get_type_map()) == (5, True, ["B", "A"])
    assert data.get_atom_type().tolist() == [0, 0, 0, 1, 1]
    assert data.get_natoms_vec(3).tolist() == [5, 5, 3, 2, 0]
    arrays = data.get_test()
    order = [1, 2, 4, 0, 3]  # of type B first
    for name in ("coord", "force"):
        wanted = made.arrays[name].reshape(7, 5, 3)[:, order].reshape(7, 15)
        np.testing.assert_array_equal(arrays[name], wanted)
    np.testing.assert_array_equal(arrays["energy"][:, 0], made.arrays["energy"])
    assert (arrays["find_energy"], arrays["find_virial"]) == (1.0, 0.0)
    assert arrays["box"].shape == (7, 9) and arrays["type"].shape == (7, 5)
    assert len(data.get_test(2)["coord"]) == 2
    seen = [data.get_batch(2)["energy"][:, 0] for _ in range(3)]
    assert len(np.unique(seen)) == 6
    assert data.get_sys_numb_batch(2) == 3


def test_several_systems(make: Callable) -> None:
    paths = [make("a").path, make("b", types=(1, 1, 1), sets=(6,), seed=1).path]
    data = DeepmdDataSystem(paths, 2, 3, rcut=4.0, type_map=["A", "B"])
    data.add_dict({"energy": {"ndof": 1, "must": True}, "force": {"ndof": 3, "atomic": True}})
    assert (data.get_nsystems(), data.get_ntypes(), data.get_nbatches()) == (2, 2, [2, 3])
    np.testing.assert_allclose(data.sys_probs, [0.4, 0.6])
    batch = data.get_batch(1)
    assert batch["force"].shape == (2, 9) and batch["natoms_vec"].tolist() == [3, 3, 0, 3]
    assert data.get_test(0)["coord"].shape == (3, 15)
    assert {data.get_batch()["sys_idx"] for _ in range(20)} == {0, 1}


def test_batches_of_a_function() -> None:
    coord, kept = np.arange(24.0).reshape(8, 3), []

    def function(x: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        kept.append(len(x))
        return scale * x, x.sum(axis=1)

    both = AutoBatchSize(6).execute_all(function, 8, 2, coord, scale=2.0)
    np.testing.assert_array_equal(both[0], 2 * coord)
    np.testing.assert_array_equal(both[1], coord.sum(axis=1))
    assert kept == [3, 3, 2]


def test_registry_of_plugins() -> None:
    class Base(make_plugin_registry("thing")):
        pass

    @Base.register("one")
    class One(Base):
        pass

    assert Base.get_class_by_type("one") is One
    with pytest.raises(InputError, match='unknown thing "oen"; did you mean "one"'):
        Base.get_class_by_type("oen")


def test_ewald_sum_has_its_derivatives() -> None:
    rng = np.random.default_rng(0)
    cell = 6.0 * np.eye(3) + 0.4 * rng.normal(size=(3, 3))
    coord, charge = rng.uniform(0, 6, (5, 3)), np.array([1.0, -1, 0.5, 0.3, -0.8])
    ewald = EwaldRecp(0.5, 0.4)

    def energy(x: np.ndarray, h: np.ndarray) -> float:
        return ewald.eval(x.reshape(1, -1), charge[None], h.reshape(1, 9))[0].item()

    e, f, v = ewald.eval(coord.reshape(1, -1), charge[None], cell.reshape(1, 9))
    assert (e.shape, f.shape, v.shape) == ((1, 1), (1, 15), (1, 9))
    step = 1e-5
    for a in range(3):
        moved = np.zeros((5, 3))
        moved[1, a] = step
        slope = (energy(coord + moved, cell) - energy(coord - moved, cell)) / (2 * step)
        assert f[0, 3 + a] == pytest.approx(-slope, rel=1e-6, abs=1e-9)
        for b in range(3):
            strain = np.zeros((3, 3))
            strain[a, b] = step
            ends = [
                energy(coord @ (np.eye(3) + s), cell @ (np.eye(3) + s)) for s in (strain, -strain)
            ]
            slope = (ends[0] - ends[1]) / (2 * step)
            assert v[0, 3 * a + b] == pytest.approx(-slope, rel=1e-6, abs=1e-9)
    # One unit of charge beside another: the peer's unit of energy.
    assert ewald.eval(coord.reshape(1, -1), 2 * charge[None], cell.reshape(1, 9))[
        0
    ] == pytest.approx(4 * e)


def test_names_of_clients_are_those_used_here(tmp_path) -> None:
    """An error caught under a client's name is the one that is raised."""
    with pytest.raises(InputError, match="missing"):
        (DPPath(str(tmp_path)) / "type.raw").load_txt()
    with pytest.raises(ValueError, match="version 3 cannot be read, 1 to 2 can"):
        check_version_compatibility(3, 2)
