# SPDX-License-Identifier: LGPL-3.0-or-later
"""What the tests of the stored cases share."""

import pytest


@pytest.fixture
def quick_programs():
    """Let XLA compile without most of its optimisations: the same numbers in half the time."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
