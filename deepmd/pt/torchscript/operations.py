# SPDX-License-Identifier: LGPL-3.0-or-later
"""Stored programs: the evaluation of a model as a list of operations on arrays.

The native engine evaluates with it what it does not know by hand. The format is described in
``docs/development/programs.md``; :mod:`deepmd.pt.torchscript.lowering` has the rules.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.model.model import VJP
from deepmd.dpmodel.neighbors import slot_axes
from deepmd.io.digest import content_key
from deepmd.pt.lift import convert
from deepmd.pt.torchscript.example import example_inputs
from deepmd.pt.torchscript.lowering import DTYPES, Builder, NoProgramError, Value, lower
from deepmd.pt.torchscript.recording import NotRecordedError, record

#: Version of the list of operations and their meaning.
VERSION = 1
#: Input: factors of the outputs of atoms, (n_atoms, size), in the sum that is differentiated.
WEIGHT = "weight"
#: Results of operations with more elements are not stored in place of the operations.
_FOLDED = 1 << 14


def operations_of(model: Model, tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the program of a model as a dictionary that files can hold.

    Parameters
    ----------
    model : Model
    tree : dict
        Its dictionary, which the program refers to for arrays that are in it.

    Raises
    ------
    NoProgramError
        If the evaluation is no list of operations that programs have.
    """
    if len(model.output_def().get_data()) != 1:
        raise NoProgramError("a model with several outputs has no program")
    graph, weighted = _recorded(model)
    b = Builder()
    results = _lowered(b, graph, _named_inputs(model, weighted))
    names = {k: "gradient" if k == VJP else k for k in results}
    outputs = {names[k]: value.number for k, value in results.items()}
    nodes, kept, outputs = _reachable(b, outputs)
    stored, arrays = _constants([b.constants[k] for k in kept], tree)
    return {
        "@class": "Operations",
        "@version": VERSION,
        "inputs": b.inputs,
        "constants": stored,
        "nodes": nodes,
        "outputs": outputs,
        "metadata": model.info().to_dict(),
        "@variables": arrays,
    }


def _weighted(model: Model) -> bool:
    """Whether there is a gradient, of a weighted sum over atoms and components."""
    return bool(model.differentiable())


def _recorded(model: Model) -> tuple[torch.fx.GraphModule, bool]:
    """Return ``forward_edges`` as a recorded graph, and whether it takes weights."""
    lifted = convert(model).requires_grad_(False)
    inputs = example_inputs(model.packings(), inputs=model.entry_inputs())
    weighted = _weighted(model)
    names = list(model.output_def().get_data())
    names += [VJP] * weighted

    def function(*arrays: torch.Tensor) -> dict[str, torch.Tensor]:
        count = len(arrays) - weighted
        given = inputs.with_arrays(arrays[:count])
        cotangent = {names[0]: arrays[-1]} if weighted else None
        # Order 2: the plain forms of operations, no node that stands for a loop over blocks.
        raw = lifted.forward_edges(given, order=2, cotangent=cotangent)
        return {name: raw[name] for name in names}

    try:
        graph = record(function, list(_examples(model, weighted)))
    except NotRecordedError as error:
        raise NoProgramError(str(error)) from error
    graph.graph.eliminate_dead_code()
    return graph, weighted


def _examples(model: Model, weighted: bool) -> Iterator[list[torch.Tensor]]:
    """Yield arrays to record with; small ones, because all results stay in memory."""
    rng = np.random.default_rng(0)
    sizes = iter(lambda: int(rng.integers(3, 19)), None)
    for _ in range(6):
        one: Inputs = example_inputs(model.packings(), inputs=model.entry_inputs(), sizes=sizes)
        size = next(iter(model.output_def().get_data().values())).size
        yield [*one.flat(), *([torch.ones(len(one.atype), size).double()] * weighted)]


def _named_inputs(model: Model, weighted: bool) -> list[tuple[str, Sequence[Any], str]]:
    """Return name, shape and type of every input."""
    inputs: list[tuple[str, Sequence[Any], str]] = [
        ("vec", ("edges", 3), "float64"),
        ("i", ("edges",), "int64"),
        ("j", ("edges",), "int64"),
        ("atype", ("atoms",), "int64"),
        ("frame", ("atoms",), "int64"),
    ]
    for level in ("frame", "atom"):
        inputs += [
            (one.name, (f"{level}s", one.size), "float64")
            for one in model.entry_inputs()
            if one.level.value == level
        ]
    axes = slot_axes(model.packings())
    inputs += [(f"slot_{k}", slot, "int64") for k, slot in enumerate(axes)]
    size = next(iter(model.output_def().get_data().values())).size
    return [*inputs, *([(WEIGHT, ("atoms", size), "float64")] * weighted)]


def _lowered(
    b: Builder, graph: torch.fx.GraphModule, inputs: list[tuple[str, Sequence[Any], str]]
) -> dict[str, Value]:
    """Fill a builder with the operations of a graph, and return its results."""
    known: dict[torch.fx.Node, Any] = {}
    fixed = _folded(graph)
    names = iter(inputs)
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            known[node] = b.input(*next(names))
    live = {n for user in graph.graph.nodes if user not in fixed for n in user.all_input_nodes}
    for node, value in fixed.items():
        if node in live and isinstance(value, torch.Tensor):
            if value.dtype not in DTYPES:
                raise NoProgramError(f"programs do not have numbers of type {value.dtype}")
            known[node] = b.constant(value)
    for node in graph.graph.nodes:
        if node.op == "call_function" and node not in fixed:
            args, kwargs = torch.fx.node.map_arg((node.args, dict(node.kwargs)), known.__getitem__)
            known[node] = lower(b, node.target, args, dict(kwargs))
    (last,) = (n for n in graph.graph.nodes if n.op == "output")
    return {name: known[node] for name, node in last.args[0].items()}


def _folded(graph: torch.fx.GraphModule) -> dict[torch.fx.Node, Any]:
    """Return values of nodes that depend on constants only, unless these are views or large."""
    values: dict[torch.fx.Node, Any] = {}
    for node in graph.graph.nodes:
        if node.op == "get_attr":
            values[node] = getattr(graph, str(node.target))
        elif node.op == "call_function" and node.all_input_nodes:
            if all(n in values for n in node.all_input_nodes) and not _is_view(node.target):
                args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
                value = node.target(*args, **kwargs)
                if isinstance(value, torch.Tensor) and value.numel() <= _FOLDED:
                    values[node] = value
    return values


def _is_view(target: Any) -> bool:
    if not isinstance(target, torch._ops.OpOverload):
        return True
    returns = target._schema.returns
    return target._schema.is_mutable or any(r.alias_info is not None for r in returns)


def _reachable(
    b: Builder, outputs: dict[str, int]
) -> tuple[list[dict[str, Any]], list[int], dict[str, int]]:
    """Return the nodes and constants that outputs need, numbered anew, and the outputs."""
    n_inputs, n_constants = len(b.inputs), len(b.constants)
    first, needed = n_inputs + n_constants, set(outputs.values())
    for number in range(first + len(b.nodes) - 1, first - 1, -1):
        if number in needed:
            needed.update(b.nodes[number - first]["args"])
    constants = [k for k in range(n_constants) if n_inputs + k in needed]
    order = [*range(n_inputs), *(n_inputs + k for k in constants)]
    order += sorted(n for n in needed if n >= first)
    place = {old: new for new, old in enumerate(order)}
    nodes = [
        {**b.nodes[old - first], "args": [place[a] for a in b.nodes[old - first]["args"]]}
        for old in order[n_inputs + len(constants) :]
    ]
    return nodes, constants, {k: place[v] for k, v in outputs.items()}


def _constants(
    tensors: Sequence[torch.Tensor], tree: Mapping[str, Any]
) -> tuple[list[Any], dict[str, np.ndarray]]:
    """Return where constants are: a path in the dictionary of the model, or a name, and these."""
    known = dict(_array_paths(tree, []))
    stored: list[Any] = []
    arrays: dict[str, np.ndarray] = {}
    for tensor in tensors:
        array = np.ascontiguousarray(tensor.detach().cpu().numpy())
        path = known.get(content_key(array))
        if path is None:
            path = [f"array_{len(arrays)}"]
            arrays[path[0]] = array
        shape, dtype = [int(n) for n in array.shape], array.dtype.name
        stored.append({"path": path, "shape": shape, "dtype": dtype})
    return stored, arrays


def _array_paths(node: Any, path: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield content and place of all arrays of a dictionary."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if isinstance(value, (dict, list, tuple)):
            yield from _array_paths(value, [*path, key])
        elif isinstance(value, np.ndarray) and value.ndim:
            yield content_key(value), [*path, key]
