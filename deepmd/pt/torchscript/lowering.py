# SPDX-License-Identifier: LGPL-3.0-or-later
"""Operations of PyTorch as those of a stored program; see :mod:`deepmd.pt.torchscript.operations`.

Every operation of a recorded graph becomes a few from a short list.
"""

import operator
from collections.abc import Sequence
from typing import Any

import torch

import deepmd.pt.torchscript.lowering_shapes  # noqa: F401 - files its rules
from deepmd.pt.torchscript.builder import DTYPES, Builder, NoProgramError, Size, Value, product
from deepmd.pt.torchscript.rules import RULES, rule

_TORCH = {name: dtype for dtype, name in DTYPES.items()}


def lower(b: Builder, target: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return the results of an operation of PyTorch, or a size.

    Raises
    ------
    NoProgramError
        If it has no rule, or its sizes are of another kind.
    """
    if target is operator.getitem:
        return args[0][args[1]]
    if target in (operator.add, operator.mul):
        return target(*map(Size.of, args))
    name = target._schema.name.split("::")[1]
    if name == "sym_size":
        return args[0].shape[args[1]]
    name = name.removesuffix("_")
    if name not in RULES:
        raise NoProgramError(f"programs do not have the operation {target}")
    for key in ("device", "layout", "pin_memory", "memory_format", "non_blocking"):
        kwargs.pop(key, None)
    return RULES[name](b, *args, **kwargs)


def _dummy(x: Any) -> Any:
    """What PyTorch derives the type of a result from."""
    if isinstance(x, Value):
        return torch.empty([1] * len(x.shape), dtype=_TORCH[x.dtype])
    return 1 if isinstance(x, Size) else x


def _common(b: Builder, *args: Any) -> list[Value]:
    """Arguments as arrays of the type that PyTorch chooses."""
    chosen: Any = _dummy(args[0])
    dtype = DTYPES[torch.result_type(chosen, _dummy(args[1])) if len(args) > 1 else chosen.dtype]
    return [b.cast(x, dtype) if isinstance(x, Value) else b.number(x, dtype) for x in args]


def _binary(name: str, op: str, *, compares: bool = False) -> None:
    @rule(name)
    def _(b: Builder, x: Any, y: Any, *, alpha: float = 1) -> Value:
        x, y = _common(b, x, y)
        if alpha != 1:
            y = b.elementwise("mul", [y, b.number(alpha, y.dtype)], y.dtype)
        return b.elementwise(op, [x, y], "bool" if compares else x.dtype)


for _name in ("add", "sub", "mul", "maximum", "minimum"):
    _binary(_name, _name)
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    _binary(_name, _name, compares=True)
for _name in ("logical_and", "bitwise_and"):
    _binary(_name, "and")
for _name in ("logical_or", "bitwise_or"):
    _binary(_name, "or")


def _unary(name: str, op: str) -> None:
    @rule(name)
    def _(b: Builder, x: Value) -> Value:
        return b.unary(op, x)


for _name in ("neg", "exp", "log", "sqrt", "tanh", "abs", "sign", "sin", "cos", "floor"):
    _unary(_name, _name)
for _name in ("erf", "log1p", "expm1", "sigmoid"):
    _unary(_name, _name)
for _name in ("logical_not", "bitwise_not"):
    _unary(_name, "not")


@rule("rsub")
def _(b: Builder, x: Value, y: Any, alpha: float = 1) -> Value:
    return RULES["sub"](b, y, x, alpha=alpha)


@rule("div")
def _(b: Builder, x: Any, y: Any) -> Value:
    x, y = _common(b, x, y)
    if x.dtype in ("int64", "bool"):
        raise NoProgramError("whole numbers are divided")
    return b.elementwise("div", [x, y], x.dtype)


@rule("reciprocal")
def _(b: Builder, x: Value) -> Value:
    return RULES["div"](b, b.number(1.0, x.dtype), x)


@rule("rsqrt")
def _(b: Builder, x: Value) -> Value:
    return RULES["reciprocal"](b, b.unary("sqrt", x))


@rule("relu")
def _(b: Builder, x: Value) -> Value:
    return RULES["maximum"](b, x, b.number(0, x.dtype))


@rule("clamp")
def _(b: Builder, x: Value, least: Any = None, most: Any = None, **named: Any) -> Value:
    least, most = named.get("min", least), named.get("max", most)
    if least is not None:
        x = RULES["maximum"](b, x, b.number(least, x.dtype))
    return x if most is None else RULES["minimum"](b, x, b.number(most, x.dtype))


@rule("clamp_min")
def _(b: Builder, x: Value, least: Any) -> Value:
    return RULES["clamp"](b, x, least)


@rule("pow")
def _(b: Builder, x: Value, power: Any) -> Value:
    if isinstance(power, Value) or not isinstance(x, Value):
        raise NoProgramError("a number is raised to an array")
    whole = int(power) if float(power).is_integer() and 0 < power < 17 else 0
    if whole:
        out = x
        for _ in range(whole - 1):
            out = b.elementwise("mul", [out, x], x.dtype)
        return out
    if power == 0.5:
        return b.unary("sqrt", x)
    if power == -1:
        return RULES["reciprocal"](b, x)
    return b.elementwise("pow", [x, b.number(power, x.dtype)], x.dtype)


@rule("where")
def _(b: Builder, condition: Value, x: Any, y: Any) -> Value:
    x, y = _common(b, x, y)
    return b.elementwise("where", [condition, x, y], x.dtype)


@rule("masked_fill")
def _(b: Builder, x: Value, mask: Value, value: Any) -> Value:
    value = b.cast(value, x.dtype) if isinstance(value, Value) else b.number(value, x.dtype)
    return b.elementwise("where", [mask, value, x], x.dtype)


@rule("_to_copy", "to")
def _(b: Builder, x: Value, dtype: torch.dtype | None = None) -> Value:
    return b.cast(x, x.dtype if dtype is None else DTYPES[dtype])


@rule("alias", "detach", "clone", "contiguous", "lift_fresh", "lift_fresh_copy")
def _(b: Builder, x: Value) -> Value:
    return x


# -- derivatives of functions of elements


@rule("tanh_backward")
def _(b: Builder, g: Value, y: Value) -> Value:
    rest = RULES["rsub"](b, RULES["mul"](b, y, y), 1.0)
    return RULES["mul"](b, g, rest)


@rule("sigmoid_backward")
def _(b: Builder, g: Value, y: Value) -> Value:
    return RULES["mul"](b, g, RULES["mul"](b, y, RULES["rsub"](b, y, 1.0)))


@rule("threshold_backward")
def _(b: Builder, g: Value, x: Value, threshold: float) -> Value:
    inside = RULES["gt"](b, x, threshold)
    return RULES["where"](b, inside, g, b.number(0, g.dtype))


# -- products, sums -------------------------------------------------------------------------------


@rule("mm", "bmm")
def _(b: Builder, x: Value, y: Value) -> Value:
    return b.matmul(x, y)


@rule("addmm", "baddbmm")
def _(b: Builder, c: Value, x: Value, y: Value, *, beta: float = 1, alpha: float = 1) -> Value:
    if beta != 1 or alpha != 1:
        raise NoProgramError("a product of matrices is scaled")
    return RULES["add"](b, b.matmul(x, y), c)


@rule("sum")
def _(b: Builder, x: Value, axes: Any = None, keep: bool = False, dtype: Any = None) -> Value:
    if x.dtype in ("bool", "int64") or dtype is not None:
        x = b.cast(x, "int64" if dtype is None else DTYPES[dtype])
    axes = range(len(x.shape)) if not axes else [axes] if isinstance(axes, int) else axes
    return b.reduced("sum", x, axes, keep)


@rule("mean")
def _(b: Builder, x: Value, axes: Any = None, keep: bool = False, dtype: Any = None) -> Value:
    axes = axes or range(len(x.shape))
    count = product([x.shape[a] for a in axes])
    return RULES["div"](b, RULES["sum"](b, x, axes, keep, dtype), b.number(count, x.dtype))


@rule("amax")
def _(b: Builder, x: Value, axes: Any = (), keep: bool = False) -> Value:
    return b.reduced("max", x, axes or range(len(x.shape)), keep)


@rule("_softmax")
def _(b: Builder, x: Value, axis: int, half: bool = False) -> Value:
    e = b.unary("exp", RULES["sub"](b, x, b.reduced("max", x, [axis], True)))
    return RULES["div"](b, e, b.reduced("sum", e, [axis], True))


@rule("_softmax_backward_data")
def _(b: Builder, g: Value, y: Value, axis: int, dtype: Any) -> Value:
    gy = RULES["mul"](b, g, y)
    return RULES["sub"](b, gy, RULES["mul"](b, y, b.reduced("sum", gy, [axis], True)))


@rule("native_layer_norm")
def _(b: Builder, x: Value, shape: Any, weight: Any, bias: Any, eps: float) -> tuple:
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    mean = RULES["mean"](b, x, axes, True)
    centered = RULES["sub"](b, x, mean)
    variance = RULES["mean"](b, RULES["mul"](b, centered, centered), axes, True)
    scale = RULES["rsqrt"](b, RULES["add"](b, variance, eps))
    y = RULES["mul"](b, centered, scale)
    if weight is not None:
        y = RULES["mul"](b, y, weight)
    return (y if bias is None else RULES["add"](b, y, bias)), mean, scale


@rule("native_layer_norm_backward")
def _(
    b: Builder, g: Value, x: Value, shape: Any, mean: Value, scale: Value, weight: Any, *rest: Any
) -> tuple:
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    if weight is not None:
        g = RULES["mul"](b, g, weight)
    y = RULES["mul"](b, RULES["sub"](b, x, mean), scale)
    common = RULES["mean"](b, g, axes, True)
    along = RULES["mean"](b, RULES["mul"](b, g, y), axes, True)
    out = RULES["sub"](b, RULES["sub"](b, g, common), RULES["mul"](b, y, along))
    return RULES["mul"](b, out, scale), None, None


# -- indices --------------------------------------------------------------------------------------


@rule("index_select")
def _(b: Builder, x: Value, axis: int, index: Value) -> Value:
    axis %= len(x.shape)
    shape = [*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]]
    return b.emit("take", [x, index], shape, x.dtype, axis=axis)


@rule("index")
def _(b: Builder, x: Value, indices: Sequence[Any]) -> Value:
    given = [(k, i) for k, i in enumerate(indices) if i is not None]
    if len(given) != 1 or given[0][1].dtype != "int64":
        raise NoProgramError("an array is indexed along several axes")
    axis, index = given[0]
    flat = b.reshape(index, [product(index.shape)])
    out = RULES["index_select"](b, x, axis, flat)
    return b.reshape(out, [*x.shape[:axis], *index.shape, *x.shape[axis + 1 :]])


@rule("sort")
def _(
    b: Builder, x: Value, *, stable: bool = False, dim: int = -1, descending: bool = False
) -> tuple:
    if dim % len(x.shape) != len(x.shape) - 1 or descending:
        raise NoProgramError("an array is sorted along another axis than the last")
    order = b.emit("argsort", [x], x.shape, "int64")
    return RULES["gather"](b, x, dim, order), order


@rule("gather")
def _(b: Builder, x: Value, axis: int, index: Value) -> Value:
    if axis % len(x.shape) != len(x.shape) - 1 or x.shape[:-1] != index.shape[:-1]:
        raise NoProgramError("elements are taken along another axis than the last")
    return b.emit("gather", [x, index], index.shape, x.dtype)


@rule("index_add")
def _(b: Builder, x: Value, axis: int, index: Value, source: Value, *, alpha: float = 1) -> Value:
    if axis % len(x.shape) or alpha != 1:
        raise NoProgramError("sums by an index are along another axis than the first")
    n = x.shape[0]
    sums = b.emit("segment_sum", [source, index], x.shape, x.dtype, length=n.stored())
    return sums if _is_zero(b, x) else RULES["add"](b, x, sums)


@rule("index_copy")
def _(b: Builder, x: Value, axis: int, index: Value, source: Value) -> Value:
    if axis % len(x.shape):
        raise NoProgramError("rows are written along another axis than the first")
    return b.emit("scatter", [x, index, source], x.shape, x.dtype)


def _is_zero(b: Builder, x: Value) -> bool:
    """Whether an array is filled with zeros."""
    first = len(b.inputs) + len(b.constants)
    node: dict[str, Any] = b.nodes[x.number - first] if x.number >= first else {"op": ""}
    if node["op"] == "broadcast" and node["args"][0] >= first:
        node = b.nodes[node["args"][0] - first]
    return node["op"] == "number" and node["value"] == 0
