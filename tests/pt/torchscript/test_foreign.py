# SPDX-License-Identifier: LGPL-3.0-or-later
"""DeePMD-kit's ``.pth`` files, read by the names of their arrays."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import REFERENCE
from golden.cases import evaluate_joined, manifest

torch = pytest.importorskip("torch")

from deepmd.backend.backend import Backend  # noqa: E402
from deepmd.base.errors import ModelFileError, NotAvailableError  # noqa: E402
from deepmd.dpmodel.model import Model  # noqa: E402
from deepmd.dpmodel.module import bind, split  # noqa: E402
from deepmd.infer import DeepPot  # noqa: E402
from deepmd.infer.deep_eval import DeepEval  # noqa: E402
from deepmd.io import load_model  # noqa: E402
from deepmd.io.archive import read_archive  # noqa: E402
from deepmd.io.tree import difference  # noqa: E402
from deepmd.np.evaluator import NumPyEvaluator  # noqa: E402
from deepmd.pt.checkpoint.dialect import as_built, model_of_state  # noqa: E402
from deepmd.pt.checkpoint.names import state_of  # noqa: E402
from deepmd.pt.torchscript.export import read_pth  # noqa: E402
from deepmd.pt.torchscript.foreign import read_foreign  # noqa: E402
from tests.members import MEMBERS  # noqa: E402
from tests.members import section as member_section  # noqa: E402

PLAIN = sorted(path.stem for path in (REFERENCE / "models").glob("*.pth"))
COMPRESSED = sorted(path.stem for path in (REFERENCE / "compressed").glob("*.pth"))
CASES = {case["name"]: case for case in manifest()["cases"]}


def of_splines(node):
    """Drop what is not stored of a pair table: its numbers, and where it ended; its splines are."""
    if isinstance(node, dict):
        return {k: of_splines(v) for k, v in node.items() if k not in ("rmax", "vdata")}
    return [of_splines(v) for v in node] if isinstance(node, list) else node


@pytest.mark.golden
@pytest.mark.parametrize("name", PLAIN)
def test_the_model_is_that_of_the_neutral_file(name):
    found = read_pth(REFERENCE / "models" / f"{name}.pth")
    known = Model.deserialize(load_model(REFERENCE / "models" / f"{name}.dp")["model"])
    want, have = (of_splines(x) for x in (known.serialize(), found["model"]))
    assert difference(want, have) is None
    assert found["model_def_script"]["type_map"] == known.get_type_map()


@pytest.mark.golden
@pytest.mark.parametrize("name", COMPRESSED)
def test_a_compressed_model_gives_its_values(name):
    model = Model.deserialize(read_pth(REFERENCE / "compressed" / f"{name}.pth")["model"])
    assert model.info().compressed
    found = evaluate_joined(DeepEval.from_evaluator(NumPyEvaluator(model)), CASES[name], (), ())
    with np.load(REFERENCE / "compressed" / f"{name}.npz") as stored:
        for given, results in found.items():
            want = stored[f"{given}/out/energy"]
            allowed = 1e-10 * max(float(np.abs(want).max()), 0.01)
            np.testing.assert_allclose(
                results["energy"].reshape(want.shape), want, rtol=0, atol=allowed
            )


@pytest.mark.golden
@pytest.mark.skipif("se_e2_a_oneside" not in PLAIN, reason="no reference data")
def test_deep_pot_opens_it_and_converts_it(tmp_path):
    path = REFERENCE / "models" / "se_e2_a_oneside.pth"
    coord = np.random.default_rng(0).uniform(0, 5, (1, 12))
    box, types = 6.0 * np.eye(3).reshape(1, 9), [0, 1, 2, 1]
    energy, force, _ = DeepPot(path).eval(coord, box, types)
    for suffix in (".dp", ".pth"):
        target = tmp_path / f"copy{suffix}"
        writer = Backend.detect_backend_by_model(target)()
        writer.deserialize_hook(target, read_pth(path))
        again = DeepPot(target).eval(coord, box, types)
        np.testing.assert_allclose(again[0], energy, atol=1e-12)
        np.testing.assert_allclose(again[1], force, atol=1e-12)


RELEASES = Path(__file__).resolve().parents[2] / "golden" / "releases"


@pytest.mark.parametrize("name", sorted(path.stem for path in RELEASES.glob("*.pth")))
def test_files_of_earlier_releases(name):
    with np.load(RELEASES / "values.npz") as stored:
        frame = [stored[key] for key in ("coord", "box", "atype")]
        want = {key: stored[f"{name}/{key}"] for key in ("energy", "force")}
    energy, force, _ = DeepPot(RELEASES / f"{name}.pth").eval(*frame)
    np.testing.assert_allclose(energy, want["energy"], rtol=1e-12)
    np.testing.assert_allclose(force, want["force"], rtol=0, atol=1e-10)


def test_a_frozen_training_with_spins():
    """It states the section of atoms and virtual partners only."""
    path = RELEASES.parent / "files" / "spin_frozen.pth"
    section = read_pth(path)["model_def_script"]
    assert (section["type_map"], section["descriptor"]["sel"]) == (["O", "H"], [30, 30])
    with np.load(path.with_suffix(".npz")) as stored:
        golden = dict(stored)
    frame = [golden.pop(key) for key in ("coord", "box", "atype")]
    found = DeepPot(path).eval(*frame, atomic=True, spin=golden.pop("spin"))
    names = ("energy", "force", "virial", "atom_energy", "", "force_mag")
    for name, value in zip(names, found, strict=False):
        if name:
            np.testing.assert_allclose(value, golden[name], rtol=1e-10, atol=1e-10, err_msg=name)


# -- names ----------------------------------------------------------------------------------------


def random_model(name, folder):
    """Model of a member in which no two arrays are alike."""
    from deepmd.dpmodel.model import build_model

    model, rng = build_model(member_section(name, folder)), np.random.default_rng(0)
    leaves = {
        path: x if "tab" in path.split(".") or x.dtype.kind != "f" else rng.normal(size=x.shape)
        for part in split(model)
        for path, x in part.items()
    }
    if name == "se_e3_tebd":  # its angular mean is zero by definition
        leaves["atomic_model.descriptor.davg"][:, 1:] = 0.0
    if name == "polar":  # states of checkpoints do not have them
        leaves["atomic_model.fitting.scale"][:] = 1.0
        leaves["atomic_model.fitting.constant_matrix"][:] = 0.0
    return bind(model, leaves)


@pytest.mark.parametrize("name", [n for n in MEMBERS if n not in ("loc_frame", "spin")])
def test_every_component_from_section_and_state(name, tmp_path):
    section = member_section(name, tmp_path)
    model = random_model(name, tmp_path)
    state = state_of(model.serialize(), "model.A.")
    again = model_of_state(section, state, "model.A.")
    # Its random means are not zero: reading turns set_davg_zero off.
    model = type(model).deserialize(model.serialize())
    want, have = (of_splines(m.serialize()) for m in (model, again))
    assert difference(want, have) is None


def a_state(tmp_path):
    return member_section("se_e2_a", tmp_path), state_of(
        random_model("se_e2_a", tmp_path).serialize()
    )


def test_an_unknown_array_is_named(tmp_path):
    section, state = a_state(tmp_path)
    state["atomic_model.descriptor.sea.novelty"] = torch.ones(2)
    with pytest.raises(ModelFileError, match=r"sea\.novelty"):
        model_of_state(section, state)


def test_a_missing_array_is_named(tmp_path):
    section, state = a_state(tmp_path)
    for name in list(state):
        if "filter_layers" in name and "networks.0.layers.1.matrix" in name:
            del state[name]
    with pytest.raises(ModelFileError, match=r"networks\.0\.layers\.1\.matrix is missing"):
        model_of_state(section, state)


def test_arrays_of_earlier_releases_may_be_missing(tmp_path):
    section, state = a_state(tmp_path)
    for name in ("out_bias", "out_std", "fitting_net.bias_atom_e"):
        del state[f"atomic_model.{name}"]
    model = model_of_state(section, state).atomic_model
    assert not model.out_bias.any()
    assert (model.out_std == 1.0).all()


def test_a_checkpoint_of_polarizabilities_has_the_scale_of_its_section(tmp_path):
    section = member_section("polar", tmp_path)
    section["fitting_net"]["scale"] = [2.0, 3.0]
    state = state_of(random_model("polar", tmp_path).serialize())
    assert not {name for name in state if name.endswith(("scale", "constant_matrix"))}
    model = model_of_state(section, state)
    assert model.atomic_model.fitting.scale.ravel().tolist() == [2.0, 3.0]


def test_se_e2_r_is_one_sided_there():
    section = {"descriptor": {"type": "hybrid", "list": [{"type": "se_r", "type_one_side": False}]}}
    assert as_built(section)["descriptor"]["list"][0]["type_one_side"] is True


# -- files that do something ----------------------------------------------------------------------


class Calls:
    """Pickled as a call of a function."""

    def __reduce__(self):
        return print, ("called",)


def records_of(thing):
    data = io.BytesIO()
    pickle.Pickler(data, protocol=2).dump(thing)
    return {"data.pkl": data.getvalue()}


def test_nothing_is_called(capsys):
    with pytest.raises(ModelFileError, match="which no model needs"):
        read_foreign(records_of(Calls()))
    assert capsys.readouterr().out == ""


@pytest.mark.golden
@pytest.mark.skipif("se_e2_a_oneside" not in PLAIN, reason="no reference data")
def test_a_cut_off_record_is_refused(tmp_path):
    records = read_archive(REFERENCE / "models" / "se_e2_a_oneside.pth")
    longest = max((k for k in records if k.startswith("data/")), key=lambda k: len(records[k]))
    records[longest] = records[longest][:-8]
    with zipfile.ZipFile(tmp_path / "cut.pth", "w") as archive:
        for name, data in records.items():
            archive.writestr(f"cut/{name}", data)
    with pytest.raises(ModelFileError, match="reaches beyond its record"):
        read_pth(tmp_path / "cut.pth")


def test_a_modifier_is_not_ignored():
    with pytest.raises(NotAvailableError, match="modifier"):
        read_foreign({"data.pkl": b"", "extra/data_modifier.pth": b"x"})
