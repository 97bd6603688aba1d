# SPDX-License-Identifier: LGPL-3.0-or-later
"""The JAX backend. Importing it switches JAX to 64-bit numbers, which energies and sums need."""

import jax

jax.config.update("jax_enable_x64", True)

from deepmd.jax import ops  # noqa: E402  (registers itself; arrays made before would be 32-bit)

__all__ = ["ops"]
