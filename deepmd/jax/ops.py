# SPDX-License-Identifier: LGPL-3.0-or-later
"""Array-API names over JAX, and JAX's forms of the operations."""

import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from deepmd.dpmodel.ops import NAMES, register, register_package

# Accelerators multiply float32 matrices with 10-bit mantissas unless told otherwise.
_EXACT = jax.lax.Precision.HIGHEST
# More gradients than this (of Hessians) are taken in a loop, or compiling would take minutes.
_UNROLLED = 9


class _Namespace(types.ModuleType):
    """Array-API names over ``jax.numpy``, products in full precision."""

    def __init__(self) -> None:
        super().__init__("jax_namespace")
        for name in (*NAMES, "asarray", "max"):
            setattr(self, name, getattr(jnp, name))
        self.matmul = functools.partial(jnp.matmul, precision=_EXACT)


def _device(x: Any) -> str | None:
    """Kind of device of an array; a traced program may be compiled for several."""
    return None if isinstance(x, jax.core.Tracer) else next(iter(x.devices())).platform


for _prefix in ("jax", "jaxlib"):
    register_package(_prefix, "jax", _Namespace(), device=_device)


@register("_like", "jax")
def _(x: Any, value: Any) -> Any:
    return jnp.asarray(value)


@register("take", "jax")
def _(x: Any, index: Any) -> Any:
    # Indices are ours: never outside, but -1 means the last row.
    return x.at[index].get(mode="promise_in_bounds")


@register("segment_sum", "jax")
def _(x: Any, segment: Any, n: Any) -> Any:
    zero = jnp.zeros((n, *x.shape[1:]), x.dtype)
    return zero.at[segment].add(x, mode="promise_in_bounds")


@register("scatter_rows", "jax")
def _(x: Any, index: Any, n: Any) -> Any:
    zero = jnp.zeros((n, *x.shape[1:]), x.dtype)
    return zero.at[index].add(x, mode="promise_in_bounds", unique_indices=True)


@register("linear", "jax")
def _(x: Any, w: Any, b: Any = None) -> Any:
    y = jnp.matmul(x, w, precision=_EXACT)
    return y if b is None else y + b


@register("contract", "jax")
def _(g: Any, r: Any) -> Any:
    return jnp.einsum("nkm,nkc->nmc", g, r, precision=_EXACT)


@register("stop_gradient", "jax")
def _(x: Any) -> Any:
    return jax.lax.stop_gradient(x)


@register("edge_gradient", "jax")
def _(vec: Any, energy: Callable, *, order: int = 1) -> Any:
    def totals(v: Any) -> tuple[Any, Any]:
        outputs, scalars = energy(v)
        return (jnp.stack(scalars) if scalars else jnp.zeros(0)), outputs

    value, back, outputs = jax.vjp(totals, vec, has_aux=True)
    rows = jnp.eye(len(value), dtype=value.dtype)
    if len(rows) <= _UNROLLED:
        return outputs, [back(row)[0] for row in rows]
    return outputs, list(jax.lax.map(lambda row: back(row)[0], rows))
