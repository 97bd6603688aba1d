# SPDX-License-Identifier: LGPL-3.0-or-later
"""The description of a model: what it says, and that every file has it."""

import json
import math
import zipfile

import pytest

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.input_def import InputDef, merge_inputs
from deepmd.dpmodel.model import build_model
from deepmd.dpmodel.model.info import METADATA, ModelInfo
from deepmd.dpmodel.output_def import Level
from deepmd.io import load_model
from deepmd.runtime.probes import model_file_dict, write_model
from tests.members import MEMBERS, section

FRAME, ATOM = Level.FRAME, Level.ATOM


def built(name, tmp_path, **fitting):
    config = section(name, tmp_path)
    config.get("fitting_net", {}).update(fitting)
    return build_model(config)


@pytest.mark.parametrize("name", MEMBERS)
def test_json_gives_the_same_description(name, tmp_path):
    info = built(name, tmp_path).info(probes=2)
    assert ModelInfo.from_json(info.to_json()) == info
    assert info.interaction_range >= info.rcut
    assert (info.interaction_range > info.rcut) == info.message_passing


def test_inputs_are_declared_by_who_reads_them(tmp_path):
    model = built("dpa3", tmp_path, numb_fparam=2, default_fparam=[0.5, 1.0], numb_aparam=1)
    descriptor = model.atomic_model.descriptor
    descriptor.add_chg_spin_ebd = True
    assert model.inputs() == (
        InputDef("fparam", FRAME, 2, (0.5, 1.0)),
        InputDef("aparam", ATOM, 1),
        InputDef("charge_spin", FRAME, 2),
    )
    descriptor.default_chg_spin = [0, 1]
    assert model.info().default_of("charge_spin") == [0.0, 1.0]
    assert model.info().size_of("spin") == 0
    assert built("spin", tmp_path).info().input("spin") == InputDef("spin", ATOM, 3)


def test_components_share_inputs():
    few, many = InputDef("fparam", FRAME, 1, (2.0,)), InputDef("fparam", FRAME, 3)
    other = InputDef("aparam", ATOM, 2)
    assert merge_inputs([[few], [many, other]]) == (InputDef("fparam", FRAME, 3, (2.0,)), other)


def test_an_infinite_range_passes_through_json(tmp_path):
    import dataclasses

    info = dataclasses.replace(built("se_e2_a", tmp_path).info(), interaction_range=math.inf)
    assert "Infinity" not in info.to_json()
    assert ModelInfo.from_json(info.to_json()) == info


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema=2), "has version 2"),
        (lambda d: d.pop("rcut"), "damaged"),
        (lambda d: d["inputs"].append({"name": "x"}), "damaged"),
        (lambda d: d["outputs"][0].update(level="galaxy"), "damaged"),
    ],
)
def test_other_descriptions_are_refused(change, message, tmp_path):
    data = built("se_e2_a", tmp_path).info().to_dict()
    change(data)
    with pytest.raises(ModelFileError, match=message):
        ModelInfo.from_dict(data)


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".pth", ".hlo"])
def test_every_file_has_it(suffix, tmp_path, request):
    config = section("se_e2_a", tmp_path)
    model = build_model(config)
    data, path = model_file_dict(model, config, 0.9, "NumPy"), tmp_path / f"m{suffix}"
    info = model.info(probes=2)
    if suffix == ".pth":
        export = pytest.importorskip(
            "deepmd.pt.torchscript.export", reason="torch is not installed"
        )
        export.write_pth(path, data)
        with zipfile.ZipFile(path) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith("extra/metadata.json")]
            stored = json.loads(archive.read(name))
        assert stored["entry_version"] >= 1
    elif suffix == ".hlo":
        export = pytest.importorskip("deepmd.jax.export", reason="jax is not installed")
        request.getfixturevalue("quick_programs")
        export.write_hlo(path, data)
        stored = load_model(path)[METADATA]
    else:
        write_model(path, data)
        stored = load_model(path)[METADATA]
    assert ModelInfo.from_dict(stored) == info
