# SPDX-License-Identifier: LGPL-3.0-or-later
"""What is written in the documentation runs: Python on the pages, JSON as input."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from deepmd.backend.backend import Backend
from deepmd.dpmodel.model import build_model
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.schema import load_input, normalize

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
EXAMPLE = ROOT / "examples" / "water" / "se_e2_a" / "input.json"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("components/*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


#: Keys at the top of an input; others are of the model.
SECTIONS = ("learning_rate", "optimizer", "loss", "training", "validating")
PYTHON = [p for p in PAGES if blocks(p, "python")]
JSON = [
    pytest.param(text, id=f"{p.stem}-{k}")
    for p in PAGES
    for k, text in enumerate(blocks(p, "json"))
]


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    """Write the model of the example, untrained, under the name the pages use."""
    pytest.importorskip("torch")
    params = normalize(load_input(EXAMPLE))["model"]
    data = Checkpoint(models={"Default": build_model(params)}, model_params=params).model_data()
    path = tmp_path_factory.mktemp("model") / "water.pth"
    Backend.get_backend("pytorch")().deserialize_hook(path, data)
    return path


@pytest.mark.parametrize("page", PYTHON, ids=lambda p: p.stem)
def test_python(page, tmp_path, monkeypatch, request, capsys):
    pytest.importorskip("ase")
    code = blocks(page, "python")
    if any("water.pth" in text for text in code):
        (tmp_path / "water.pth").symlink_to(request.getfixturevalue("model_file"))
    if any("water_data" in text for text in code):
        (tmp_path / "water_data").symlink_to(ROOT / "examples/water/data")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "snippet"}
    for text in code:
        exec(compile(text, str(page), "exec"), names)
    for value in names.values():
        if isinstance(value, np.ndarray) and value.dtype == float:
            assert np.isfinite(value).all()


@pytest.mark.parametrize("text", JSON)
def test_json_is_accepted(text):
    part = json.loads(text if text.startswith("{") else "{" + text + "}")
    if "model" in part:  # the whole of it, with other sections or without
        whole, part = part if "training" in part else {**load_input(EXAMPLE), **part}, {}
    else:
        whole = load_input(EXAMPLE)
    for key, value in part.items():
        if key in SECTIONS:
            whole[key] = {**whole.get(key, {}), **value}
        else:
            whole["model"][key] = value
    normalize(whole)


def test_tutorial_shows_the_example():
    """The input of the tutorial is that of the example, less a few keys."""
    (text,) = blocks(DOCS / "first_model.md", "json")
    assert extra(json.loads(text), load_input(EXAMPLE)) == []


def extra(shown, given, path=""):
    if isinstance(shown, dict):
        return [x for k, v in shown.items() for x in extra(v, (given or {}).get(k), f"{path}/{k}")]
    return [] if shown == given else [path]
