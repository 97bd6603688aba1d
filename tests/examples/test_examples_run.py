# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every example trains: three steps on every backend, as a user starts it, in a copy."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepmd.backend.backend import Backend
from deepmd.schema import load_input, normalize

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
INPUTS = sorted(p.relative_to(EXAMPLES) for p in EXAMPLES.rglob("input*.json"))
#: The example that is stopped and continued.
RESUMED = Path("water/se_atten/input.json")
STEPS = 3
BACKENDS = [
    "dpmodel",
    "pytorch",
    # JAX compiles every step's function, seconds for each example.
    pytest.param("jax", marks=pytest.mark.slow),
]


def copy_of(name: Path, target: Path) -> Path:
    """Copy the folder of an input; folders beside it, such as data, are linked."""
    source = EXAMPLES / name.parent
    folder = target / name.parent
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.py", "lcurve*", "model*"))
    for sibling in source.parent.iterdir():
        link = folder.parent / sibling.name
        if sibling.is_dir() and not link.exists():
            link.symlink_to(sibling)
    return folder


def shortened(given: dict[str, Any], *, steps: int = STEPS) -> dict[str, Any]:
    """Return an input with fewer steps and less data; the model stays as it is."""
    given["model"]["data_stat_nbatch"] = 2
    given["training"] |= {"numb_steps": steps, "disp_freq": 1, "save_freq": 1}
    # The slots of an example hold all neighbors of its data.
    given["training"]["sel_overflow"] = "error"
    branches = given["training"].get("data_dict", {"Default": given["training"]})
    for branch in branches.values():
        for kind, more in (("training_data", {}), ("validation_data", {"numb_btch": 1})):
            branch[kind] |= {"systems": branch[kind]["systems"][:1], "batch_size": 1, **more}
    return given


def train(backend: str, given: dict[str, Any], **options: Any) -> np.ndarray:
    """Train in the current folder and return the learning curve (n_rows, n_columns)."""
    from deepmd.train.entry import train as run

    Path("short.json").write_text(json.dumps(given))
    run(
        INPUT="short.json",
        backend=Backend.get_backend(backend)(),
        skip_neighbor_stat=True,
        **options,
    )
    return np.loadtxt("lcurve.out", ndmin=2)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a backend, if its framework is installed."""
    missing = Backend.get_backend(request.param)().why_not()
    if missing is not None:
        pytest.skip(missing)
    return request.param


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("name", INPUTS, ids=lambda p: p.parent.name)
def test_example_trains(name, backend, tmp_path, monkeypatch):
    monkeypatch.chdir(copy_of(name, tmp_path))
    given = shortened(load_input(name.name))
    normalize(given, file=name.as_posix())
    curve = train(backend, given)
    assert curve[-1, 0] == STEPS
    # Training moves the parameters, so no figure stays as it is.
    assert np.isfinite(curve).all()
    assert len(np.unique(curve[:, 1])) == len(curve)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_example_resumes(backend, tmp_path, monkeypatch):
    """A training that is stopped and continued has the same learning curve as one in one go."""
    curves = {}
    for kind in ("whole", "parts"):
        monkeypatch.chdir(copy_of(RESUMED, tmp_path / kind))
        given = shortened(load_input(RESUMED.name))
        if kind == "parts":
            # The schedule depends on the number of steps: the same input, cut off by hand.
            train(backend, given)
            for path in Path.cwd().glob("model.ckpt-[23]*"):
                path.unlink()
            Path("lcurve.out").unlink()
            curves[kind] = train(backend, given, restart="model.ckpt-1")
        else:
            curves[kind] = train(backend, given)
    parts, whole = curves["parts"], curves["whole"]
    assert parts[:, 0].tolist() == [2, 3]
    np.testing.assert_array_equal(parts, whole[-2:])


@pytest.mark.slow  # half a minute: the whole training
@pytest.mark.parametrize("backend", ["pytorch"], indirect=True)
def test_densities_of_states_are_learned(backend, tmp_path, monkeypatch):
    """The error is far below that of the mean, which nothing but the geometry can bring about."""
    name = Path("water/dos/input.json")
    monkeypatch.chdir(copy_of(name, tmp_path))
    curve = train(backend, load_input(name.name))
    parts = {
        k: np.load(EXAMPLES / f"water/synthetic/{k}/set.000/dos.npy") for k in ("train", "valid")
    }
    mean = np.sqrt(np.mean((parts["valid"] - parts["train"].mean(axis=0)) ** 2)) / 12
    assert curve[-1, 3] < 0.4 * mean
