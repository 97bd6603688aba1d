# SPDX-License-Identifier: LGPL-3.0-or-later
"""Recording of a function of arrays as a graph that holds for arrays of every size.

The function is evaluated on examples of several sizes. Each operation becomes a node; an integer
argument that differs from example to example must be an affine function of a product of sizes of
the inputs, or bilinear in two of them, and becomes nodes that compute it. Symbolic shapes (``torch.fx`` with
``tracing_mode="symbolic"``) give the same graph in twenty times the time.
"""

import collections
import functools
import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

Tensor = torch.Tensor
_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)


class NotRecordedError(ValueError):
    """A function whose operations or sizes are not of the kind that can be recorded."""


class _Place(NamedTuple):
    """Origin of an array: input, constant or result of a call, and its place in a tuple."""

    kind: str
    number: int
    part: int | None = None


class _Axis(NamedTuple):
    """Axis of an input."""

    number: int
    axis: int


#: An integer in each run.
Values = tuple[int, ...]
#: Axes whose sizes are added, for each factor.
Product = tuple[tuple[_Axis, ...], ...]


class _Size(NamedTuple):
    """The integer ``factor * product + offset``."""

    factor: int
    product: Product
    offset: int


class _Bilinear(NamedTuple):
    """The integer ``a x y + b x + c y + d`` of two sizes, such as the numbers of missing neighbors."""

    factors: tuple[int, int, int, int]
    axes: tuple[_Axis, _Axis]


class _Call(NamedTuple):
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class _Recorder(TorchDispatchMode):
    """The operations on arrays while it is active.

    Parameters
    ----------
    inputs : sequence of Tensor
        Arrays that the operations start from; all others are constants.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.calls: list[_Call] = []
        self.constants: list[Tensor] = []
        self._places = {id(x): _Place("input", k) for k, x in enumerate(inputs)}
        self._alive: list[Any] = list(inputs)  # an id must not be given to another array
        self._sharers = collections.Counter(map(_storage, inputs))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Return whether ``__torch_dispatch__`` is guarded from the compiler of torch.

        No compiler runs on it, and the guard would import that of torch (2 s).
        """
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        _check_sizes(func, args)
        if func._schema.is_mutable:
            self._check_change(func, args[0])
        given = self.places((args, kwargs))
        out = func(*args, **kwargs)
        number = len(self.calls)
        self.calls.append(_Call(func, *given))
        if isinstance(out, Tensor):
            self._keep(out, _Place("call", number))
        else:
            parts = ((k, x) for k, x in enumerate(out) if isinstance(x, Tensor))
            for part, one in parts:
                self._keep(one, _Place("call", number, part))
        return out

    def finish(self, results: dict[str, Tensor]) -> dict[str, _Place]:
        """Return the places of results, and release all arrays but constants."""
        places = self.places(results)
        self._alive.clear()
        return places

    def places(self, tree: Any) -> Any:
        """Return a tree of arguments with the places of its arrays."""
        return _mapped(tree, Tensor, self._place)

    def _place(self, x: Tensor) -> _Place:
        if id(x) not in self._places:
            self._keep(x, _Place("constant", len(self.constants)))
            self.constants.append(x)
        return self._places[id(x)]

    def _keep(self, x: Tensor, place: _Place) -> None:
        if id(x) not in self._places:
            self._alive.append(x)
            self._sharers[_storage(x)] += 1
        self._places[id(x)] = place

    def _check_change(self, func: Any, x: Any) -> None:
        """Raise NotRecordedError unless an operation changes a result that nothing else refers to.

        Such changes are in the derivatives of torch. What comes later uses the changed array.
        """
        place = self._places.get(id(x))
        is_result = place is not None and place.kind == "call"
        if not func._schema.name.endswith("_") or not is_result or self._sharers[_storage(x)] > 1:
            raise NotRecordedError(f"{func} changes an array in place")


def _storage(x: Tensor) -> int:
    """Address of the memory of an array, which views of it share."""
    return x.untyped_storage()._cdata


def _mapped(tree: Any, leaf_type: Any, function: Callable[[Any], Any]) -> Any:
    """Return a tree of lists, tuples and dictionaries with its leaves of a type exchanged."""
    if isinstance(tree, leaf_type):
        return function(tree)
    if isinstance(tree, (list, tuple)):
        return type(tree)([_mapped(x, leaf_type, function) for x in tree])
    if isinstance(tree, dict):
        return {k: _mapped(v, leaf_type, function) for k, v in tree.items()}
    return tree


def is_recording() -> bool:
    """Return whether operations are being recorded."""
    return isinstance(_get_current_dispatch_mode(), _Recorder)


def _check_sizes(func: Any, args: Any) -> None:
    """Raise NotRecordedError for an operation with results whose sizes depend on values."""
    by_mask = func is torch.ops.aten.index.Tensor and any(
        x is not None and x.dtype in (torch.bool, torch.uint8) for x in args[1]
    )
    tagged = func is not torch.ops.aten.index.Tensor and any(tag in func.tags for tag in _TAGS)
    if by_mask or tagged:
        raise NotRecordedError(f"the size of what {func} gives depends on values")


def record(
    function: Callable[..., dict[str, Tensor]], examples: Sequence[Sequence[Tensor]]
) -> torch.fx.GraphModule:
    """Return the operations of a function as a graph.

    Parameters
    ----------
    function : callable
        Takes arrays, returns a dictionary of arrays.
    examples : sequence of sequence of Tensor
        Sets of arguments. Axes of one meaning, and no others, have the same sizes in all of them.
        Two sets determine an integer, the others confirm it.

    Raises
    ------
    NotRecordedError
        If sizes of results depend on values, arrays are changed in place, or an integer is no
        affine function of a product of sizes.
    """
    runs = []
    for arrays in examples:
        arrays = [x.detach() for x in arrays]
        with _Recorder(arrays) as recorder:
            results = function(*arrays)
        runs.append((recorder, recorder.finish(results)))
    first = runs[0][0]
    for other, _ in runs[1:]:
        if [c.target for c in other.calls] != [c.target for c in first.calls] or not all(
            map(_same, other.constants, first.constants)
        ):
            raise NotRecordedError("the operations depend on the sizes")
    merge = _Merge(examples).merge
    calls = [
        _Call(same[0].target, *merge([(c.args, c.kwargs) for c in same]))
        for same in zip(*(r.calls for r, _ in runs), strict=True)
    ]
    results = merge([out for _, out in runs])
    return _graph(len(examples[0]), first.constants, calls, results)


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two constants are equal, NaN included."""
    return a is b or (
        (a.dtype, a.shape) == (b.dtype, b.shape) and torch.allclose(a, b, 0.0, 0.0, equal_nan=True)
    )


# -- sizes ----------------------------------------------------------------------------------------


class _Merge:
    """Arguments of several runs as one, with integers that differ as functions of sizes.

    Parameters
    ----------
    examples : sequence of sequence of Tensor
        Inputs of each run.
    """

    def __init__(self, examples: Sequence[Sequence[Tensor]]) -> None:
        axes: dict[int, dict[Values, _Axis]] = {}
        for number, same in enumerate(zip(*examples, strict=True)):
            for axis, values in enumerate(zip(*(x.shape for x in same), strict=True)):
                if len(set(values)) > 1:
                    axes.setdefault(axis, {}).setdefault(values, _Axis(number, axis))
        self._axes = [list(same.items()) for same in axes.values()]
        self._known: dict[Values, _Size | _Bilinear] = {}

    def merge(self, same: Sequence[Any]) -> Any:
        """Return one tree for those of all runs."""
        first = same[0]
        if len({type(x) for x in same}) > 1:
            raise NotRecordedError("the arguments of an operation depend on the sizes")
        if isinstance(first, (list, tuple)) and not isinstance(first, _Place):
            if len({len(x) for x in same}) > 1:
                raise NotRecordedError("the number of arguments depends on the sizes")
            return type(first)(self.merge(x) for x in zip(*same, strict=True))
        if isinstance(first, dict):
            return {key: self.merge([x[key] for x in same]) for key in first}
        # NaN is not equal to itself
        if all(x is first or x == first or repr(x) == repr(first) for x in same):
            return first
        if type(first) is int:
            return self.size(tuple(same))
        raise NotRecordedError(f"{' and '.join(map(str, same))} are no integers of sizes")

    def size(self, values: Values) -> _Size | _Bilinear:
        """Return an integer as a function of sizes, from its values in all runs."""
        if values not in self._known:
            fits = filter(None, (_affine(values, *product) for product in _products(self._axes)))
            found = next(fits, None) or _bilinear(values, self._axes)
            if found is None:
                raise NotRecordedError(f"{values} are no affine function of sizes")
            self._known[values] = found
        return self._known[values]


def _products(groups: list[list[tuple[Values, _Axis]]]) -> Iterator[tuple[Values, Product]]:
    """Yield products of two sums of neighboring axes, or of three axes; short ones first.

    Sums belong to arrays that were joined, one for each type for example.
    """
    single = [(values, (axis,)) for group in groups for values, axis in group]
    sums = [
        (tuple(map(sum, zip(*(v for v, _ in part), strict=True))), tuple(a for _, a in part))
        for group in groups
        for first, last in itertools.combinations(range(len(group) + 1), 2)
        if last > first + 1 and (part := group[first:last])
    ]
    for chosen in itertools.chain(
        itertools.product(single),
        itertools.combinations_with_replacement(single, 2),
        itertools.product(sums),
        itertools.product(sums, single),
        itertools.combinations_with_replacement(single, 3),
        itertools.combinations_with_replacement(sums, 2),
    ):
        values = tuple(math.prod(v) for v in zip(*(v for v, _ in chosen), strict=True))
        yield values, tuple(part for _, part in chosen)


def _affine(values: Values, product: Values, sizes: Product) -> _Size | None:
    """Return values as ``factor * product + offset``, None where they are not.

    Whole factors only: halves of odd numbers would not show how they are rounded.
    """
    other = next((k for k, p in enumerate(product) if p != product[0]), 0)
    if not other:
        return None
    factor, rest = divmod(values[other] - values[0], product[other] - product[0])
    offset = values[0] - factor * product[0]
    if rest or not factor or values != tuple(factor * p + offset for p in product):
        return None
    return _Size(factor, sizes, offset)


def _bilinear(values: Values, groups: list[list[tuple[Values, _Axis]]]) -> _Bilinear | None:
    """Return values as a bilinear function of two sizes, None where they are not."""
    single = [one for group in groups for one in group]
    for (x, first), (y, second) in itertools.combinations_with_replacement(single, 2):
        one = (1,) * len(values)
        columns = [[a * b for a, b in zip(x, y, strict=True)], x, y, one]
        if first == second:  # a square
            columns[2] = (0,) * len(values)
        found = np.linalg.lstsq(np.array(columns, dtype=float).T, np.array(values), rcond=None)[0]
        factors = tuple(int(f) for f in np.rint(found))
        if tuple(np.array(factors) @ np.array(columns, dtype=np.int64)) == values:
            return _Bilinear(factors, (first, second))  # type: ignore[arg-type]
    return None


# -- the graph ------------------------------------------------------------------------------------


def _graph(
    n_inputs: int, constants: Sequence[Tensor], calls: Sequence[_Call], results: dict[str, _Place]
) -> torch.fx.GraphModule:
    """Return calls as a graph, constants as buffers of its module."""
    graph = torch.fx.Graph()
    nodes: dict[Any, torch.fx.Node] = {}
    for k in range(n_inputs):
        nodes[_Place("input", k)] = graph.placeholder(f"array_{k}")
    root = torch.nn.Module()
    for k, value in enumerate(constants):
        root.register_buffer(f"constant_{k}", value.detach().clone())

    def node_of(leaf: Any) -> torch.fx.Node:
        if leaf not in nodes:
            if isinstance(leaf, (_Size, _Bilinear)):
                nodes[leaf] = _size_node(graph, leaf, nodes)
            elif leaf.kind == "constant":
                nodes[leaf] = graph.get_attr(f"constant_{leaf.number}")
            else:
                whole = nodes[_Place("call", leaf.number)]
                nodes[leaf] = graph.call_function(operator.getitem, (whole, leaf.part))
        return nodes[leaf]

    def with_nodes(tree: Any) -> Any:
        return _mapped(tree, (_Place, _Size, _Bilinear), node_of)

    for number, call in enumerate(calls):
        args, kwargs = with_nodes(call.args), with_nodes(call.kwargs)
        nodes[_Place("call", number)] = graph.call_function(call.target, args, kwargs)
    graph.output(with_nodes(results))
    return torch.fx.GraphModule(root, graph)


def _size_node(
    graph: torch.fx.Graph, size: _Size | _Bilinear, nodes: dict[Any, torch.fx.Node]
) -> torch.fx.Node:
    """Add the nodes that compute an integer."""

    def of_axis(place: _Axis) -> torch.fx.Node:
        if place not in nodes:
            array = nodes[_Place("input", place.number)]
            nodes[place] = graph.call_function(torch.ops.aten.sym_size.int, (array, place.axis))
        return nodes[place]

    def joined(function: Callable, parts: Any) -> Any:
        return functools.reduce(lambda a, b: graph.call_function(function, (a, b)), parts)

    if isinstance(size, _Bilinear):
        x, y = map(of_axis, size.axes)
        products = [joined(operator.mul, (x, y)), x, y]
        terms = [joined(operator.mul, p) for p in zip(products, size.factors[:3], strict=True)]
        return joined(operator.add, (*terms, size.factors[3]))
    out = joined(operator.mul, (joined(operator.add, map(of_axis, s)) for s in size.product))
    if size.factor != 1:
        out = joined(operator.mul, (out, size.factor))
    return joined(operator.add, (out, size.offset)) if size.offset else out
