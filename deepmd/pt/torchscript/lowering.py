# SPDX-License-Identifier: LGPL-3.0-or-later
"""Operations of PyTorch as those of a stored program; see :mod:`deepmd.pt.torchscript.operations`.

Every operation of a recorded graph becomes a few from a short list, whose results have shapes that
are polynomials of the sizes of the inputs. Shapes of results are not stored: whoever reads a program
infers them again, by the same rules.
"""

import json
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

Dims = tuple["Size", ...]

#: Types of numbers, by those of PyTorch.
DTYPES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.int64: "int64",
    torch.bool: "bool",
}
_TORCH = {name: dtype for dtype, name in DTYPES.items()}


class NoProgramError(ValueError):
    """An operation that programs do not have."""


# -- sizes ----------------------------------------------------------------------------------------


class Size:
    """Polynomial of named sizes with whole coefficients.

    Parameters
    ----------
    terms : dict of tuple of str to int
        Coefficients of the products of sizes.
    """

    def __init__(self, terms: dict[tuple[str, ...], int]) -> None:
        self.terms = {k: v for k, v in sorted(terms.items()) if v}

    @classmethod
    def of(cls, value: "int | str | Size") -> "Size":
        """Return the size of a number or name."""
        if isinstance(value, Size):
            return value
        return cls({(value,): 1}) if isinstance(value, str) else cls({(): int(value)})

    def __add__(self, other: "int | Size") -> "Size":
        terms = dict(self.terms)
        for names, factor in Size.of(other).terms.items():
            terms[names] = terms.get(names, 0) + factor
        return Size(terms)

    def __mul__(self, other: "int | Size") -> "Size":
        terms: dict[tuple[str, ...], int] = {}
        for a, x in self.terms.items():
            for b, y in Size.of(other).terms.items():
                names = tuple(sorted((*a, *b)))
                terms[names] = terms.get(names, 0) + x * y
        return Size(terms)

    __radd__, __rmul__ = __add__, __mul__

    def __sub__(self, other: "int | Size") -> "Size":
        return self + Size.of(other) * -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, Size)) and self.terms == Size.of(other).terms

    def __hash__(self) -> int:
        return hash(tuple(self.terms.items()))

    @property
    def number(self) -> int | None:
        """The value, if it depends on no size."""
        return self.terms.get((), 0) if set(self.terms) <= {()} else None

    def over(self, other: "Size") -> "Size":
        """Return the quotient by a product of sizes and a number; raises NoProgramError."""
        ((divisor, factor),) = other.terms.items() if len(other.terms) == 1 else (((), 0),)
        terms = {}
        for names, x in self.terms.items():
            rest = list(names)
            for name in divisor:
                if name not in rest:
                    raise NoProgramError("a size is no polynomial of the sizes of the inputs")
                rest.remove(name)
            if not factor or x % factor:
                raise NoProgramError("a size is no polynomial of the sizes of the inputs")
            terms[tuple(rest)] = x // factor
        return Size(terms)

    def stored(self) -> Any:
        """Return a number, a name, or a list of terms [coefficient, names...]."""
        if self.number is not None:
            return self.number
        terms = [[x, *names] for names, x in self.terms.items()]
        return terms[0][1] if terms[0][0] == 1 and len(terms) == 1 == len(terms[0]) - 1 else terms


def product(sizes: Sequence[Size]) -> Size:
    """Return the number of elements of an array."""
    return math.prod(sizes, start=Size.of(1))


# -- values and nodes -----------------------------------------------------------------------------


class Value(NamedTuple):
    """Array of a program: its number, shape and type."""

    number: int
    shape: Dims
    dtype: str


class Builder:
    """Program under construction; equal operations are stored once."""

    def __init__(self) -> None:
        self.inputs: list[dict[str, Any]] = []
        self.constants: list[torch.Tensor] = []
        self.nodes: list[dict[str, Any]] = []
        self._known: dict[str, Value] = {}
        self._count = 0

    def _new(self, shape: Sequence[Size], dtype: str) -> Value:
        self._count += 1
        return Value(self._count - 1, tuple(shape), dtype)

    def input(self, name: str, shape: Sequence[int | str | Size], dtype: str) -> Value:
        """Add an input; all inputs come before everything else."""
        value = self._new([Size.of(n) for n in shape], dtype)
        stored = [n.stored() for n in value.shape]
        self.inputs.append({"name": name, "dtype": dtype, "shape": stored})
        return value

    def constant(self, tensor: torch.Tensor) -> Value:
        """Add an array with fixed numbers; all constants come before the operations."""
        self.constants.append(tensor)
        return self._new([Size.of(n) for n in tensor.shape], DTYPES[tensor.dtype])

    def emit(
        self, op: str, args: Sequence[Value], shape: Sequence[Size], dtype: str, /, **settings: Any
    ) -> Value:
        """Add an operation, and return its result."""
        node = {"op": op, "args": [a.number for a in args], **settings}
        key = json.dumps(node, sort_keys=True)
        if key not in self._known:
            self._known[key] = self._new(shape, dtype)
            self.nodes.append(node)
        return self._known[key]

    # -- numbers ------------------------------------------------------------------------------

    def number(self, value: Any, dtype: str) -> Value:
        """Array without axes: a number, or a size as a number."""
        if isinstance(value, Size) and value.number is not None:
            value = value.number
        if isinstance(value, Size):
            return self.emit("size", (), (), dtype, value=value.stored(), type=dtype)
        kind = bool if dtype == "bool" else int if dtype == "int64" else float
        value = kind(value)
        # JSON has no infinite numbers.
        shown = str(value) if isinstance(value, float) and not math.isfinite(value) else value
        return self.emit("number", (), (), dtype, value=shown, type=dtype)

    def cast(self, x: Value, dtype: str) -> Value:
        """Array with numbers of another type."""
        if x.dtype == dtype:
            return x
        return self.emit("cast", [x], x.shape, dtype, type=dtype)

    # -- arrays of other shapes ---------------------------------------------------------------

    def reshape(self, x: Value, shape: Sequence[Size]) -> Value:
        """Array of another shape."""
        if tuple(shape) == x.shape:
            return x
        if product(shape) != product(x.shape):
            raise NoProgramError("an array is reshaped to another number of elements")
        return self.emit("reshape", [x], shape, x.dtype, shape=[n.stored() for n in shape])

    def broadcast(self, x: Value, shape: Sequence[Size]) -> Value:
        """Array repeated along new axes, and axes of length 1."""
        if tuple(shape) == x.shape:
            return x
        return self.emit("broadcast", [x], shape, x.dtype, shape=[n.stored() for n in shape])

    def permute(self, x: Value, axes: Sequence[int]) -> Value:
        """Array with its axes in another order."""
        axes = [a % len(x.shape) for a in axes]
        if axes == sorted(axes):
            return x
        return self.emit("permute", [x], [x.shape[a] for a in axes], x.dtype, axes=axes)

    def slice(self, x: Value, axis: int, start: int | Size, length: int | Size) -> Value:
        """Part of an axis."""
        start, length = Size.of(start), Size.of(length)
        if length == x.shape[axis]:
            return x
        shape = [*x.shape[:axis], length, *x.shape[axis + 1 :]]
        return self.emit(
            "slice", [x], shape, x.dtype, axis=axis, start=start.stored(), length=length.stored()
        )

    def pad(self, x: Value, axis: int, before: Size, total: Size) -> Value:
        """Array with zeros around it."""
        shape = [*x.shape[:axis], total, *x.shape[axis + 1 :]]
        return self.emit(
            "pad", [x], shape, x.dtype, axis=axis, before=before.stored(), total=total.stored()
        )

    # -- functions of elements ----------------------------------------------------------------

    def unary(self, op: str, x: Value) -> Value:
        """Function of every element."""
        return self.emit(op, [x], x.shape, x.dtype)

    def elementwise(self, op: str, args: Sequence[Value], dtype: str) -> Value:
        """Function of the elements of several arrays, which are repeated to one shape."""
        rank = max(len(a.shape) for a in args)
        shape = [Size.of(1)] * rank
        for a in args:
            for k, n in enumerate(a.shape, rank - len(a.shape)):
                if shape[k] == 1:
                    shape[k] = n
                elif n not in (1, shape[k]):
                    raise NoProgramError("arrays of different shapes are combined")
        return self.emit(op, args, shape, dtype)

    def matmul(self, a: Value, b: Value) -> Value:
        """Product of matrices (m, k) and (k, n), or of stacks of them."""
        return self.emit("matmul", [a, b], [*a.shape[:-1], b.shape[-1]], a.dtype)

    def reduced(self, op: str, x: Value, axes: Sequence[int], keep: bool) -> Value:
        """Sum or largest element along axes."""
        axes = sorted({a % len(x.shape) for a in axes}) if x.shape else []
        rest = [n for k, n in enumerate(x.shape) if k not in axes]
        out = self.emit(op, [x], rest, x.dtype, axes=axes) if axes else x
        kept = [Size.of(1) if k in axes else n for k, n in enumerate(x.shape)]
        return self.reshape(out, kept) if keep else out


# -- rules ----------------------------------------------------------------------------------------

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Return a decorator that files the rule of an operation under its names."""

    def decorate(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return decorate


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
    dtype = DTYPES[
        torch.result_type(chosen, _dummy(args[1])) if len(args) > 1 else chosen.dtype
    ]
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


# -- shapes ---------------------------------------------------------------------------------------


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
    axes = range(len(x.shape)) if not axes else axes
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
    node = b.nodes[x.number - first] if x.number >= first else {"op": ""}
    if node["op"] == "broadcast" and node["args"][0] >= first:
        node = b.nodes[node["args"][0] - first]
    return node["op"] == "number" and node["value"] == 0
