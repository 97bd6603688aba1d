# SPDX-License-Identifier: LGPL-3.0-or-later
"""A backend in a package of its own: chosen by the suffix, converts, and evaluates."""

from pathlib import Path

import numpy as np
import pytest

from deepmd.backend import backend as backends
from deepmd.base.errors import InputError
from deepmd.dpmodel.model import build_model
from deepmd.infer import DeepPot
from deepmd.io import load_model
from deepmd.io.tree import difference
from deepmd.main import main
from deepmd.np.evaluator import NumPyEvaluator
from deepmd.runtime.probes import model_file_dict, write_model
from deepmd.testing.systems import randomize, small_system
from tests.members import section
from tests.plugins.conftest import HERE, install, on_path


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(HERE / "board", tmp_path_factory.mktemp("plugins") / "board")


@pytest.fixture
def installed(board: Path, monkeypatch: pytest.MonkeyPatch):
    backends.load_backends()
    monkeypatch.setattr(backends._registry, "_by_name", dict(backends._registry._by_name))
    with on_path(board):
        yield


@pytest.mark.parametrize("name", ["se_e2_a", "se_atten", "dpa3"])
def test_converts_and_evaluates(installed, name: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = section(name, tmp_path)
    model = randomize(build_model(given))
    write_model("model.dp", model_file_dict(model, given, None, "NumPy"))
    assert main(["convert-backend", "model.dp", "model.board"]) == 0
    system = small_system(2, 4.0)
    opened = DeepPot("model.board")
    assert type(opened.evaluator).__name__ == "BoardEvaluator"
    want = DeepPot.from_evaluator(NumPyEvaluator(model)).eval(*system, atomic=True)
    for a, b in zip(opened.eval(*system, atomic=True), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-11)
    assert main(["convert-backend", "model.board", "back.dp"]) == 0
    stored = [load_model(name)["model"] for name in ("back.dp", "model.dp")]
    assert difference(stored[0], stored[1]) is None


def test_what_it_cannot_do_is_one_line(installed, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="training is not built yet"):
        _ = backends.Backend.get_backend("board")().train_step
    Path("model.board").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"^model\.board: "):
        DeepPot("model.board")
