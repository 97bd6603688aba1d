# SPDX-License-Identifier: LGPL-3.0-or-later
"""Operations of PyTorch that arrange or fill arrays, as those of a stored program."""

from collections.abc import Sequence
from typing import Any

import torch

from deepmd.pt.torchscript.builder import DTYPES, Builder, NoProgramError, Size, Value, product
from deepmd.pt.torchscript.rules import RULES, rule


def _sizes(shape: Any) -> list[Any]:
    return [n if isinstance(n, Size) else Size.of(n) for n in shape]


@rule("view", "_unsafe_view", "reshape")
def _(b: Builder, x: Value, shape: Sequence[Any]) -> Value:
    sizes = _sizes(shape)
    for k, n in enumerate(sizes):
        if n == -1:
            rest = product([m for i, m in enumerate(sizes) if i != k])
            sizes[k] = product(x.shape).over(rest)
    return b.reshape(x, sizes)


@rule("expand")
def _(b: Builder, x: Value, shape: Sequence[Any], *, implicit: bool = False) -> Value:
    sizes, new = _sizes(shape), len(shape) - len(x.shape)
    return b.broadcast(x, [x.shape[k - new] if n == -1 else n for k, n in enumerate(sizes)])


@rule("permute")
def _(b: Builder, x: Value, axes: Sequence[int]) -> Value:
    return b.permute(x, axes)


@rule("transpose")
def _(b: Builder, x: Value, first: int, second: int) -> Value:
    axes = list(range(len(x.shape)))
    axes[first], axes[second] = axes[second], axes[first]
    return b.permute(x, axes)


@rule("t")
def _(b: Builder, x: Value) -> Value:
    return b.permute(x, range(len(x.shape))[::-1])


@rule("unsqueeze")
def _(b: Builder, x: Value, axis: int) -> Value:
    axis %= len(x.shape) + 1
    return b.reshape(x, [*x.shape[:axis], Size.of(1), *x.shape[axis:]])


@rule("squeeze")
def _(b: Builder, x: Value, axes: Any = None) -> Value:
    if axes is None:
        raise NoProgramError("all axes of length 1 are removed")
    chosen = {a % len(x.shape) for a in ([axes] if isinstance(axes, int) else axes)}
    return b.reshape(x, [n for k, n in enumerate(x.shape) if k not in chosen or n != 1])


def _bounded(bound: Any, total: Size) -> Size:
    """Return the end of a slice; negative ones count from the end of the axis."""
    if isinstance(bound, Size):
        return bound
    if bound >= 1 << 40:
        return total
    return total + bound if bound < 0 else Size.of(bound)


@rule("slice")
def _(
    b: Builder, x: Value, axis: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Value:
    if step != 1:
        raise NoProgramError("an axis is taken in steps")
    axis %= len(x.shape)
    total = x.shape[axis]
    first = _bounded(0 if start is None else start, total)
    last = _bounded(1 << 62 if end is None else end, total)
    if last.number is not None and total.number is not None:
        last = Size.of(min(last.number, total.number))
    return b.slice(x, axis, first, last - first)


@rule("slice_backward")
def _(
    b: Builder, g: Value, shape: Sequence[Any], axis: int, start: Any, end: Any, step: int
) -> Value:
    if step != 1:
        raise NoProgramError("an axis is taken in steps")
    axis %= len(g.shape)
    total = _sizes(shape)[axis]
    return b.pad(g, axis, _bounded(start, total), total)


@rule("select")
def _(b: Builder, x: Value, axis: int, place: Any) -> Value:
    axis %= len(x.shape)
    part = b.slice(x, axis, _bounded(place, x.shape[axis]), 1)
    return b.reshape(part, [n for k, n in enumerate(part.shape) if k != axis])


@rule("select_backward")
def _(b: Builder, g: Value, shape: Sequence[Any], axis: int, place: Any) -> Value:
    total = _sizes(shape)
    axis %= len(total)
    one = b.reshape(g, [*g.shape[:axis], Size.of(1), *g.shape[axis:]])
    return b.pad(one, axis, _bounded(place, total[axis]), total[axis])


@rule("split_with_sizes")
def _(b: Builder, x: Value, sizes: Sequence[Any], axis: int = 0) -> list[Value]:
    parts, start = [], Size.of(0)
    for n in _sizes(sizes):
        parts.append(b.slice(x, axis % len(x.shape), start, n))
        start = start + n
    return parts


@rule("split")
def _(b: Builder, x: Value, size: int, axis: int = 0) -> list[Value]:
    total = x.shape[axis % len(x.shape)].number
    if total is None or total % size:
        raise NoProgramError("an axis of unknown length is split")
    return RULES["split_with_sizes"](b, x, [size] * (total // size), axis)


@rule("unbind")
def _(b: Builder, x: Value, axis: int = 0) -> list[Value]:
    total = x.shape[axis % len(x.shape)].number
    if total is None:
        raise NoProgramError("an axis of unknown length is split")
    return [RULES["select"](b, x, axis, k) for k in range(total)]


@rule("cat")
def _(b: Builder, arrays: Sequence[Value], axis: int = 0) -> Value:
    # PyTorch passes over arrays without elements that have one axis.
    rank = max(len(a.shape) for a in arrays)
    arrays = [a for a in arrays if len(a.shape) == rank]
    axis %= rank
    dtype = arrays[0].dtype
    if any(a.dtype != dtype for a in arrays):
        raise NoProgramError("arrays of different types are joined")
    if len(arrays) == 1:
        return arrays[0]
    total = sum((a.shape[axis] for a in arrays), Size.of(0))
    shape = [*arrays[0].shape[:axis], total, *arrays[0].shape[axis + 1 :]]
    return b.emit("concat", arrays, shape, dtype, axis=axis)


@rule("stack")
def _(b: Builder, arrays: Sequence[Value], axis: int = 0) -> Value:
    axis %= len(arrays[0].shape) + 1
    return RULES["cat"](b, [RULES["unsqueeze"](b, a, axis) for a in arrays], axis)


# -- constants of a shape -------------------------------------------------------------------------


def _filled(b: Builder, shape: Sequence[Any], value: Any, dtype: Any, usual: str) -> Value:
    name = usual if dtype is None else DTYPES[dtype]
    return b.broadcast(b.number(value, name), _sizes(shape))


def _usual() -> str:
    return DTYPES[torch.get_default_dtype()]


for _name, _number in (("zeros", 0), ("ones", 1)):

    @rule(_name)
    def _(b: Builder, shape: Sequence[Any], dtype: Any = None, *, _n: int = _number) -> Value:
        return _filled(b, shape, _n, dtype, _usual())

    @rule(f"new_{_name}")
    def _(
        b: Builder, x: Value, shape: Sequence[Any], dtype: Any = None, *, _n: int = _number
    ) -> Value:
        return _filled(b, shape, _n, dtype, x.dtype)

    @rule(f"{_name}_like")
    def _(b: Builder, x: Value, dtype: Any = None, *, _n: int = _number) -> Value:
        return _filled(b, x.shape, _n, dtype, x.dtype)


@rule("full")
def _(b: Builder, shape: Sequence[Any], value: Any, dtype: Any = None) -> Value:
    return _filled(b, shape, value, dtype, _usual())


@rule("new_full")
def _(b: Builder, x: Value, shape: Sequence[Any], value: Any, dtype: Any = None) -> Value:
    return _filled(b, shape, value, dtype, x.dtype)


@rule("full_like")
def _(b: Builder, x: Value, value: Any, dtype: Any = None) -> Value:
    return _filled(b, x.shape, value, dtype, x.dtype)


@rule("scalar_tensor")
def _(b: Builder, value: Any, dtype: Any = None) -> Value:
    return _filled(b, (), value, dtype, _usual())


@rule("arange")
def _(b: Builder, *bounds: Any, dtype: Any = None) -> Value:
    if len(bounds) != 1 or (dtype not in (None, torch.int64)):
        raise NoProgramError("a range begins elsewhere than at 0")
    n = Size.of(bounds[0])
    return b.emit("arange", (), [n], "int64", length=n.stored())
