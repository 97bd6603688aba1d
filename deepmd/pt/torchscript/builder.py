# SPDX-License-Identifier: LGPL-3.0-or-later
"""Stored programs under construction: sizes, arrays and operations.

The results of operations have shapes that are polynomials of the sizes of the inputs. They are not
stored: whoever reads a program infers them again, by the same rules.
"""

import json
import math
from collections.abc import Sequence
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
