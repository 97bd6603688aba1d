# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp change-bias`` on checkpoints and model files."""

import re

import numpy as np
import pytest
from infer.models import make_section
from infer.models import write as write_model

from deepmd.backend.backend import Backend
from deepmd.dpmodel.model import build_model
from deepmd.entrypoints.change_bias import change_bias
from deepmd.infer import DeepEval, DeepPot
from deepmd.io import load_model, save_model
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.probes import model_file_dict

TYPES = [0, 1, 1, 0, 1, 1]


@pytest.fixture
def model(tmp_path, write_system, dp):
    """Write a model file with biases, and two systems of other composition."""
    write_model(tmp_path / "m.dp")
    write_system(tmp_path / "data/a")
    folder = write_system(tmp_path / "data/b", nframes=4, seed=1)
    (folder / "type.raw").write_text("0\n0\n0\n0\n1\n1\n")
    return "m.dp"


def out_bias(path):
    return np.array(load_model(path)["model"]["@variables"]["out_bias"])[0, :, 0]


def least_squares(tmp_path, model):
    """Per type: the fit of what is left between labels and predictions, or of labels alone."""
    counts, rest = [], []
    for name, types in (("a", TYPES), ("b", [0, 0, 0, 0, 1, 1])):
        folder = tmp_path / f"data/{name}/set.000"
        coord, box, energy = (np.load(folder / f"{n}.npy") for n in ("coord", "box", "energy"))
        if model is not None:
            potential = model if isinstance(model, DeepPot) else DeepPot(model)
            energy = energy - potential.eval(coord, box, types)[0].ravel()
        counts += [np.bincount(types, minlength=2)] * len(energy)
        rest.append(energy.ravel())
    return np.linalg.lstsq(np.array(counts, float), np.concatenate(rest), rcond=None)[0]


def test_change(dp, model, tmp_path):
    before = (tmp_path / model).read_bytes()
    result = dp("change-bias", model, "-s", "data")
    assert result.code == 0, result.err
    want = out_bias(tmp_path / model) + least_squares(tmp_path, tmp_path / model)
    found = out_bias(tmp_path / "m_updated.dp")
    np.testing.assert_allclose(found, want, rtol=1e-10)
    assert (tmp_path / model).read_bytes() == before
    assert "bias of energy for ['O', 'H']: " in result.log
    assert "model with the new bias written to m_updated.dp" in result.log
    # nothing is left to fit
    np.testing.assert_allclose(least_squares(tmp_path, tmp_path / "m_updated.dp"), 0, atol=1e-10)


def test_set_and_number_of_batches(dp, model, tmp_path):
    assert dp("change-bias", model, "-s", "data", "-m", "set", "-o", "new.dp").code == 0
    np.testing.assert_allclose(out_bias(tmp_path / "new.dp"), least_squares(tmp_path, None))
    assert dp("change-bias", model, "-s", "data", "-m", "set", "-n", "1", "-o", "few.dp").code == 0
    assert np.abs(out_bias(tmp_path / "few.dp") - out_bias(tmp_path / "new.dp")).max() > 1e-3


def test_values(dp, model, tmp_path):
    assert dp("change-bias", model, "-b", "-1.5", "2", "-o", "new.yaml").code == 0
    assert out_bias(tmp_path / "new.yaml").tolist() == [-1.5, 2.0]
    old, new = (DeepPot(tmp_path / f) for f in (model, "new.yaml"))
    coord = np.load(tmp_path / "data/a/set.000/coord.npy")
    shift = np.array([-1.5, 2.0]) - out_bias(tmp_path / model)
    change = new.eval(coord, None, TYPES)[0] - old.eval(coord, None, TYPES)[0]
    np.testing.assert_allclose(change, 2 * shift[0] + 4 * shift[1], rtol=1e-10)


def test_bias_inside_of_the_fitting_does_not_count_twice(dp, model, tmp_path):
    tree = load_model(tmp_path / model)
    tree["model"]["fitting"]["@variables"]["bias_atom_e"][:] = [[3.0], [4.0]]
    del tree["probes"]
    save_model(tmp_path / "inner.dp", tree)
    for options in (["-b", "1", "2"], ["-m", "set", "-s", "data"]):
        for file in (model, "inner.dp"):
            assert dp("change-bias", file, *options).code == 0
        results = [
            DeepPot(tmp_path / f).eval(np.eye(3), None, [0, 1, 1])[0]
            for f in ("m_updated.dp", "inner_updated.dp")
        ]
        np.testing.assert_allclose(results[0], results[1], rtol=1e-12)
    log = dp("change-bias", "inner.dp", "-s", "data").log
    first = out_bias(tmp_path / model)[0] + 3.0
    assert (
        f"bias of energy for ['O', 'H']: [{first!r}".replace("np.float64(", "").rstrip(")") in log
    )


def test_checkpoint_keeps_the_training(dp, good, write, tmp_path):
    assert dp("--dp", "train", write("in.json", good)).code == 0
    for given in (".", "model.ckpt", "model.ckpt-2.dp"):
        assert dp("--dp", "change-bias", given, "-s", "data", "-o", "new.dp").code == 0
        backend = Backend.get_backend("dpmodel")()
        old, new = (backend.read_checkpoint(tmp_path / f) for f in ("model.ckpt-2.dp", "new.dp"))
        assert new.step == old.step == 2
        assert new.optimizer.keys() == old.optimizer.keys()
        assert str(new.trainer) == str(old.trainer)
        bias = [c.models["Default"].atomic_model.out_bias for c in (old, new)]
        assert np.abs(bias[0] - bias[1]).max() > 1e-6
    assert dp("change-bias", ".", "-s", "data").code == 0
    assert (tmp_path / "model.ckpt-2_updated.dp").is_file()
    # the training goes on from the new file
    good["training"]["numb_steps"] = 3
    result = dp("--dp", "train", write("in.json", good), "-r", "new.dp")
    assert result.code == 0, result.err


def as_checkpoint_of(name, tmp_path):
    """Write the trained model as a checkpoint of another backend."""
    state = Backend.get_backend("dpmodel")().read_checkpoint(tmp_path / "model.ckpt-2.dp")
    backend = Backend.get_backend(name)()
    backend.write_checkpoint(tmp_path / f"c{backend.checkpoint_suffix}", state)
    return backend


def test_checkpoint_of_pytorch(dp, good, write, tmp_path):
    pytest.importorskip("torch")
    assert dp("--dp", "train", write("in.json", good)).code == 0
    backend = as_checkpoint_of("pytorch", tmp_path)
    assert dp("change-bias", "model.ckpt-2.dp", "-s", "data", "-o", "want.dp").code == 0
    result = dp("--pt", "change-bias", "c", "-s", "data")
    assert result.code == 0, result.err
    found = backend.read_checkpoint(tmp_path / "c_updated.pt").models["Default"].atomic_model
    np.testing.assert_allclose(found.out_bias[0, :, 0], out_bias(tmp_path / "want.dp"))


def test_checkpoint_of_jax(dp, good, write, tmp_path):
    pytest.importorskip("jax")
    assert dp("--dp", "train", write("in.json", good)).code == 0
    backend = as_checkpoint_of("jax", tmp_path)
    assert dp("change-bias", "c.jax", "-b", "1", "2").code == 0
    new = backend.read_checkpoint(tmp_path / "c_updated.jax")
    assert new.models["Default"].atomic_model.out_bias[0, :, 0].tolist() == [1.0, 2.0]
    assert new.step == 2


def test_one_branch_of_several(dp, model, tmp_path):
    params = {"model_dict": {name: make_section(seed=k) for k, name in enumerate("ab")}}
    models = {name: build_model(section) for name, section in params["model_dict"].items()}
    backend = Backend.get_backend("dpmodel")()
    backend.write_checkpoint(tmp_path / "two.dp", Checkpoint(models, params, step=5))
    assert dp("change-bias", "two.dp", "-b", "1", "2", "--model-branch", "b").code == 0
    assert dp("change-bias", "two_updated.dp", "-s", "data", "--head", "a", "-o", "x.dp").code == 0
    new = backend.read_checkpoint(tmp_path / "x.dp")
    assert new.models["b"].atomic_model.out_bias[0, :, 0].tolist() == [1.0, 2.0]
    want = least_squares(tmp_path, DeepPot(tmp_path / "two.dp", head="a"))
    np.testing.assert_allclose(new.models["a"].atomic_model.out_bias[0, :, 0], want, rtol=1e-9)
    result = dp("change-bias", "two.dp", "-b", "1", "2")
    assert result.code == 1
    assert result.errors == [
        "dp: two.dp: holds 2 branches: a, b; name one with --head (in Python: head=)"
    ]


@pytest.mark.parametrize(("name", "suffix"), [("pytorch", ".pth"), ("jax", ".hlo")])
def test_compiled_files_go_through_the_hooks(dp, model, tmp_path, monkeypatch, name, suffix):
    """Compiling takes long and is tested elsewhere: here neutral files have the other names."""
    backend = Backend.get_backend(name)
    pytest.importorskip(backend.packages[0])

    def read(self, path):
        return load_model(path.with_name(path.name + ".dp"))

    def write(self, path, data):
        save_model(path.with_name(path.name + ".dp"), data)

    monkeypatch.setattr(backend, "serialize_hook", read)
    monkeypatch.setattr(backend, "deserialize_hook", write)
    (tmp_path / f"f{suffix}").touch()
    (tmp_path / f"f{suffix}.dp").write_bytes((tmp_path / model).read_bytes())
    result = dp("change-bias", f"f{suffix}", "-m", "set", "-s", "data")
    assert result.code == 0, result.err
    found = out_bias(tmp_path / f"f_updated{suffix}.dp")
    np.testing.assert_allclose(found, least_squares(tmp_path, None))


@pytest.mark.parametrize("distinguish", [True, False])
@pytest.mark.parametrize("mode", ["change", "set"])
def test_property(dp, tmp_path, write_system, distinguish, mode):
    """Types that are not distinguished share one bias, the mean of what is left."""
    section = make_section(
        type="property", property_name="gap", intensive=True, distinguish_types=distinguish
    )
    save_model(tmp_path / "m.dp", model_file_dict(build_model(section), section, 0.9, "NumPy"))
    folder = write_system(tmp_path / "data") / "set.000"
    gap = np.random.default_rng(3).normal(5.0, 1.0, (8, 1))
    np.save(folder / "gap.npy", gap)
    assert dp("change-bias", "m.dp", "-s", "data", "-m", mode).code == 0
    coord, box = (np.load(folder / f"{n}.npy") for n in ("coord", "box"))
    old, new = (DeepEval(tmp_path / f).eval(coord, box, TYPES)[0] for f in ("m.dp", "m_updated.dp"))
    bias = out_bias(tmp_path / "m_updated.dp")
    if mode == "change":
        assert (new - gap).mean() == pytest.approx(0, abs=1e-10)
    if not distinguish:
        assert bias[0] == bias[1]
        assert bias[0] == pytest.approx(gap.mean() - (old.mean() if mode == "change" else 0))


def test_spins(dp, reference, tmp_path):
    model, data = reference / "models/spin_se_e2_a.dp", reference / "data/spin/data_0"
    result = dp("change-bias", model, "-s", data, "-o", "new.dp")
    assert result.code == 0, result.err
    log = dp("test", "-m", "new.dp", "-s", data).log
    energy = np.load(data / "set.000/energy.npy").ravel()
    rmse = float(re.search(r"Energy RMSE +: (\S+)", log)[1])
    assert rmse < energy.std() + 0.1


def test_a_dipole_has_no_bias(fails, tmp_path):
    section = make_section(type="dipole")
    save_model(tmp_path / "m.dp", model_file_dict(build_model(section), section, 0.9, "NumPy"))
    assert "m.dp: a dipole has no bias" in fails("change-bias", "m.dp", "-b", "1", "2")


def test_wrong_use(fails, model, tmp_path, write_system):
    text = fails("change-bias", model, "-b", "1")
    assert text == "dp: --bias-value: 1 given, 2 types need 1 each; give them in the order O H"
    text = fails("change-bias", model, "-b", "1", "nan")
    assert text == "dp: --bias-value: holds NaN or infinite numbers"
    assert "no.dp: model file not found" in fails("change-bias", "no.dp")
    text = fails("change-bias", model, "-s", "data", "-o", "x.pt")
    assert text.startswith("dp: x.pt: a model file of NumPy does not end so; use .dp or .yaml")
    assert "--numb-batch: -1 batches" in fails("change-bias", model, "-n", "-1")
    fails("change-bias", model, "-s", "data", "-b", "1", "2", code=2)
    for name in ("a", "b"):
        (tmp_path / f"data/{name}/set.000/energy.npy").unlink()
    text = fails("change-bias", model, "-s", "data")
    assert text.startswith("dp: data: no system has energy.npy or atom_energy.npy; ")


def test_as_a_function(model, tmp_path):
    path = change_bias(INPUT=str(tmp_path / model), bias_value=[0.0, 1.0], unheard_of=1)
    assert out_bias(path).tolist() == [0.0, 1.0]
