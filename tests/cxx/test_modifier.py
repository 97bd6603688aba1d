# SPDX-License-Identifier: LGPL-3.0-or-later
"""Forces of Wannier centroids through C, C++ and deepmd.hpp, against the Python implementation."""

import ctypes as ct
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import reference_path
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
ROOT = Path(__file__).parents[2]
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
    """Atoms in a cell, the centroids of some of them, and images of the atoms as ghosts."""

    def __init__(self, rcut, coord, cell, atype, pairs, force):
        n, extra = len(atype), len(pairs)
        self.batch = Batch.from_arrays(coord[None, :n], cell[None], atype)
        self.batch.edges, self.batch.reach = batch_edges(self.batch, rcut), rcut
        all_, types, nlist, mapping = extended(self.batch, rcut, 600)
        # Numbers of ghosts move up by the centroids.
        self.nlist = np.where(nlist >= n, nlist + extra, nlist)
        self.coord = np.concatenate([coord, all_[n:]])
        self.atype = np.concatenate([types[:n], [CENTROID] * extra, types[n:]])
        self.owner = np.concatenate([mapping[:n], n + np.arange(extra), mapping[n:]])
        self.pairs, self.force = np.array(pairs), force
        self.nghost = len(self.coord) - n - extra

    @classmethod
    def random(cls, rcut, seed=0):
        """Four atoms in a small cell, and the centroids of two of them."""
        rng = np.random.default_rng(seed)
        cell = 4.5 * np.eye(3) + rng.normal(scale=0.2, size=(3, 3))
        coord = rng.uniform(0.0, 4.0, (4, 3))
        coord = np.concatenate([coord, coord[[0, 3]] + rng.normal(size=(2, 3))])
        force = rng.normal(size=(6, 3))
        return cls(rcut, coord, cell, [0, 1, 1, 0], [[0, 4], [3, 5]], force)

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

    def text(self):
        """The input of modifier.cc."""
        lines = [f"{len(self.coord)} {self.nghost} {len(self.pairs)}"]
        for r, kind, owner in zip(self.coord, self.atype, self.owner, strict=True):
            lines.append("{:.17g} {:.17g} {:.17g} {} {}".format(*r, kind, owner))
        lines += [f"{i} {j}" for i, j in self.pairs]
        lines += ["{:.17g} {:.17g} {:.17g}".format(*f) for f in self.force]
        rows = [row[row >= 0] for row in self.nlist]
        rows += [[]] * (len(self.force) - len(rows))  # of centroids
        lines += [" ".join(map(str, [len(row), *row])) for row in rows]
        return "\n".join(lines)

    def run(self, program, path):
        """Force on all sites and virial of modifier.cc, in double and in single precision."""
        done = subprocess.run(
            [program, path], input=self.text(), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        found = np.array(done.stdout.split(), dtype=float).reshape(2, -1)
        return [(row[:-9].reshape(-1, 3), row[-9:]) for row in found]

    def fold(self, force):
        """Add the forces of ghosts to those of the local sites."""
        folded = np.zeros((len(self.force), 3))
        np.add.at(folded, self.owner, force)
        return folded

    def domain(self, own):
        """What a process has whose atoms are some of the local ones, and whose ghosts all others.

        Numbers of sites in ``own`` are those here; the second result says for every site of the
        domain which one it is here.
        """
        rest = np.setdiff1d(np.arange(len(self.coord)), own)
        # A centroid is on the process of its atom, and no ghost elsewhere.
        rest = rest[(self.atype[rest] != CENTROID)]
        order = np.concatenate([own, rest])
        number = np.full(len(self.coord) + 1, -1)
        number[order] = np.arange(len(order))
        part = Sites.__new__(Sites)
        part.coord, part.atype = self.coord[order], self.atype[order]
        part.nlist = np.array([number[self.nlist[i]] for i in own if i < len(self.nlist)])
        part.pairs = np.array([number[pair] for pair in self.pairs if pair[0] in own])
        part.force, part.nghost = self.force[own], len(rest)
        part.owner = np.zeros(len(order), int)  # owners of ghosts are elsewhere
        return part, order

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
        return self.fold(force), virial

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
    sites = Sites.random(model.get_rcut())
    path = written(model, tmp_path / f"dipole{suffix}")
    force, virial = sites.corrected(library, path, engine)
    want_force, want_virial = sites.expected(model)
    assert np.abs(want_force[:4] - sites.force[:4]).max() > 1e-2  # dipoles depend on positions
    np.testing.assert_allclose(force, want_force, rtol=0, atol=1e-10 * np.abs(want_force).max())
    np.testing.assert_allclose(virial, want_virial, rtol=0, atol=1e-10)
    single, _ = sites.corrected(library, path, engine, np.float32)
    np.testing.assert_allclose(single, want_force, rtol=0, atol=1e-4)


@pytest.fixture(scope="module", params=["C++", "deepmd.hpp"])
def program(request, tmp_path_factory):
    """modifier.cc with one of the two C++ interfaces."""
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    target = tmp_path_factory.mktemp("modifier") / "modifier"
    alone = request.param == "deepmd.hpp"
    linked = LIBRARY if alone else LIBRARY.with_name("libdeepmd_cc.so")
    command = [compiler, "-std=c++11" if alone else "-std=c++17", "-O1", "-Wall", "-Wextra"]
    command += ["-Werror", *(["-DHEADER_ONLY"] if alone else [])]
    command += ["-I", ROOT / "source/api_c/include", "-I", ROOT / "source/api_cc/include"]
    command += [Path(__file__).with_name("modifier.cc"), "-o", target, linked]
    subprocess.run([*command, f"-Wl,-rpath,{LIBRARY.parent}"], check=True, timeout=300)
    return target


@pytest.fixture(scope="module")
def stored():
    """Sites in a cell, and what DeePMD-kit's modifier in C gave for them: force, virial."""
    with np.load(Path(__file__).with_name("dipole_charge.npz")) as file:
        n = len(file["atype"]) - len(file["pairs"])
        given = (file[k] for k in ("coord", "box"))
        sites = Sites(6.0, *given, file["atype"][:n], file["pairs"], file["site_force"])
        return sites, file["force"], file["virial"]


@pytest.mark.golden
def test_numbers_of_deepmd_kit(library, converted, stored):
    """Forces on atoms, centroids and ghosts, and the virial."""
    sites, *want = stored
    path = converted(reference_path("dplr/ener.pb"), ".dp")
    for found, expected in zip(sites.corrected(library, path, "native"), want, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


@pytest.mark.golden
def test_numbers_of_deepmd_kit_in_programs(program, converted, stored):
    """The same through both C++ interfaces, in double and in single precision."""
    sites, want_force, want_virial = stored
    path = converted(reference_path("dplr/ener.pb"), ".dp")
    for (force, virial), atol in zip(sites.run(program, path), (1e-10, 1e-4), strict=True):
        np.testing.assert_allclose(sites.fold(force), want_force, rtol=0, atol=atol)
        np.testing.assert_allclose(virial, want_virial, rtol=0, atol=atol)


@pytest.mark.golden
def test_two_processes(program, converted, stored):
    """Each evaluates the atoms of its part of the cell; sums over both are those of one."""
    sites, want_force, want_virial = stored
    path = converted(reference_path("dplr/ener.pb"), ".dp")
    mine = sites.atype != CENTROID
    mine[len(sites.force) :] = False
    left = np.flatnonzero(mine & (sites.coord[:, 0] < 4.0))
    halves = [left, np.setdiff1d(np.flatnonzero(mine), left)]
    total, virial = np.zeros_like(sites.coord), np.zeros(9)
    for half in halves:
        centroids = [k for i, k in sites.pairs if i in half]
        assert 0 < len(centroids) < len(sites.pairs)
        part, order = sites.domain(np.concatenate([half, centroids]))
        force, part_virial = part.run(program, path)[0]
        np.add.at(total, order, force)
        virial += part_virial
    np.testing.assert_allclose(sites.fold(total), want_force, rtol=0, atol=1e-10)
    np.testing.assert_allclose(virial, want_virial, rtol=0, atol=1e-10)


def test_dipoles_of_a_long_range_model(library, tmp_path):
    """A file with energy and dipoles gives its dipoles under the name dipole_charge."""
    dipole = dipole_model("se_e2_a", tmp_path)
    energy = build_model(section("se_e2_a", tmp_path))
    settings = {"model_charge_map": [-8.0], "sys_charge_map": [6.0, 1.0]}
    energy.modifier = DipoleChargeModifier(model_name="dipole.dp", **settings)
    energy.modifier.dipole = dipole
    energy.modifier.adopt(energy.get_type_map())
    sites = Sites.random(dipole.get_rcut())
    path = written(energy, tmp_path / "both.dp")
    force, _ = sites.corrected(library, path, "native")
    np.testing.assert_allclose(force, sites.expected(dipole)[0], rtol=0, atol=1e-10)


def test_wrong_use(library, tmp_path):
    """One line about the model, or about pairs that cannot be."""
    model = dipole_model("se_e2_a", tmp_path)
    sites = Sites.random(model.get_rcut())
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
