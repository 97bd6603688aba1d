# SPDX-License-Identifier: LGPL-3.0-or-later
"""What all tests share."""

import os
from pathlib import Path

import pytest

#: Part of the golden models, inputs and outputs that belongs to the repository.
COMPACT = Path(__file__).resolve().parent / "golden" / "compact"


def _find_reference() -> Path:
    """Return the folder of the environment, the full set beside the repository, or the compact one."""
    if chosen := os.environ.get("DEEPMD_TEST_REFERENCE"):
        return Path(chosen).resolve()
    full = Path(__file__).resolve().parents[2] / "shared" / "reference"
    return full if full.is_dir() else COMPACT


#: Golden models, inputs and outputs.
REFERENCE = _find_reference()


def reference_path(name: str) -> Path:
    """Return a file or folder of the reference data; skip the test where only the full set has it."""
    path = REFERENCE / name
    if REFERENCE == COMPACT and not path.exists():
        pytest.skip(f"{name} is in the full reference data only (../shared/reference)")
    return path


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the reference data."""
    return REFERENCE


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that ask for the reference data, or for a case of a module that reads them."""
    names, wanted = vars(getattr(item, "module", None) or item), getattr(item, "fixturenames", ())
    sources = {getattr(v, "__module__", None) or getattr(v, "__name__", "") for v in names.values()}
    reads = "REFERENCE" in names or "golden.cases" in sources
    if "reference" in wanted or ("case" in wanted and reads):
        item.add_marker("golden")


@pytest.fixture
def quick_programs():
    """Let XLA compile without most of its optimizations: the same numbers in half the time."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@pytest.fixture
def eager_functions(monkeypatch):
    """Let TensorFlow run functions as they are, without tracing: the same numbers in less time."""
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed")
    from deepmd.runtime import programs
    from deepmd.tf import evaluator, train_step

    def eager(function, *specs):
        return lambda *args: function(*tf.nest.map_structure(tf.convert_to_tensor, args))

    monkeypatch.setattr(programs, "_made", type(programs._made)())
    for module in (evaluator, train_step):
        monkeypatch.setattr(module, "traced", eager)
