# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames of golden cases as backends of the C++ library get them."""

import numpy as np
from cxx import backend_abi as abi
from golden import cases
from pt.models import batch

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import prepare
from deepmd.dpmodel.neighbors import batch_edges


def close(found, expected, tolerance=1e-14):
    assert set(found) == set(expected)
    for key, value in expected.items():
        scale = max(float(np.abs(value).max(initial=0.0)), 0.01)
        assert found[key].shape == value.shape
        assert float(np.abs(found[key] - value).max(initial=0.0)) <= tolerance * scale, key


def inputs_of(built, natoms=(7, 5, 1)):
    """Frames with edges and parameters, packed for a model."""
    made = batch(natoms, periodic=[k % 2 == 0 for k in range(len(natoms))])
    rng = np.random.default_rng(1)
    made.fparam = rng.normal(size=(made.n_frames, built.get_dim_fparam()))
    made.aparam = rng.normal(size=(made.n_atoms, built.get_dim_aparam()))
    return prepare(made, built.packings())


def frame_of(case, name):
    """First frame of a set of a golden case."""
    given = cases.inputs(case, name)
    coord = np.asarray(given["coords"])[:1]
    n = coord.size // 3
    cell = given.get("cells")
    atype = np.asarray(given["atom_types"])
    made = Batch.from_arrays(
        coord.reshape(1, n, 3),
        None if cell is None else np.asarray(cell)[:1].reshape(1, 3, 3),
        atype[0] if atype.ndim == 2 else atype,
    )
    for key, rows in (("fparam", 1), ("aparam", n)):
        if given.get(key) is not None:
            setattr(made, key, np.asarray(given[key])[0].reshape(rows, -1))
    return made


def extended(made, rcut, width):
    """Coordinates with ghosts, types, list (nearest first), mapping."""
    edges = made.edges = batch_edges(made, rcut)
    vec = made.vectors()
    keys = np.concatenate([edges.j[:, None], edges.shift], axis=1)
    ghosts, where = np.unique(keys[np.any(edges.shift != 0, axis=1)], axis=0, return_inverse=True)
    j = edges.j.copy()
    j[np.any(edges.shift != 0, axis=1)] = made.n_atoms + where.reshape(-1)
    owner, shift = ghosts[:, 0].astype(np.int64), ghosts[:, 1:]
    mapping = np.concatenate([np.arange(made.n_atoms), owner])
    coord = np.concatenate([made.coord, made.coord[owner] + shift @ made.cell[0]])
    nlist = np.full((made.n_atoms, width), -1)
    for a in range(made.n_atoms):
        mine = np.flatnonzero(edges.i == a)
        mine = mine[np.argsort((vec[mine] ** 2).sum(-1), kind="stable")][:width]
        nlist[a, : len(mine)] = j[mine]
    return coord, made.atype[mapping], nlist, mapping


def check_extended(handle, case, sets):
    """Compare the entry for lists of neighbors with the golden results of some sets."""
    assert handle.entries == abi.EXTENDED
    kind, stored = handle.outputs[0].name, cases._arrays(case["npz"])
    for chosen in sets:
        made = frame_of(case, chosen)
        width, n = sum(handle.description["sel"]), made.n_atoms
        coord, atype, nlist, mapping = extended(made, handle.description["rcut"], width)
        chg_spin = cases.inputs(case, chosen).get("charge_spin")
        known = {"fparam": made.fparam, "charge_spin": chg_spin, "aparam": made.aparam}
        taken = {k: v for k, v in known.items() if k in handle.sizes() and v is not None}
        atoms = {"aparam": taken.pop("aparam")} if "aparam" in taken else {}
        frames = {k: v[:1] for k, v in taken.items()}
        (out,) = handle.evaluate_extended(coord, atype, nlist, mapping, frames, atoms)
        found = {f"atom_{kind}": out["value"].reshape(n, -1)}
        if "force" in out:
            folded = np.zeros((out["force"].shape[0], n, 3))
            np.add.at(folded, (slice(None), mapping), out["force"])
            # In memory the stored forces of dipoles are (atoms, components, 3).
            found |= {"force": folded.swapaxes(0, 1), "virial": out["virial"]}
            close({"v": out["atom_virial"].sum(1)}, {"v": out["virial"]}, 1e-10)
        for key, value in found.items():
            want = stored.get(f"{chosen}/out/{key}", stored.get(f"{chosen}/out/atom_property"))
            close({key: value.ravel()}, {key: want[0].ravel()}, 1e-10)
