# SPDX-License-Identifier: LGPL-3.0-or-later
"""Meaning of stored programs, with NumPy: the reference that the C++ interpreter is held to."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "pow": np.power,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
}
_UNARY = {
    "neg": np.negative,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "abs": np.abs,
    "sign": np.sign,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "erf": np.vectorize(math.erf, otypes=[float]),
    "not": np.logical_not,
}


def run(
    program: Mapping[str, Any], model: Mapping[str, Any], inputs: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """Evaluate a program on its inputs, in their order."""
    sizes: dict[str, int] = {}
    for given, declared in zip(inputs, program["inputs"], strict=True):
        assert given.ndim == len(declared["shape"])
        for n, size in zip(given.shape, declared["shape"], strict=True):
            if isinstance(size, str):
                sizes.setdefault(size, n)
    for given, declared in zip(inputs, program["inputs"], strict=True):
        assert given.shape == tuple(number(n, sizes) for n in declared["shape"])
        assert given.dtype == declared["dtype"]
    values = [*inputs, *(_constant(c, program, model) for c in program["constants"])]
    for node in program["nodes"]:
        values.append(_result(node, [values[k] for k in node["args"]], sizes))
    return {name: values[k] for name, k in program["outputs"].items()}


def number(size: Any, sizes: Mapping[str, int]) -> int:
    """Value of a size: a number, a name, or a list of terms."""
    if isinstance(size, str):
        return sizes[size]
    if isinstance(size, int):
        return size
    return sum(factor * math.prod(sizes[n] for n in names) for factor, *names in size)


def _constant(where: Mapping[str, Any], program: Mapping, model: Mapping) -> np.ndarray:
    node: Any = program["@variables"] if len(where["path"]) == 1 else model
    for key in where["path"]:
        node = node[key]
    assert (list(node.shape), node.dtype.name) == (where["shape"], where["dtype"])
    return node


def _result(node: Mapping[str, Any], args: list[np.ndarray], sizes: Mapping[str, int]) -> Any:
    op = node["op"]
    if op in _UNARY:
        return _UNARY[op](args[0]).astype(args[0].dtype)
    if op in _BINARY:
        return _BINARY[op](*args)
    return globals()[f"_{op}"](node, sizes, *args)


def _number(node: Mapping, sizes: Mapping) -> np.ndarray:
    return np.asarray(float(node["value"])).astype(node["type"])


def _size(node: Mapping, sizes: Mapping) -> np.ndarray:
    return np.asarray(number(node["value"], sizes), dtype=node["type"])


def _arange(node: Mapping, sizes: Mapping) -> np.ndarray:
    return np.arange(number(node["length"], sizes), dtype=np.int64)


def _cast(node: Mapping, sizes: Mapping, x: np.ndarray) -> np.ndarray:
    return x.astype(node["type"])


def _where(node: Mapping, sizes: Mapping, *args: np.ndarray) -> np.ndarray:
    return np.where(*args)


def _reshape(node: Mapping, sizes: Mapping, x: np.ndarray) -> np.ndarray:
    return x.reshape([number(n, sizes) for n in node["shape"]])


def _broadcast(node: Mapping, sizes: Mapping, x: np.ndarray) -> np.ndarray:
    return np.broadcast_to(x, [number(n, sizes) for n in node["shape"]])


def _permute(node: Mapping, sizes: Mapping, x: np.ndarray) -> np.ndarray:
    return x.transpose(node["axes"])


def _slice(node: Mapping, sizes: Mapping, x: np.ndarray) -> np.ndarray:
    start, length = number(node["start"], sizes), number(node["length"], sizes)
    assert 0 <= start <= start + length <= x.shape[node["axis"]]
    return x[(*[slice(None)] * node["axis"], slice(start, start + length))]


def _pad(node: Mapping, sizes: Mapping, x: np.ndarray) -> np.ndarray:
    before, total = number(node["before"], sizes), number(node["total"], sizes)
    axis, shape = node["axis"], list(x.shape)
    shape[axis] = total
    out = np.zeros(shape, x.dtype)
    assert 0 <= before <= before + x.shape[axis] <= total
    out[(*[slice(None)] * axis, slice(before, before + x.shape[axis]))] = x
    return out


def _concat(node: Mapping, sizes: Mapping, *arrays: np.ndarray) -> np.ndarray:
    return np.concatenate(arrays, axis=node["axis"])


def _take(node: Mapping, sizes: Mapping, x: np.ndarray, index: np.ndarray) -> np.ndarray:
    assert index.min(initial=0) >= 0
    return x.take(index, axis=node["axis"])


def _segment_sum(node: Mapping, sizes: Mapping, x: np.ndarray, index: np.ndarray) -> np.ndarray:
    out = np.zeros((number(node["length"], sizes), *x.shape[1:]), x.dtype)
    np.add.at(out, index, x)
    return out


def _scatter(
    node: Mapping, sizes: Mapping, x: np.ndarray, index: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    out = x.copy()
    out[index] = rows
    return out


def _matmul(node: Mapping, sizes: Mapping, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a @ b


def _sum(node: Mapping, sizes: Mapping, x: np.ndarray) -> np.ndarray:
    return x.sum(axis=tuple(node["axes"]))


def _max(node: Mapping, sizes: Mapping, x: np.ndarray) -> np.ndarray:
    return x.max(axis=tuple(node["axes"]))


def operations() -> list[str]:
    """Names of all operations."""
    others = (k[1:] for k in globals() if k.startswith("_") and not k.startswith("__"))
    known = {"number", "size", "arange", "cast", "where", "reshape", "broadcast", "permute"}
    known |= {"slice", "pad", "concat", "take", "segment_sum", "scatter", "matmul", "sum", "max"}
    return sorted(itertools.chain(_BINARY, _UNARY, known.intersection(others)))
