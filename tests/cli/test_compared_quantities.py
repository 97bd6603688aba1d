# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp test`` of dipoles, polarizabilities, densities of states and properties."""

import re

import numpy as np
import pytest

from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepEval
from deepmd.io import save_model
from deepmd.runtime.probes import model_file_dict
from deepmd.schema import normalize

NF, NA = 3, 6
TYPES = np.array([0, 1, 1, 0, 1, 1])
FITTINGS = {
    "dipole": {"type": "dipole", "sel_type": [0]},
    "polar": {"type": "polar"},
    "dos": {"type": "dos", "numb_dos": 5},
    "property": {"type": "property", "property_name": "gap", "task_dim": 2, "intensive": True},
}
#: Label of frames, of atoms, and numbers per frame.
LABELS = {
    "dipole": ("dipole", "atomic_dipole", 3),
    "polar": ("polarizability", "atomic_polarizability", 9),
    "dos": ("dos", "atom_dos", 5),
    "property": ("gap", "atom_gap", 2),
}


def write_model(path, kind):
    section = {
        "type_map": ["O", "H"],
        "descriptor": {
            "type": "se_e2_a",
            "rcut": 3.0,
            "rcut_smth": 0.5,
            "sel": [8, 16],
            "neuron": [2, 4],
            "axis_neuron": 2,
            "seed": 1,
        },
        "fitting_net": {"neuron": [4, 4], "seed": 1, **FITTINGS[kind]},
    }
    data = {
        "model": section,
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "loss": {"dipole": {"type": "tensor", "pref": 1.0, "pref_atomic": 0.0}}.get(
            "dipole" if kind in ("dipole", "polar") else kind, {"type": kind}
        ),
        "training": {"training_data": {"systems": ["x"]}, "numb_steps": 1},
    }
    section = normalize(data)["model"]
    save_model(path, model_file_dict(build_model(section), section, 0.9, "NumPy"))


def write_labels(folder, kind, seed, *, atoms=True, frames=True):
    """Write random labels; those of atoms only for the types that are predicted."""
    rng = np.random.default_rng(seed)
    name, atomic, size = LABELS[kind]
    labels = {}
    if frames:
        labels["frames"] = rng.normal(size=(NF, size))
        np.save(folder / f"set.000/{name}.npy", labels["frames"])
    if atoms:
        chosen = TYPES == 0 if kind == "dipole" else TYPES >= 0
        labels["atoms"] = rng.normal(size=(NF, int(chosen.sum()), size))
        np.save(folder / f"set.000/{atomic}.npy", labels["atoms"].reshape(NF, -1))
    return labels


@pytest.fixture
def case(dp, tmp_path, write_system):
    """Write a model of some kind and two systems; return labels and predictions."""

    def make(kind):
        write_model(tmp_path / "m.dp", kind)
        model = DeepEval(tmp_path / "m.dp")
        found = []
        for k, name in enumerate(("a", "b")):
            folder = write_system(tmp_path / "data" / name, nframes=NF, seed=k)
            labels = write_labels(folder, kind, k)
            coord, box = (np.load(folder / f"set.000/{n}.npy") for n in ("coord", "box"))
            out = model.eval(coord, box, TYPES, atomic=True)
            total, atoms = (None, out) if isinstance(out, np.ndarray) else out
            if total is None:
                total = model.eval(coord, box, TYPES, atomic=False)
                atoms = atoms[:, TYPES == 0] if kind == "dipole" else atoms
            found.append((labels, total, atoms))
        return found

    return make


def lines(log):
    """Numbers by text in the blocks of the log."""
    blocks = []
    for line in log.splitlines():
        if line.startswith(("# testing system", "# ----------weighted")):
            blocks.append({})
        found = re.fullmatch(r"([A-Z].*\S) *: ([-\d.e+]+)( \S+)?", line)
        if found:
            blocks[-1][line.split(":")[0]] = float(found[2])
    return blocks


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


@pytest.mark.parametrize("kind", ["dipole", "polar"])
@pytest.mark.parametrize("atomic", [False, True])
def test_tensors(dp, case, tmp_path, kind, atomic):
    systems = case(kind)
    flag = ["-a"] if atomic else []
    result = dp("test", "-m", "m.dp", "-s", "data", "-d", "det", *flag)
    assert result.code == 0, result.err
    one, two, average = lines(result.log)
    n = 2 if kind == "dipole" else 6
    title = "Dipole" if kind == "dipole" else "Polarizability"
    assert f"{title}  RMSE       : " in result.log
    errors = []
    for found, (labels, total, atoms) in zip((one, two), systems, strict=True):
        error = atoms - labels["atoms"] if atomic else total - labels["frames"]
        errors.append(rms(error))
        want = {f"{title}  RMSE       ": rms(error)}
        if not atomic:
            want[f"{title}  RMSE/sqrtN "] = rms(error) / np.sqrt(n)
            want[f"{title}  RMSE/N     "] = rms(error) / n
        assert found == pytest.approx(want, rel=1e-5)
    assert average == pytest.approx({f"{title}  RMSE       ": rms(errors)}, rel=1e-5)
    assert result.log.count("The unit of error is the same as the unit of the labels") == 3
    rows = np.loadtxt(tmp_path / "det.out")
    pairs = [(d["atoms"], a) if atomic else (d["frames"], t) for d, t, a in systems]
    want = [np.hstack([x.reshape(NF, -1) for x in pair]) for pair in pairs]
    np.testing.assert_allclose(rows, np.vstack(want), rtol=1e-12, atol=1e-15)
    text = (tmp_path / "det.out").read_text().splitlines()
    first = ["x", "y", "z"] if kind == "dipole" else ["pxx", "pxy", "pxz", "pyx"]
    first = " ".join(f"data_{c}{1 if atomic else ''}" for c in first)
    assert text[0].startswith(f"# data/a: {first}")
    assert text[0].endswith(f"z{n}" if atomic else "z")
    assert len(text[0].split()) == 2 + rows.shape[1]
    assert sum(t.startswith("#") for t in text) == 2


@pytest.mark.parametrize("kind", ["dos", "property"])
def test_invariants(dp, case, tmp_path, kind):
    systems = case(kind)
    result = dp("test", "-m", "m.dp", "-s", "data", "-d", "sub/det", "-a")
    assert result.code == 0, result.err
    one, two, average = lines(result.log)
    title, width = ("DOS", 19) if kind == "dos" else ("PROPERTY", 24)
    assert f"{title} MAE            : " in result.log
    assert ("Occupation/eV" if kind == "dos" else " units") in result.log
    for found, (labels, total, atoms) in zip((one, two), systems, strict=True):
        frames, local = total - labels["frames"], atoms - labels["atoms"]
        want = {
            f"{title} MAE": np.abs(frames).mean(),
            f"{title} RMSE": rms(frames),
            f"Atomic {title} MAE": np.abs(local).mean(),
            f"Atomic {title} RMSE": rms(local),
        }
        if kind == "dos":
            want |= {
                "DOS MAE/Natoms": np.abs(frames).mean() / 6,
                "DOS RMSE/Natoms": rms(frames) / 6,
            }
        assert found == pytest.approx({f"{k:<{width}}": v for k, v in want.items()}, rel=1e-5)
    assert not any(name.startswith("Atomic") for name in average)
    mae = f"{title} MAE".ljust(width)
    assert average[mae] == pytest.approx((one[mae] + two[mae]) / 2, rel=1e-5)
    file = "dos" if kind == "dos" else "property"
    names = {p.name for p in (tmp_path / "sub").iterdir()}
    stems = [f"det.{a}{file}.out{g}" for a in ("", "a") for g in ("", ".1")]
    assert names == {f"{stem}.{frame}" for stem in stems for frame in range(NF)}
    labels, total, atoms = systems[1]
    rows = np.loadtxt(tmp_path / f"sub/det.{file}.out.1.2")
    np.testing.assert_allclose(rows, np.stack([labels["frames"][2], total[2]], axis=1), rtol=1e-12)
    rows = np.loadtxt(tmp_path / f"sub/det.a{file}.out.1.0")
    want = np.stack([labels["atoms"][0].ravel(), atoms[0].ravel()], axis=1)
    np.testing.assert_allclose(rows, want, rtol=1e-12)


def test_without_the_label(dp, case, tmp_path):
    case("dipole")
    for name in ("a", "b"):
        (tmp_path / f"data/{name}/set.000/dipole.npy").unlink()
    result = dp("test", "-m", "m.dp", "-s", "data")
    assert result.code == 1
    assert result.errors == ["dp: data/a: has no label to compare with; add dipole.npy"]
    assert dp("test", "-m", "m.dp", "-s", "data", "-a").code == 0


def test_chunks_give_the_same(dp, case, tmp_path, monkeypatch):
    case("dipole")
    whole = lines(dp("test", "-m", "m.dp", "-s", "data", "-a").log)
    monkeypatch.setenv("DP_TEST_CHUNK_ATOMS", "6")
    assert lines(dp("test", "-m", "m.dp", "-s", "data", "-a").log) == whole


def test_frames_of_several_compositions(dp, case, tmp_path):
    """Mixed types with virtual atoms: N counts the selected atoms of each frame."""
    case("dipole")
    source, target = tmp_path / "data/a/set.000", tmp_path / "mixed/set.000"
    target.mkdir(parents=True)
    types = np.tile(TYPES, (NF, 1))
    types[1] = [0, 1, 1, 1, 1, -1]
    for name in ("coord", "box", "dipole"):
        np.save(target / f"{name}.npy", np.load(source / f"{name}.npy"))
    np.save(target / "real_atom_types.npy", types)
    (tmp_path / "mixed/type.raw").write_text("0\n" * NA)
    (tmp_path / "mixed/type_map.raw").write_text("O\nH\n")
    found = lines(dp("test", "-m", "m.dp", "-s", "mixed").log)[0]
    model = DeepEval(tmp_path / "m.dp")
    coord, box = (np.load(source / f"{n}.npy") for n in ("coord", "box"))
    pred = model.eval(coord, box, types, atomic=False, mixed_type=True)
    error = (pred - np.load(source / "dipole.npy")) / np.array([[2.0], [1.0], [2.0]])
    assert found["Dipole  RMSE/N     "] == pytest.approx(rms(error), rel=1e-5)


def test_spins(dp, reference, tmp_path):
    """Forces on atoms, and magnetic forces of the atoms with a spin only."""
    model, data = reference / "models/spin_se_e2_a.dp", reference / "data/spin/data_0"
    result = dp("test", "-m", model, "-s", data, "-n", "2", "-d", "det")
    assert result.code == 0, result.err
    found = lines(result.log)[0]
    potential = DeepEval(model)
    names = ("coord", "box", "spin", "force", "force_mag")
    coord, box, spin, *labels = (np.load(data / f"set.000/{n}.npy")[:2] for n in names)
    types = np.loadtxt(data / "type.raw", dtype=int)  # Ni, O are the model's first types, too
    out = potential.eval(coord, box, types, spin=spin)
    real, magnetic = (x.reshape(2, -1, 3) for x in labels)
    chosen = out[4][0, :, 0] > 0
    assert 0 < chosen.sum() < len(types)
    assert found["Force atom RMSE    "] == pytest.approx(rms(out[1] - real), rel=1e-5)
    error = (out[3] - magnetic)[:, chosen]
    assert found["Force spin RMSE    "] == pytest.approx(rms(error), rel=1e-5)
    assert re.search(r"Force spin MAE     : \S+ eV/uB", result.log)
    assert np.loadtxt(tmp_path / "det.fm.out").shape == (2 * chosen.sum(), 6)
    assert np.loadtxt(tmp_path / "det.fr.out").shape == (2 * len(types), 6)
    assert not any(name.startswith("Force  ") for name in found)
