# SPDX-License-Identifier: LGPL-3.0-or-later
"""Opened models in other processes: forked ones, and those that get the model by pickle."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from infer.models import write

from deepmd.base.errors import ModelFileError
from deepmd.entrypoints.convert_backend import convert_backend
from deepmd.infer import DeepEval, DeepPot
from deepmd.np.engine import is_installed

SUFFIXES = {".dp": "numpy", ".pth": "torch", ".hlo": "jax", ".pb": "tensorflow"}


@pytest.fixture(scope="module", params=SUFFIXES)
def file(request, tmp_path_factory):
    pytest.importorskip(SUFFIXES[request.param])
    folder = tmp_path_factory.mktemp("processes")
    path = write(folder / "model.dp", sel=(60, 120))
    if request.param != ".dp":
        convert_backend(INPUT=str(path), OUTPUT=str(folder / f"model{request.param}"))
    return folder / f"model{request.param}"


def frame(n_atoms):
    rng = np.random.default_rng(0)
    return rng.uniform(0, (20 * n_atoms) ** (1 / 3), (1, n_atoms, 3)), [0, 1] * (n_atoms // 2)


FORK = """
    import multiprocessing, sys
    import numpy as np
    from deepmd.infer import DeepPot

    model = DeepPot(sys.argv[1], engine=sys.argv[2])
    n = int(sys.argv[3])
    coord, types = np.random.default_rng(0).uniform(0, 29, (1, n, 3)), [0, 1] * (n // 2)
    before = model.eval(coord, None, types)[0][0, 0]

    def energy(_):
        return model.eval(coord, None, types)[0][0, 0]

    def reopened(_):
        return DeepPot(sys.argv[1], engine=sys.argv[2]).eval(coord, None, types)[0][0, 0]

    with multiprocessing.get_context("fork").Pool(2) as pool:
        for function in (energy, reopened):
            try:
                print("same", abs(max(pool.map(function, range(2))) - before) < 1e-10 * abs(before))
            except ValueError as error:
                print(type(error).__name__, error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("engine", ["auto", "framework"])
def test_forked_processes(file, engine):
    """They evaluate; those whose threads are lost say so instead of waiting for them."""
    if engine == "auto" and not is_installed():
        pytest.skip("the native engine is not built")
    name = {".hlo": "JAX", ".pb": "TensorFlow"}.get(file.suffix)
    n = 12 if name and engine == "framework" else 1200  # so many that threads of OpenMP take part
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORK), str(file), engine, str(n)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    if name and engine == "framework":
        text = f"InputError {name} was started before this process was forked"
        assert len(lines) == 2 and all(line.startswith(text) for line in lines)
    else:
        assert lines == ["same True", "same True"]


def test_pickle(file):
    coord, types = frame(20)
    model = DeepPot(file, auto_batch_size=7)
    again = pickle.loads(pickle.dumps(model))
    assert type(again) is DeepPot
    assert again._batch_size.current == 7
    for a, b in zip(model.eval(coord, None, types), again.eval(coord, None, types), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pickled_path_is_absolute(model_file, tmp_path, monkeypatch):
    shutil.copy(model_file, tmp_path / "model.dp")
    monkeypatch.chdir(tmp_path)
    content = pickle.dumps(DeepEval("model.dp"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert pickle.loads(content).get_type_map() == ["O", "H"]
    (tmp_path / "model.dp").unlink()
    with pytest.raises(ModelFileError, match=r"model\.dp: model file not found"):
        pickle.loads(content)


def test_models_in_memory_are_pickled_whole(model_file):
    model = DeepPot.from_evaluator(DeepPot(model_file).evaluator)
    coord, types = frame(6)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(
        model.eval(coord, None, types)[0], again.eval(coord, None, types)[0]
    )


def _energy(model):
    coord, types = frame(6)
    return model.eval(coord, None, types)[0][0, 0]


def test_spawned_process_gets_the_model(model_file):
    model = DeepPot(model_file)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_energy, (model,)) == _energy(model)


def test_calculator_is_pickled_and_copied(model_file):
    pytest.importorskip("ase")
    import copy

    from ase.build import molecule

    from deepmd.calculator import DP

    water = molecule("H2O", calculator=DP(model_file))
    want = water.get_potential_energy()
    for calculator in (copy.deepcopy(water.calc), pickle.loads(pickle.dumps(water.calc))):
        other = molecule("H2O", calculator=calculator)
        assert other.get_potential_energy() == want
