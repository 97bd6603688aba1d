# SPDX-License-Identifier: LGPL-3.0-or-later
"""Uncertainty of energies and forces: definitions, coverage, files, and every command that uses it."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from infer.models import make_section
from insight.alloys import CONFIG, alloy, train

from deepmd.base.errors import InputError, ModelFileError
from deepmd.data.search import open_systems
from deepmd.data.writers import write_frames
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.calibration import Calibration, calibrate, conformal_factor
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.uncertainty import (
    SECTION,
    LastLayer,
    Uncertainty,
    choose_ridge,
    ensemble_model,
    feature_model,
    n_features,
    spread_features,
)
from deepmd.entrypoints.uncertainty import LABELS, uncertainty
from deepmd.infer import DeepPot
from deepmd.infer.uncertainty import (
    Errors,
    Estimator,
    coverage,
    errors,
    farthest,
    features,
    frame_sums,
    hidden_layer,
)
from deepmd.infer.uncertainty_fit import curvature
from deepmd.insight.comparison import differences
from deepmd.io import load_model, save_model
from deepmd.main import main
from deepmd.runtime.evaluator import Evaluator


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two models of different seeds, training, validation and test data, and fitted files."""
    folder = tmp_path_factory.mktemp("uncertainty")
    config = copy.deepcopy(CONFIG)
    config["training"]["numb_steps"] = 40
    for k in (1, 2):
        config["model"]["descriptor"]["seed"] = config["model"]["fitting_net"]["seed"] = k
        train(folder / f"run{k}", config, alloy(12), alloy(24, seed=1))
        frozen, data = str(folder / f"frozen{k}.dp"), str(folder / f"run{k}/train")
        assert main(["--dp", "freeze", "-c", str(folder / f"run{k}"), "-o", frozen]) == 0
        # So short a training leaves the energies off by a constant.
        arguments = ["-s", data, "-o", str(folder / f"m{k}.dp")]
        assert main(["change-bias", frozen, *arguments]) == 0
    write_frames(alloy(30, seed=2), folder / "test")
    data = {"train": [str(folder / "run1/train")], "valid": [str(folder / "run1/valid")]}
    uncertainty(MODEL=[str(folder / "m1.dp")], output=str(folder / "last.dp"), **data)
    models = [str(folder / f"m{k}.dp") for k in (1, 2)]
    uncertainty(MODEL=models, output=str(folder / "committee.dp"), valid=data["valid"])
    return folder


def batch_of(path, potential):
    [system] = open_systems([str(path)], type_map=potential.get_type_map())
    return system.load(np.arange(system.nframes), LABELS)


# -- mathematics ----------------------------------------------------------------------------------


def test_coverage_of_new_frames_is_the_stated_one():
    """Over many calibrations the mean coverage is between c and c + 1/(n+1), frames as units."""
    rng = np.random.default_rng(0)
    n, level = 39, 0.8
    inside = []
    for _ in range(2000):
        scores = np.abs(rng.standard_t(3, size=n + 1))  # heavy tails: no normal distribution
        factor = conformal_factor(scores[:n], np.arange(n), level)
        inside.append(scores[n] <= factor)
    # Four standard errors of the mean of 2,000 draws.
    assert level - 0.036 < np.mean(inside) < level + 1 / (n + 1) + 0.036


def test_coverage_with_correlated_components():
    """Components of a frame that fail together do not make intervals too small."""
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(400):
        size = np.exp(rng.normal(size=(30, 1)))  # a frame is good or bad as a whole
        scores = np.abs(size * rng.normal(size=(30, 6)))
        frame = np.repeat(np.arange(29), 6)
        factor = conformal_factor(scores[:29].ravel(), frame, 0.7)
        shares.append((scores[29] <= factor).mean())
    assert np.mean(shares) > 0.7 - 0.06


def test_too_few_frames_have_no_interval():
    assert conformal_factor(np.ones(9), np.arange(9), 0.9) == 1.0
    assert conformal_factor(np.ones(8), np.arange(8), 0.9) == np.inf
    found = calibrate(np.ones(8), np.full(8, 0.5), np.arange(8))
    assert found.scale == 2.0
    assert [c for c, _ in found.intervals] == [0.5, 0.68, 0.8]
    assert found.factor(0.99) == np.inf


def test_linear_model_has_the_covariance_of_least_squares():
    """Errors of a fitted linear model with known noise are those that the covariance states."""
    rng = np.random.default_rng(2)
    x, new = rng.normal(size=(200, 5)), 2.0 * rng.normal(size=(4000, 5))
    truth = rng.normal(size=5)
    last = LastLayer.from_curvature(x.T @ x, 1e-9)
    spread = last.deviation(new)
    np.testing.assert_allclose(
        spread, np.sqrt(np.einsum("ni,ij,nj->n", new, np.linalg.inv(x.T @ x), new)), rtol=1e-6
    )
    fits = [np.linalg.lstsq(x, x @ truth + rng.normal(size=200), rcond=None)[0] for _ in range(300)]
    true_spread = np.std(new[:50] @ np.array(fits).T, axis=1)
    np.testing.assert_allclose(spread[:50], true_spread, rtol=0.25)
    # Draws have this covariance, too: 16 of them know it to about 20 %.
    drawn = np.sqrt(np.mean(np.square(new @ last.weights.T), axis=1))
    assert abs(np.median(drawn / spread) - 1.0) < 0.25


def test_regularization_is_chosen_by_likelihood():
    rng = np.random.default_rng(3)
    directions = np.diag([1.0, 1e-3, 1e-6])
    phi = np.eye(3)[np.arange(600) % 3]
    for ridge in (1e-5, 1e-1):
        spread = LastLayer.from_curvature(directions, ridge).deviation(phi)
        found = choose_ridge(directions, phi, spread * rng.normal(size=600))
        assert ridge / 11 < found < 11 * ridge


def test_farthest_points():
    points = np.array([[0.0, 0], [10, 0], [0.1, 0], [0, 6], [10, 0]])
    assert farthest(points, 3, np.zeros((0, 2)), start=2) == [2, 1, 3]
    assert farthest(points, 2, np.array([[10.0, 0]])) == [3, 2]
    assert len(farthest(points, 9, np.zeros((0, 2)))) == 4  # the last coincides with another


# -- models ---------------------------------------------------------------------------------------


def test_forces_are_derivatives_of_the_features(folder):
    """Deviations of forces are those of w·∂Φ/∂r over the stored weights; energies are φᵀΣφ."""
    potential = DeepPot(folder / "last.dp")
    batch = batch_of(folder / "test", potential).frames(0, 1)
    last = potential.evaluator.uncertainty.last_layer
    out = Estimator(potential).evaluate_batch(batch)
    scale = potential.evaluator.uncertainty
    phi = frame_sums(features(potential, batch), batch)
    want = scale.energy.scale * np.linalg.norm(last.factor @ phi[0])
    np.testing.assert_allclose(out["energy_std"][0, 0], want, rtol=1e-10)
    step, slopes = 1e-4, []
    for sign in (1, -1):
        moved = dataclasses.replace(batch, coord=batch.coord.copy())
        moved.coord[3, 1] += sign * step
        slopes.append(last.weights @ frame_sums(features(potential, moved), moved)[0])
    drawn = (slopes[0] - slopes[1]) / (2 * step)
    want = scale.force.scale * np.sqrt(np.mean(np.square(drawn)))
    np.testing.assert_allclose(out["force_std"][3, 1], want, rtol=1e-5)


SE_ATTEN = {
    "type": "se_atten", "sel": 20, "rcut": 4.0, "rcut_smth": 0.5, "neuron": [4, 8],
    "axis_neuron": 3, "attn_layer": 1, "attn": 8, "attn_dotr": True, "tebd_dim": 4, "seed": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("descriptor", "fitting"),
    [
        (None, {"numb_fparam": 2, "numb_aparam": 1, "resnet_dt": True}),
        (None, {"precision": "float32", "activation_function": "gelu"}),
        (None, {"neuron": []}),
        (SE_ATTEN, {"dim_case_embd": 2}),
    ],
)
def test_the_own_last_layer_gives_the_own_forces(descriptor, fitting):
    """Of the weights of the model itself the ensemble has the energies and forces of the model."""
    section = make_section(**fitting)
    if descriptor is not None:
        section["descriptor"] = descriptor
    model = build_model(section)
    rng = np.random.default_rng(0)
    arrays = {"fparam": rng.normal(size=(1, 2)), "aparam": rng.normal(size=(6, 1))}
    given = arrays if "numb_fparam" in fitting else {}
    coord, cell = rng.uniform(0, 5, (1, 6, 3)), 5 * np.eye(3)[None]
    batch = Batch.from_arrays(coord, cell, [0, 1, 1, 0, 1, 0], **given)
    batch.edges = batch_edges(batch, 4.0)
    networks = model.atomic_model.fitting.nets.networks
    weights = np.concatenate([net.layers[-1].w[:, 0] for net in networks])
    weights = np.stack([np.append(weights, [0.0, 0.0]), rng.normal(size=len(weights) + 2)])
    assert n_features(model) == weights.shape[1]
    want = Evaluator(model).evaluate(batch)
    found = Evaluator(ensemble_model(model, weights)).evaluate(batch)
    for name in ("force", "virial"):
        scale = np.abs(want[name]).max()
        np.testing.assert_allclose(found[name][:, 0], want[name], atol=1e-6 * scale)
    hidden = Evaluator(feature_model(model)).evaluate(batch, derivatives=())["atom_energy"]
    phi = spread_features(model, hidden, batch.atype)
    phi[:, -2:] = 0.0
    np.testing.assert_allclose(phi @ weights.T, found["atom_energy"], rtol=1e-5, atol=1e-7)


def test_curvature_is_that_of_all_coordinates(folder):
    """Random directions give the trace over coordinates; many of them come close."""
    potential = DeepPot(folder / "last.dp")
    batch = batch_of(folder / "test", potential).frames(0, 1)
    rows, step = [], 1e-3
    for k in range(batch.coord.size):
        ends = []
        for sign in (1, -1):
            moved = dataclasses.replace(batch, coord=batch.coord.copy())
            moved.coord.reshape(-1)[k] += sign * step
            ends.append(frame_sums(features(potential, moved), moved)[0])
        rows.append((ends[0] - ends[1]) / (2 * step))
    phi = frame_sums(features(potential, batch), batch)
    n = batch.n_atoms
    want = np.array(rows).T @ np.array(rows) / (3 * n)
    found = np.mean([curvature(potential, [batch], seed)[0] for seed in range(40)], axis=0)
    found -= phi.T @ phi / n
    assert np.linalg.norm(found - want) < 0.25 * np.linalg.norm(want)


def test_forces_from_atoms_alone(folder):
    """They are those of the definition, alike in all directions; every engine gives the layer."""
    found = {}
    for engine in ("auto", "framework"):
        potential = DeepPot(folder / "last.dp", engine=engine)
        batch = batch_of(folder / "test", potential).frames(0, 3)
        found[engine] = Estimator(potential, forces="atoms").evaluate_batch(batch)
        assert "virial_std" not in found[engine]
    atoms = potential.evaluator.uncertainty.atoms
    hidden = hidden_layer(potential, batch)
    product = np.stack([atoms.factor[t] @ h for t, h in zip(batch.atype, hidden, strict=True)])
    far = np.linalg.norm(product - atoms.center[batch.atype], axis=1)
    want = np.hypot(atoms.floor[batch.atype], atoms.slope[batch.atype] * far)
    draws = Estimator(potential).evaluate_batch(batch)
    for out in found.values():
        np.testing.assert_allclose(out["force_std"], np.repeat(want[:, None], 3, axis=1), rtol=1e-8)
        for name in ("energy", "force", "energy_std", "atom_energy_std"):
            np.testing.assert_allclose(out[name], draws[name], rtol=1e-8, atol=1e-12)


def test_files_without_atoms_say_so(folder, tmp_path):
    """The section of an earlier release: all but the cheap forces."""
    tree = load_model(folder / "last.dp")
    del tree[SECTION]["atoms"]
    save_model(tmp_path / "old.dp", tree)
    potential = DeepPot(tmp_path / "old.dp")
    batch = batch_of(folder / "test", potential).frames(0, 2)
    want = Estimator(DeepPot(folder / "last.dp")).evaluate_batch(batch)
    found = Estimator(potential).evaluate_batch(batch)
    for name in ("energy_std", "atom_energy_std", "force_std"):
        np.testing.assert_allclose(found[name], want[name], rtol=1e-8)
    for name, message in (("old.dp", "of an earlier release"), ("committee.dp", "of a committee")):
        path = tmp_path / name if name == "old.dp" else folder / name
        others = [] if name == "old.dp" else [DeepPot(folder / "m2.dp")]
        with pytest.raises(InputError, match=message):
            Estimator(DeepPot(path), others, forces="atoms")
    with pytest.raises(InputError, match="give draws or atoms"):
        Estimator(potential, forces="guess")


@pytest.mark.parametrize("name", ["last.dp", "committee.dp"])
def test_intervals_hold_on_frames_never_seen(folder, name):
    """Calibrated on 16 or 24 frames, tested on 30 others of the same kind."""
    potential = DeepPot(folder / name)
    others = [DeepPot(folder / "m2.dp")] if name == "committee.dp" else []
    estimator = Estimator(potential, others)
    batch = batch_of(folder / "test", potential)
    out = estimator.evaluate_batch(batch, derivatives=("force",))
    deviation = {k: out[f"{k}_std"] for k in ("energy", "force")}
    for of, known in zip(
        errors(batch, out, deviation),
        (estimator.uncertainty.energy, estimator.uncertainty.force),
        strict=True,
    ):
        assert isinstance(of, Errors)
        # Of energies 30 numbers: the binomial deviation and that of the calibration, three times.
        assert coverage(of, known, 0.8) > 0.8 - 3 * np.sqrt(0.16 / 30 + 0.16 / 16)
        ratio = np.sqrt(np.mean(np.square(of.error / of.deviation)))
        assert 0.3 < ratio < 3.0


def test_features_are_the_last_layer(folder):
    potential = DeepPot(folder / "m1.dp")
    frame = alloy(1).frames[0]
    hidden = potential.eval_fitting_last_layer(frame.coord, frame.cell, frame.types)[0]
    batch = batch_of(folder / "test", potential)
    batch = dataclasses.replace(batch.frames(0, 1), coord=frame.coord, atype=frame.types)
    batch.cell[:] = frame.cell
    found = features(potential, batch)
    for a, t in enumerate(frame.types):
        want = np.zeros(26)
        want[12 * t : 12 * t + 12], want[24 + t] = hidden[a], 1.0
        np.testing.assert_allclose(found[a], want, atol=1e-12)


def test_far_frames_are_less_certain(folder):
    estimator = Estimator(DeepPot(folder / "last.dp"))
    near, far = alloy(4, seed=5), alloy(4, seed=5, rattle=0.4, strain=0.1)
    means = []
    for frames in (near, far):
        coord = np.stack([f.coord for f in frames.frames])
        cell = np.stack([f.cell for f in frames.frames])
        out = estimator.evaluate(coord, cell, frames.frames[0].types)
        assert out["force_std"].shape == (4, 8, 3)
        assert out["atom_energy_std"].shape == (4, 8, 1)
        means.append((out["energy_std"].mean(), out["force_std"].mean()))
    assert means[1][0] > 1.5 * means[0][0]
    assert means[1][1] > 1.5 * means[0][1]


# -- files ----------------------------------------------------------------------------------------


def test_file_keeps_model_and_results(folder):
    plain, fitted = load_model(folder / "m1.dp"), load_model(folder / "last.dp")
    assert fitted.pop(SECTION)["kind"] == "last_layer"
    assert list(plain) == list(fitted)
    frame = alloy(1).frames[0]
    results = [
        DeepPot(folder / name).eval(frame.coord, frame.cell, frame.types)
        for name in ("m1.dp", "last.dp")
    ]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_compressed_and_converted_files_keep_it(folder, tmp_path):
    compressed, text = tmp_path / "c.dp", tmp_path / "m.yaml"
    assert main(["--dp", "compress", "-i", str(folder / "last.dp"), "-o", str(compressed)]) == 0
    assert main(["convert-backend", str(folder / "last.dp"), str(text)]) == 0
    frame = alloy(1, seed=9).frames[0]
    out = [
        Estimator(DeepPot(path)).evaluate(frame.coord, frame.cell, frame.types)
        for path in (folder / "last.dp", compressed, text)
    ]
    for name in ("energy_std", "force_std", "virial_std"):
        np.testing.assert_allclose(out[1][name], out[0][name], rtol=1e-4)
        np.testing.assert_allclose(out[2][name], out[0][name], rtol=1e-8)


def test_differences_name_it(folder):
    """A model with an uncertainty is not equal to the one without."""
    [text] = differences(folder / "m1.dp", folder / "last.dp")
    assert "only in last.dp, such as uncertainty/" in text


def test_a_new_bias_drops_it(folder, tmp_path, caplog):
    target = tmp_path / "b.dp"
    arguments = ["change-bias", str(folder / "last.dp"), "-b", "1", "2", "-o", str(target)]
    assert main(arguments) == 0
    assert SECTION not in load_model(target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update({"@version": 7}), "version 7"),
        (lambda s: s["@variables"].pop("factor"), "arrays are missing"),
        (lambda s: s["@variables"].update(weights=np.zeros((3, 5))), "arrays are missing"),
        (lambda s: s["energy"].update(scale=float("nan")), "impossible"),
        (lambda s: s.pop("force"), "missing"),
        (lambda s: s.update(kind="guess"), "kind"),
    ],
)
def test_damaged_sections(folder, tmp_path, change, message):
    tree = load_model(folder / "last.dp")
    change(tree[SECTION])
    save_model(tmp_path / "damaged.dp", tree)
    with pytest.raises(ModelFileError, match=message):
        DeepPot(tmp_path / "damaged.dp")


def test_round_trip(folder):
    potential = DeepPot(folder / "last.dp")
    found = potential.evaluator.uncertainty
    again = Uncertainty.deserialize(found.serialize(), potential.model)
    assert again.energy == found.energy
    assert isinstance(again.force, Calibration)
    assert len(again.last_layer.factor) == n_features(potential.model)


# -- commands -------------------------------------------------------------------------------------


def test_dp_test(folder, tmp_path):
    out = tmp_path / "e.json"
    data = ["-s", str(folder / "test"), "--json", str(out), "--uncertainty"]
    assert main(["test", "-m", str(folder / "last.dp"), *data]) == 0
    found = json.loads(out.read_text())["uncertainty"]
    assert found["force"]["frames"] == 30
    assert set(found["energy"]["coverage"]) >= {"0.5", "0.8"}
    for name in ("Cu", "Au"):
        of_atoms = found[f"force_atoms_{name}"]
        # Intervals of 16 frames, looked at in 30 others: three deviations of both.
        assert of_atoms["coverage"]["0.8"] > 0.8 - 3 * np.sqrt(0.16 / 30 + 0.16 / 16)
        assert 0.3 < of_atoms["rms_ratio"] < 3.0
    assert main(["test", "-m", str(folder / "m1.dp"), *data]) == 1


@pytest.mark.parametrize("models", [["last.dp"], ["committee.dp", "m2.dp"]])
def test_model_devi(folder, tmp_path, models):
    out = tmp_path / "devi.out"
    names = [str(folder / m) for m in models]
    arguments = ["-s", str(folder / "test"), "-o", str(out), "--calibrated"]
    assert main(["model-devi", "-m", *names, *arguments]) == 0
    rows = np.loadtxt(out)
    potential, *others = map(DeepPot, names)
    batch = batch_of(folder / "test", potential)
    want = Estimator(potential, others).evaluate_batch(batch)
    size = np.linalg.norm(want["force_std"], axis=1).reshape(30, 8)
    np.testing.assert_allclose(rows[:, 4], size.max(axis=1), rtol=1e-5)
    np.testing.assert_allclose(rows[:, 6], size.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(rows[:, 7], want["energy_std"][:, 0] / 8, rtol=1e-5)


def test_select(folder, tmp_path):
    pool = alloy(20, seed=5)
    pool.frames += alloy(4, seed=6, rattle=0.35, strain=0.08).frames
    write_frames(pool, tmp_path / "pool")
    out = tmp_path / "chosen"
    arguments = ["-m", str(folder / "last.dp"), "--train", str(folder / "run1/train")]
    arguments += ["-n", "5", "-o", str(out)]
    assert main(["select", str(tmp_path / "pool"), *arguments]) == 0
    [system] = open_systems([str(out)])
    assert system.nframes == 5
    assert not list(out.rglob("energy.npy")) + list(out.rglob("force.npy"))
    rows = [line.split() for line in (tmp_path / "chosen.txt").read_text().splitlines()[1:]]
    numbers = [int(r[1]) for r in rows]
    assert len(set(numbers)) == 5
    assert len([n for n in numbers if n >= 20]) >= 3  # the distorted ones
    limit = sorted(float(r[3]) for r in rows)[2]
    arguments[-1] = str(tmp_path / "above")
    assert main(["select", str(tmp_path / "pool"), *arguments, "--low", str(limit)]) == 0
    rows = [line.split() for line in (tmp_path / "above.txt").read_text().splitlines()[1:]]
    assert all(float(r[3]) >= limit * (1 - 1e-6) for r in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["uncertainty", "m1.dp", "--train", "run1/train"], "--valid: no data"),
        (["uncertainty", "m1.dp", "--valid", "run1/valid"], "--train: no data"),
        (["uncertainty", "m1.dp", "--train", "test", "--valid", "test", "-n", "-1"], "-1 frames"),
        (["select", "test", "-m", "m1.dp"], "holds no uncertainty"),
        (["select", "test", "-m", "committee.dp"], "that of 2 models"),
        (["select", "test", "-m", "last.dp", "--low", "3", "--high", "1"], "LOW < HIGH"),
        (["select", "test", "-m", "last.dp", "--low", "1e6"], "no frame has a force deviation"),
        (["model-devi", "-m", "m1.dp", "-s", "test", "--calibrated"], "holds no uncertainty"),
        (
            ["model-devi", "-m", "committee.dp", "m1.dp", "-s", "test", "--calibrated"],
            "other models",
        ),
    ],
)
def test_wrong_requests(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


def test_ase(folder):
    pytest.importorskip("ase")
    from ase import Atoms

    from deepmd.calculator import DP

    frame = alloy(1, seed=4).frames[0]
    atoms = Atoms(np.array(["Cu", "Au"])[frame.types], frame.coord, cell=frame.cell, pbc=True)
    for way in ("draws", "atoms"):
        chosen = {} if way == "atoms" else {"uncertainty_forces": way}
        atoms.calc = DP(folder / "last.dp", uncertainty=True, **chosen)
        atoms.get_forces()
        estimator = Estimator(DeepPot(folder / "last.dp"), forces=way)
        want = estimator.evaluate(frame.coord, frame.cell, frame.types)
        results = atoms.calc.results
        np.testing.assert_allclose(results["energy_std"], want["energy_std"][0, 0])
        np.testing.assert_allclose(results["forces_std"], want["force_std"][0])
        np.testing.assert_allclose(results["energies_std"], want["atom_energy_std"][0, :, 0])
        assert ("stress_std" in results) == (way == "draws")
    np.testing.assert_allclose(atoms.get_potential_energies().sum(), atoms.get_potential_energy())
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), rtol=1e-10)
    plain = DP(folder / "m1.dp")
    np.testing.assert_allclose(plain.get_forces(atoms), atoms.get_forces())
    atoms.calc = DP(folder / "committee.dp", uncertainty=[folder / "m2.dp"])
    assert atoms.get_forces().shape == atoms.calc.results["forces_std"].shape
    with pytest.raises(InputError, match="holds no uncertainty"):
        DP(folder / "m1.dp", uncertainty=True)
