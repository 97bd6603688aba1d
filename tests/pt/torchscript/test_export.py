# SPDX-License-Identifier: LGPL-3.0-or-later
"""TorchScript files against NumPy: all three entries, all kinds of frames, and the archive."""

import json
import re
import zipfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.base.errors import ModelFileError  # noqa: E402
from deepmd.dpmodel.batch import Batch  # noqa: E402
from deepmd.dpmodel.model import Model, build_model, prepare  # noqa: E402
from deepmd.dpmodel.neighbors import batch_edges, reference_edges  # noqa: E402
from deepmd.io import load_model  # noqa: E402
from deepmd.io.archive import packed, read_archive  # noqa: E402
from deepmd.np.evaluator import NumPyEvaluator  # noqa: E402
from deepmd.pt.evaluator import TorchEvaluator  # noqa: E402
from deepmd.pt.files import open_model  # noqa: E402
from deepmd.pt.torchscript.export import (  # noqa: E402
    ENTRY_VERSION,
    build_program,
    open_program,
    read_pth,
    trace_core,
    write_pth,
)
from deepmd.runtime.probes import model_file_dict  # noqa: E402
from tests.crystal import rock_salt  # noqa: E402
from tests.pt.models import RCUT, batch, model, section  # noqa: E402

ALL = ("force", "virial", "atom_virial")
#: Kinds of models: one- and two-sided, excluded pairs, tight sel, parameters, float32.
KINDS = {
    "two_sided": {"numb_fparam": 2, "numb_aparam": 1},
    "one_sided": {"type_one_side": True, "sel": [3, 4], "exclude_types": [[0, 1]]},
    "float32": {"type_one_side": True, "precision": "float32"},
}


def close(found, expected, tolerance):
    found, expected = np.asarray(found), np.asarray(expected)
    scale = max(float(np.abs(expected).max(initial=0.0)), 0.01)
    assert found.shape == expected.shape
    assert float(np.abs(found - expected).max(initial=0.0)) <= tolerance * scale


@pytest.fixture(scope="module", params=KINDS)
def kind(request, tmp_path_factory):
    """Model, file, loaded program, tolerance."""
    built = model(**KINDS[request.param])
    if request.param == "one_sided":
        built.atomic_model.pair_exclude_types = [[1, 1]]
    path = tmp_path_factory.mktemp("pth") / "model.pth"
    write_pth(path, model_file_dict(built, section(), 0.5, "PyTorch"))
    tolerance = 1e-5 if request.param == "float32" else 1e-10
    return built, path, torch.jit.load(str(path)), tolerance


def frames(natoms, nf=1, seed=0, edge=5.0, box=True, virtual=()):
    """Coordinates (nf, n, 3), cells or None, types (nf, n) with -1 at ``virtual``."""
    rng = np.random.default_rng(seed)
    coord = rng.uniform(-edge, 2 * edge, size=(nf, natoms, 3))
    if not box:
        coord = rng.uniform(0, edge, size=(nf, natoms, 3))
    cell = edge * np.eye(3) + rng.normal(scale=0.4, size=(nf, 3, 3)) if box else None
    atype = rng.integers(0, 2, size=(nf, natoms))
    atype[:, list(virtual)] = -1
    return coord, cell, atype


def parameters(built, nf, na, seed=1):
    rng = np.random.default_rng(seed)
    fp = rng.normal(size=(nf, built.get_dim_fparam())) if built.get_dim_fparam() else None
    ap = rng.normal(size=(nf, na, built.get_dim_aparam())) if built.get_dim_aparam() else None
    return fp, ap


def expected(built, coord, cell, atype, fp, ap):
    """NumPy's results, scattered to (frames, atoms)."""
    nf, na = atype.shape
    real = atype >= 0
    b = Batch(
        coord=coord[real],
        cell=np.zeros((nf, 3, 3)) if cell is None else cell,
        periodic=np.full(nf, cell is not None),
        atype=atype[real],
        frame=np.nonzero(real)[0],
        natoms=real.sum(axis=1),
        fparam=fp,
        aparam=None if ap is None else ap[real],
    )
    b.edges = batch_edges(b, built.rcut)
    raw = NumPyEvaluator(built).evaluate(b, derivatives=ALL)
    out = {k: raw[k] for k in ("energy", "virial")}
    for key, size in (("atom_energy", 1), ("force", 3), ("atom_virial", 9)):
        out[key] = np.zeros((nf, na, size))
        out[key][real] = raw[key]
    return out


def tensors(*arrays):
    return [None if x is None else torch.tensor(x) for x in arrays]


CASES = {
    "water_like": {"natoms": 12, "nf": 2},
    "crowded": {"natoms": 40, "edge": 6.0},
    "open": {"natoms": 9, "nf": 3, "box": False},
    "one": {"natoms": 1},
    "one_open": {"natoms": 1, "box": False},
    "two_open_far": {"natoms": 2, "box": False, "edge": 50.0},
    "two": {"natoms": 2, "nf": 2},
    "none": {"natoms": 0, "box": False},
    "virtual": {"natoms": 8, "nf": 2, "virtual": (0, 5)},
    "only_virtual": {"natoms": 2, "virtual": (0, 1)},
}


def pairs(cases):
    """Every kind with every case; float32, for which all is compiled again, with two."""
    short = ("water_like", "virtual")
    found = [(k, c) for k in KINDS for c in cases if k != "float32" or c in short]
    return pytest.mark.parametrize(("kind", "case"), found, indirect=["kind"])


@pairs(CASES)
def test_forward(kind, case):
    built, _, program, tolerance = kind
    coord, cell, atype = frames(**CASES[case])
    fp, ap = parameters(built, *atype.shape)
    want = expected(built, coord, cell, atype, fp, ap)
    nf, na = atype.shape
    flat = None if cell is None else cell.reshape(nf, 9)
    arguments = tensors(coord.reshape(nf, 3 * na), atype, flat, fp, ap)
    found = program(*arguments, do_atomic_virial=True)
    assert set(found) == {*want, "mask"}
    for key, value in want.items():
        close(found[key], value, tolerance)
    assert "atom_virial" not in program(*arguments)
    np.testing.assert_array_equal(found["mask"], atype >= 0)


@pairs([c for c in CASES if c != "none"])
def test_forward_lower(kind, case):
    built, _, program, tolerance = kind
    check_lower(built, program, tolerance, frames(**CASES[case]))


def check_lower(built, program, tolerance, given):
    coord, cell, atype = given
    nf, na = atype.shape
    fp, ap = parameters(built, nf, na)
    want = expected(built, coord, cell, atype, fp, ap)
    ext, ext_type, owner, nlist = extended(coord, cell, atype, built.rcut + 0.7)
    found = program.forward_lower(
        *tensors(ext, ext_type, nlist, owner, fp, ap), do_atomic_virial=True
    )
    close(found["energy"], want["energy"], tolerance)
    close(found["atom_energy"], want["atom_energy"], tolerance)
    close(found["virial"], want["virial"], tolerance)
    for name, key in (("extended_force", "force"), ("extended_virial", "atom_virial")):
        folded = np.zeros_like(want[key])
        for f in range(nf):
            np.add.at(folded[f], owner[f], found[name][f].numpy())
        close(folded, want[key], tolerance)


@pytest.mark.parametrize("name", ["dpa1_l2_smooth", "dpa3_basic"])
def test_other_descriptors(name, reference):
    built = Model.deserialize(load_model(reference / "models" / f"{name}.dp")["model"])
    program = build_program(built)
    assert program.has_message_passing() is built.message_passing()
    for case in ("water_like", "virtual"):
        coord, cell, atype = given = frames(**CASES[case])
        want = expected(built, coord, cell, atype, None, None)
        flat = cell.reshape(len(cell), 9)
        found = program(*tensors(coord, atype, flat), do_atomic_virial=True)
        for key, value in want.items():
            close(found[key], value, 1e-10)
        check_lower(built, program, 1e-10, given)
    if built.message_passing():
        ext, ext_type, _, nlist = extended(coord, cell, atype, built.rcut)
        with pytest.raises(torch.jit.Error, match="mapping"):
            program.forward_lower(*tensors(ext, ext_type, nlist))


def extended(coord, cell, atype, rcut):
    """Ghosts, and a list that is wider than needed, shuffled, with holes, and reaches beyond."""
    nf, na = atype.shape
    rng = np.random.default_rng(3)
    parts = []
    for f in range(nf):
        c = None if cell is None else cell[f]
        edges = reference_edges(coord[f], c, rcut)
        ghosts = {}
        lists = [[] for _ in range(na)]
        for i, j, s in zip(edges.i, edges.j, edges.shift, strict=True):
            key = (int(j), *map(int, s))
            index = int(j) if not s.any() else ghosts.setdefault(key, na + len(ghosts))
            lists[i].append(index)
        where = [coord[f]] + [coord[f][[k[0]]] + np.array(k[1:]) @ c for k in ghosts]
        owner = [*range(na), *(k[0] for k in ghosts)]
        parts.append((np.concatenate(where), np.array(owner), lists))
    nall = max(len(p[1]) for p in parts)
    width = max(len(row) for p in parts for row in p[2]) + 3
    ext = np.full((nf, nall, 3), 100.0)
    ext_type = np.full((nf, nall), -1)
    owners = np.zeros((nf, nall), dtype=np.int64)
    nlist = np.full((nf, na, width), -1)
    for f, (where, owner, lists) in enumerate(parts):
        ext[f, : len(owner)], owners[f, : len(owner)] = where, owner
        ext_type[f, : len(owner)] = atype[f][owner]
        for a, row in enumerate(lists):
            columns = rng.permutation(width)[: len(row)]
            nlist[f, a, columns] = row
    return ext, ext_type, owners, nlist


@pytest.mark.parametrize("natoms", [(7, 5, 1), (2,), (1,), (30,)])
def test_forward_edges_and_slots(kind, natoms):
    built, _, program, tolerance = kind
    b = batch(natoms, periodic=[True] * len(natoms))
    fp, ap = parameters(built, b.n_frames, b.n_atoms)
    b.fparam, b.aparam = fp, None if ap is None else ap[0]
    inputs = prepare(b, built.packings())
    want = built.forward_edges(inputs)
    moved = inputs.map(torch.tensor)
    found = program.forward_edges(*moved)
    assert set(found) == set(want)
    for key, value in want.items():
        close(found[key], value, tolerance)
    slots = program.make_slots(*moved[1:5], moved.vec)
    for a, e in zip(slots, inputs.slots, strict=True):
        np.testing.assert_array_equal(a, e)


def test_the_embedding_is_one_node_and_runs_in_blocks(kind):
    built, _, program, tolerance = kind
    names = [getattr(n.target, "__name__", "") for n in trace_core(built).graph.nodes]
    tables = 2 if built.atomic_model.descriptor.type_one_side else 4
    assert names.count("contract") == names.count("row_gradient") == tables
    made = batch((300,), periodic=(True,), edge=18.0)
    made.fparam = np.zeros((1, built.get_dim_fparam()))
    made.aparam = np.zeros((300, built.get_dim_aparam()))
    inputs = prepare(made, built.packings())
    # More than one block of 640 rows, the last one smaller.
    assert max(s.size for s in inputs.slots if s.ndim == 2) > 1000
    with torch.no_grad():
        found = program.forward_edges(*inputs.map(torch.from_numpy))
    for name, value in built.forward_edges(inputs).items():
        close(found[name], value, tolerance)


def test_the_evaluator_goes_through_the_program_in_chunks(kind):
    built, path, _, tolerance = kind
    evaluator = open_model(path)
    b = batch((9, 14), periodic=(True, False))
    fp, ap = parameters(built, 2, b.n_atoms)
    b.fparam, b.aparam = fp, None if ap is None else ap[0]
    want = NumPyEvaluator(built).evaluate(b, derivatives=ALL, extra=("descriptor",))
    for limit in (1 << 15, 40):
        evaluator.max_edges = limit
        found = evaluator.evaluate(b, derivatives=ALL)
        for key, value in found.items():
            close(value, want[key], tolerance)
    assert "lifted" not in vars(evaluator)
    close(evaluator.evaluate(b, derivatives=())["energy"], want["energy"], tolerance)
    close(evaluator.evaluate(b, extra=("descriptor",))["descriptor"], want["descriptor"], tolerance)
    assert evaluator.min_nbor_dist == 0.5


def test_the_lifted_model_in_chunks(kind):
    built, _, _, tolerance = kind
    evaluator = TorchEvaluator(built)
    b = batch((9, 14), periodic=(True, False))
    fp, ap = parameters(built, 2, b.n_atoms)
    b.fparam, b.aparam = fp, None if ap is None else ap[0]
    want = NumPyEvaluator(built).evaluate(b, derivatives=ALL)
    for evaluator.max_edges in (1 << 15, 40):
        found = evaluator.evaluate(b, derivatives=ALL)
        assert set(found) == set(want)
        for key, value in want.items():
            close(found[key], value, tolerance)


def test_queries(kind):
    built, _, program, _ = kind
    assert program.get_rcut() == RCUT
    assert program.get_type_map() == ["O", "H"]
    assert program.get_ntypes() == 2
    assert program.get_sel() == built.get_sel()
    assert program.get_nnei() == program.get_nsel() == sum(built.get_sel())
    assert program.get_dim_fparam() == built.get_dim_fparam()
    assert program.get_dim_aparam() == built.get_dim_aparam()
    assert program.get_sel_type() == []
    assert program.model_output_type() == ["energy"]
    assert program.get_min_nbor_dist() == 0.5
    assert json.loads(program.get_model_def_script()) == section()
    assert json.loads(program.model_def_script) == section()
    for name in (
        "is_aparam_nall mixed_types has_message_passing has_default_fparam has_chg_spin_ebd"
        " has_default_chg_spin need_sorted_nlist_for_lower"
    ).split():
        assert getattr(program, name)() is False
    if built.get_dim_fparam():
        coord, cell, atype = tensors(*frames(3))
        with pytest.raises(torch.jit.Error, match="needs fparam"):
            program(coord, atype, cell.reshape(1, 9))


def test_the_archive_holds_the_neutral_model(kind, tmp_path):
    built, path, _, _ = kind
    data = read_pth(path)
    np.testing.assert_equal(data["model"], built.serialize())
    assert len(data["probes"]["frames"]) == 2
    extra = {"metadata.json": ""}
    torch.jit.load(str(path), _extra_files=extra)
    about = json.loads(extra["metadata.json"])
    assert about["entry_version"] == ENTRY_VERSION
    assert [p["layout"] for p in about["packings"]] == ["typed", "centres"]
    torn = tmp_path / "torn.pth"
    torn.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelFileError, match="incomplete"):
        read_pth(torn)
    with zipfile.ZipFile(tmp_path / "other.pth", "w") as archive:
        archive.writestr("other/data.pkl", b"")
    with pytest.raises(ModelFileError, match="incomplete"):
        read_pth(tmp_path / "other.pth")
    with pytest.raises(ModelFileError, match="not found"):
        open_model(tmp_path / "none.pth")


def test_a_file_that_fails_its_probes_is_not_written(tmp_path, monkeypatch):
    import deepmd.pt.torchscript.export as export

    data = model_file_dict(model(type_one_side=True, neuron=[2]), section(), None, "PyTorch")
    data["probes"]["frames"][0]["@variables"]["energy"] += 1e-6
    with pytest.raises(ModelFileError, match="energy"):
        export.write_pth(tmp_path / "model.pth", data)
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_fails_names_its_file(tmp_path):
    """Nothing but the arrays of a program is looked at when it is opened."""
    path = tmp_path / "m.pth"
    write_pth(path, model_file_dict(model(), section(), 0.5, "PyTorch"))
    records = read_archive(path)
    name = next(n for n in records if n.endswith("graph_module.py"))
    whole = records[name]
    records[name] = re.sub(rb"(torch\.view\(\w+, \[\w+, \w+), 3\]", rb"\1, 5]", whole)
    assert records[name] != whole
    path.write_bytes(packed(records, path).getvalue())
    evaluator = open_program(path)
    with pytest.raises(ModelFileError, match=r"m\.pth: its program cannot be evaluated"):
        evaluator.evaluate(batch())


def test_a_mean_over_atoms_leaves_out_excluded_types():
    fitting = {
        "type": "property",
        "property_name": "gap",
        "task_dim": 2,
        "intensive": True,
        "neuron": [4],
        "seed": 2,
    }
    built = build_model(section() | {"fitting_net": fitting, "atom_exclude_types": [1]})
    program = build_program(built)
    assert program.contributing == [True, False]
    coord, cell, atype = frames(8, nf=3, virtual=(2,))
    atype[2, atype[2] >= 0] = 1  # no atom counts: the mean is 0, not 0/0
    keep = atype >= 0
    b = Batch(
        coord=coord[keep],
        cell=cell,
        periodic=np.full(3, True),
        atype=atype[keep],
        frame=np.nonzero(keep)[0],
        natoms=keep.sum(axis=1),
    )
    b.edges = batch_edges(b, built.rcut)
    want = NumPyEvaluator(built).evaluate(b)["gap"]
    assert np.abs(want[:2]).min() > 0
    close(program(*tensors(coord, atype, cell.reshape(3, 9)))["gap"], want, 1e-10)
    ext, ext_type, owner, nlist = extended(coord, cell, atype, built.rcut)
    close(program.forward_lower(*tensors(ext, ext_type, nlist, owner))["gap"], want, 1e-10)


def test_ties_are_broken_as_in_python():
    """In a crystal with a full ``sel`` the program keeps the neighbors that Python keeps."""
    built = model(sel=[7, 8])
    program = build_program(built, {})
    coord, cell, atype = rock_salt((2, 2, 2))
    found = program(*map(torch.tensor, (coord.reshape(1, -1), atype[None], cell.reshape(1, 9))))
    made = Batch.from_arrays(coord[None], cell[None], atype)
    made.edges = batch_edges(made, built.rcut)
    want = np.asarray(built.forward_edges(prepare(made, built.packings()))["energy"])
    np.testing.assert_allclose(found["atom_energy"][0], want, rtol=1e-12)
    for t in (0, 1):  # equal atoms
        assert np.ptp(want[atype == t]) <= 1e-12
