# SPDX-License-Identifier: LGPL-3.0-or-later
"""What all tests share."""

from pathlib import Path

import pytest

#: Golden models, inputs and outputs, beside the repository; None where they are not.
_beside = Path(__file__).resolve().parents[2] / "shared" / "reference"
REFERENCE: Path | None = _beside if _beside.is_dir() else None


@pytest.fixture
def reference() -> Path:
    """Folder of the reference data; the test is skipped where it is missing."""
    if REFERENCE is None:
        pytest.skip("the reference data (../shared/reference) are not here")
    return REFERENCE


@pytest.fixture
def quick_programs():
    """Let XLA compile without most of its optimisations: the same numbers in half the time."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
