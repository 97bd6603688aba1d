# SPDX-License-Identifier: LGPL-3.0-or-later
"""Forces of Wannier centroids through the C interface, against the Python implementation."""

import ctypes as ct

import numpy as np
import pytest
from cxx import backend_abi, c_api
from cxx.frames import extended

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.model.dipole_charge import DipoleChargeModifier
from deepmd.dpmodel.model.modifier import respond
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.io import save_model
from tests.members import section

LIBRARY = backend_abi.find_library("libdeepmd_c.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.with_name("libdeepmd_backend_native.so").is_file(),
    reason="libdeepmd_c and libdeepmd_backend_native are not built, or DEEPMD_TEST_LIB not set",
)
#: Type of sites that the model does not know.
CENTROID = 7


def dipole_model(descriptor, tmp_path):
    """A model of the dipoles of the first type."""
    given = section("dipole", tmp_path)
    given["descriptor"] = section(descriptor, tmp_path)["descriptor"]
    given["fitting_net"]["sel_type"] = [0]
    return build_model(given)


def written(model, path):
    """Write a model file, of the kind that its name says."""
    if path.suffix == ".pth":
        pytest.importorskip("torch")
        if not LIBRARY.with_name("libdeepmd_backend_torch.so").is_file():
            pytest.skip("libdeepmd_backend_torch is not built")
        from deepmd.pt.torchscript.export import write_pth

        write_pth(path, {"model": model.serialize()})
    else:
        save_model(path, {"model": model.serialize()})
    return path


class Sites:
    """Four atoms in a small cell, the centroids of two of them, and their images as ghosts."""

    def __init__(self, rcut, seed=0):
        rng = np.random.default_rng(seed)
        cell = 4.5 * np.eye(3) + rng.normal(scale=0.2, size=(3, 3))
        coord = rng.uniform(0.0, 4.0, (4, 3))
        self.batch = Batch.from_arrays(coord[None], cell[None], [0, 1, 1, 0])
        self.batch.edges, self.batch.reach = batch_edges(self.batch, rcut), rcut
        all_, types, nlist, mapping = extended(self.batch, rcut, 400)
        n, extra = 4, 2
        # Numbers of ghosts move up by the centroids.
        self.nlist = np.where(nlist >= n, nlist + extra, nlist)
        moved = rng.normal(size=(extra, 3))
        self.coord = np.concatenate([all_[:n], all_[[0, 3]] + moved, all_[n:]])
        self.atype = np.concatenate([types[:n], [CENTROID] * extra, types[n:]])
        self.owner = np.concatenate([mapping[:n], [4, 5], mapping[n:]])
        self.pairs = np.array([[0, 4], [3, 5]])
        self.force = rng.normal(size=(n + extra, 3))
        self.nghost = len(self.coord) - n - extra

    def neighbors(self, library):
        """The list of the C interface, and what must live as long."""
        rows = [np.ascontiguousarray(row[row >= 0], np.int32) for row in self.nlist]
        numbers = np.arange(len(rows), dtype=np.int32)
        counts = np.array([len(row) for row in rows], np.int32)
        first = (ct.c_void_p * len(rows))(*[row.ctypes.data for row in rows])
        library.DP_NewNlist.restype = ct.c_void_p
        handle = ct.c_void_p(
            library.DP_NewNlist(
                len(rows), ct.c_void_p(numbers.ctypes.data), ct.c_void_p(counts.ctypes.data), first
            )
        )
        owner = np.ascontiguousarray(self.owner, np.int32)
        library.DP_NlistSetMapping(handle, ct.c_void_p(owner.ctypes.data))
        return handle, (rows, numbers, counts, first, owner)

    def corrected(self, library, path, engine, dtype=np.float64):
        """Force on local sites, those of ghosts folded back, and virial, in C."""
        new = library.DP_NewDipoleChargeModifierWithParam2
        new.restype = ct.c_void_p
        handle = ct.c_void_p(new(str(path).encode(), 0, b"dipole_charge", engine.encode()))
        modifier = c_api.Handle.__new__(c_api.Handle)
        modifier.library, modifier.part, modifier.handle = library, "DipoleChargeModifier", handle
        modifier.check()
        neighbors, held = self.neighbors(library)
        force, virial = np.full(self.coord.shape, np.nan, dtype), np.full(9, np.nan, dtype)
        modifier._call(
            "ComputeNList",
            dtype,
            *(len(self.coord), np.ascontiguousarray(self.coord, dtype)),
            *(np.ascontiguousarray(self.atype, np.int32), None),
            *(np.ascontiguousarray(self.pairs, np.int32), len(self.pairs)),
            *(np.ascontiguousarray(self.force, dtype), self.nghost, neighbors, force, virial),
        )
        library.DP_DeleteNlist(neighbors)
        modifier.close()
        del held
        folded = np.zeros((len(self.force), 3))
        np.add.at(folded, self.owner, force)
        return folded, virial

    def expected(self, model):
        """The same of the derivatives that Python gives."""
        edges, cotangent = self.batch.edges, np.zeros((4, 3))
        np.add.at(cotangent, self.pairs[:, 0], self.force[self.pairs[:, 1]])
        _, pullback = respond(model, self.batch)
        g = pullback({"dipole": cotangent})
        force = np.zeros_like(self.force)
        force[:4] = self.force[:4] + cotangent
        np.add.at(force, edges.j, g)
        np.add.at(force, edges.i, -g)
        return force, (g[:, :, None] * self.batch.vectors()[:, None, :]).sum(0).ravel()


@pytest.fixture(scope="module")
def library():
    return c_api.load(LIBRARY)


@pytest.mark.parametrize(
    ("descriptor", "suffix", "engine"),
    [
        ("se_e2_a", ".dp", "native"),
        ("se_e2_a", ".pth", "framework"),
        pytest.param("dpa3", ".pth", "framework", marks=pytest.mark.slow),
    ],
)
def test_forces_and_virial(library, tmp_path, descriptor, suffix, engine):
    """Local models and models that pass messages, in one backward pass."""
    model = dipole_model(descriptor, tmp_path)
    sites = Sites(model.get_rcut())
    path = written(model, tmp_path / f"dipole{suffix}")
    force, virial = sites.corrected(library, path, engine)
    want_force, want_virial = sites.expected(model)
    assert np.abs(want_force[:4] - sites.force[:4]).max() > 1e-2  # dipoles depend on positions
    np.testing.assert_allclose(force, want_force, rtol=0, atol=1e-10 * np.abs(want_force).max())
    np.testing.assert_allclose(virial, want_virial, rtol=0, atol=1e-10)
    single, _ = sites.corrected(library, path, engine, np.float32)
    np.testing.assert_allclose(single, want_force, rtol=0, atol=1e-4)


def test_dipoles_of_a_long_range_model(library, tmp_path):
    """A file with energy and dipoles gives its dipoles under the name dipole_charge."""
    dipole = dipole_model("se_e2_a", tmp_path)
    energy = build_model(section("se_e2_a", tmp_path))
    settings = {"model_charge_map": [-8.0], "sys_charge_map": [6.0, 1.0]}
    energy.modifier = DipoleChargeModifier(model_name="dipole.dp", **settings)
    energy.modifier.dipole = dipole
    energy.modifier.adopt(energy.get_type_map())
    sites = Sites(dipole.get_rcut())
    path = written(energy, tmp_path / "both.dp")
    force, _ = sites.corrected(library, path, "native")
    np.testing.assert_allclose(force, sites.expected(dipole)[0], rtol=0, atol=1e-10)


def test_wrong_use(library, tmp_path):
    """One line about the model, or about pairs that cannot be."""
    model = dipole_model("se_e2_a", tmp_path)
    sites = Sites(model.get_rcut())
    path = written(model, tmp_path / "dipole.dp")
    other = written(build_model(section("se_e2_a", tmp_path)), tmp_path / "energy.dp")
    with pytest.raises(c_api.CError, match="predicts energies"):
        sites.corrected(library, other, "native")
    sites.pairs = np.array([[1, 4]])
    with pytest.raises(c_api.CError, match="type 1 has no dipole"):
        sites.corrected(library, path, "native")
    sites.pairs = np.array([[0, 40]])
    with pytest.raises(c_api.CError, match="not among the 6 local sites"):
        sites.corrected(library, path, "native")
