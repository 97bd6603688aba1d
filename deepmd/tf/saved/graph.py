# SPDX-License-Identifier: LGPL-3.0-or-later
"""Graphs of SavedModels: names that do not depend on the process, and functions out of a file.

Functions are taken out of ``saved_model.pb`` by their names, as programs in C++ do. The loader of
TensorFlow, which restores objects and runs initializers, takes no part.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework import attr_value_pb2, function_pb2, graph_pb2, node_def_pb2
from tensorflow.core.protobuf import saved_model_pb2

from deepmd.base.errors import ModelFileError
from deepmd.tf.graph import allowed_operators

#: What TensorFlow puts before and after the names of functions.
_PREFIX, _NUMBER = "__inference_", re.compile(r"[0-9_]*$")
#: In a program of XLA that calls back into the process that made it.
_CALLBACK = re.compile(rb"xla_\w*python\w*|call_tf_function")


def short_name(name: str) -> str:
    """Name of a function without prefix and number."""
    return _NUMBER.sub("", name.removeprefix(_PREFIX))


def parsed(data: bytes) -> Any:
    """Only graph of a ``saved_model.pb``, a MetaGraphDef."""
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise ModelFileError(f"saved_model.pb is damaged ({error})") from None
    if len(model.meta_graphs) != 1:
        raise ModelFileError(f"saved_model.pb has {len(model.meta_graphs)} graphs, not one")
    return model.meta_graphs[0]


# -- names ----------------------------------------------------------------------------------------


def canonical(data: bytes) -> bytes:
    """``saved_model.pb`` with functions numbered by their order in it, not by their making."""
    model = saved_model_pb2.SavedModel()
    model.ParseFromString(data)
    for graph in model.meta_graphs:
        _rename(graph)
    return model.SerializeToString(deterministic=True)


def _rename(graph: Any) -> None:
    """Give the functions of a graph new numbers, and put them in the order of these."""
    library, objects = graph.graph_def.library, graph.object_graph_def
    known = {f.signature.name: f for f in library.function}
    roots = sorted(objects.concrete_functions, key=short_name)
    for node in graph.graph_def.node:
        roots += [f.name for f in _called(node)]
    order: dict[str, str] = {}
    for name in roots:
        _number(name, known, order)
    for function in library.function:  # the conditions of loops have numbers in unused arguments
        for argument in function.signature.input_arg:
            argument.name = re.sub(r"_[0-9]+(___redundant_)", r"\1", argument.name)
    for node in _nodes(graph):  # of derivatives that nobody takes
        node.attr.pop("_gradient_op_type", None)
    rename(graph, order)
    ordered = sorted(library.function, key=lambda f: list(order.values()).index(f.signature.name))
    copies = [function_pb2.FunctionDef.FromString(f.SerializeToString()) for f in ordered]
    del library.function[:], library.gradient[:]
    library.function.extend(copies)


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Rename the functions of a graph; those without a new name are dropped."""
    library, objects = graph.graph_def.library, graph.object_graph_def
    for k in reversed(range(len(library.function))):
        if library.function[k].signature.name not in names:
            del library.function[k]
    for node in _nodes(graph):
        for function in _called(node):
            function.name = names.get(function.name, function.name)
    for function in library.function:
        function.signature.name = names[function.signature.name]
    for node in objects.nodes:
        if node.WhichOneof("kind") == "function":
            concrete = [names[n] for n in node.function.concrete_functions]
            node.function.concrete_functions[:] = concrete
        elif node.WhichOneof("kind") == "bare_concrete_function":
            bare = node.bare_concrete_function
            bare.concrete_function_name = names[bare.concrete_function_name]
    described = {names[k]: v.SerializeToString() for k, v in objects.concrete_functions.items()}
    objects.concrete_functions.clear()
    for name, value in described.items():
        objects.concrete_functions[name].ParseFromString(value)


def _number(name: str, known: Mapping[str, Any], order: dict[str, str]) -> None:
    """Number a function and those it calls, in the order of the calls."""
    if name in order or name not in known:
        return
    order[name] = f"{re.sub(r'[0-9]+$', '', name).rstrip('_')}_{len(order)}"
    for node in known[name].node_def:
        for function in _called(node):
            _number(function.name, known, order)


def _nodes(graph: Any) -> Iterator[node_def_pb2.NodeDef]:
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def _called(node: node_def_pb2.NodeDef) -> list[attr_value_pb2.NameAttrList]:
    """Functions that a node calls."""
    found = []
    for key in sorted(node.attr):
        value = node.attr[key]
        kind = value.WhichOneof("value")
        if kind == "func":
            found.append(value.func)
        elif kind == "list":
            found += value.list.func
    return found


# -- functions ------------------------------------------------------------------------------------


class Functions:
    """Functions of a SavedModel by their short names.

    Parameters
    ----------
    data : bytes
        ``saved_model.pb``.

    Raises
    ------
    ModelFileError
        If it cannot be read.
    """

    def __init__(self, data: bytes) -> None:
        self._graph = parsed(data)
        found = [f.signature.name for f in self._graph.graph_def.library.function]
        # TensorFlow has one table of functions for all files that a process opens.
        mark = hashlib.sha256(data).hexdigest()[:16]
        new = {name: f"file_{mark}_{name}" for name in found}
        rename(self._graph, new)
        self._library = {f.signature.name: f for f in self._graph.graph_def.library.function}
        self._names = {short_name(n): new[n] for n in found if n.startswith(_PREFIX)}

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def outputs(self, name: str) -> dict[str, list[int | None]]:
        """Names of the results of a function and their shapes, None for sizes that may be any."""
        full = self._full_name(name)
        concrete = self._graph.object_graph_def.concrete_functions
        signature = concrete[full].output_signature if full in concrete else None
        if signature is None or signature.WhichOneof("kind") != "dict_value":
            raise ModelFileError(f"does not say what {name} returns")
        fields = signature.dict_value.fields
        return {
            key: [None if d.size < 0 else d.size for d in fields[key].tensor_spec_value.shape.dim]
            for key in sorted(fields)
        }

    def arguments(self, name: str) -> list[str]:
        """Names of the arguments of a function."""
        return [a.name for a in self._library[self._full_name(name)].signature.input_arg]

    def function(self, name: str) -> Callable[..., list[Any]]:
        """A function, of tensors or NumPy arrays; its results are in the order of :meth:`outputs`.

        Raises
        ------
        ModelFileError
            If there is none of this name, or it does more than compute.
        """
        full = self._full_name(name)
        signature = self._library[full].signature
        needed: dict[str, function_pb2.FunctionDef] = {}
        self._collect(full, needed)
        check_operators(node for f in needed.values() for node in f.node_def)
        graph = graph_pb2.GraphDef(versions=self._graph.graph_def.versions)
        graph.library.function.extend(needed.values())
        inputs = []
        for k, argument in enumerate(signature.input_arg):
            node = graph.node.add(name=f"argument_{k}", op="Placeholder")
            node.attr["dtype"].type = argument.type
            node.attr["shape"].shape.unknown_rank = True
            inputs.append(node.name)
        call = graph.node.add(name="call", op="StatefulPartitionedCall", input=inputs)
        call.attr["Tin"].list.type.extend(a.type for a in signature.input_arg)
        call.attr["Tout"].list.type.extend(a.type for a in signature.output_arg)
        call.attr["f"].func.name = full
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph, name=""), [])
        results = [f"call:{k}" for k in range(len(signature.output_arg))]
        pruned = wrapped.prune([f"{name}:0" for name in inputs], results)
        return lambda *arrays: pruned(*map(tf.convert_to_tensor, arrays))

    def answer(self, name: str) -> Any:
        """What a function without arguments returns, as NumPy has it, or None if there is none."""
        if name not in self:
            return None
        (value,) = self.function(name)()
        return value.numpy()

    def _full_name(self, name: str) -> str:
        if name not in self:
            raise ModelFileError(f"holds no function {name}; no model")
        return self._names[name]

    def _collect(self, name: str, found: dict[str, function_pb2.FunctionDef]) -> None:
        """Gather a function and all that it calls."""
        if name in found:
            return
        if name not in self._library:
            raise ModelFileError(f"calls {name}, which it does not hold")
        found[name] = self._library[name]
        for node in found[name].node_def:
            for function in _called(node):
                self._collect(function.name, found)


def check_operators(nodes: Iterable[node_def_pb2.NodeDef]) -> None:
    """Raise ModelFileError if nodes have operators that do more than compute."""
    wrong, allowed = set(), allowed_operators()
    for node in nodes:
        if node.op not in allowed:
            wrong.add(node.op)
        if node.op == "XlaCallModule" and _CALLBACK.search(node.attr["module"].s):
            wrong.add("callbacks of XLA")
    if wrong:
        raise ModelFileError(
            f"its program uses {', '.join(sorted(wrong)[:5])}, which no model needs",
            fix="the file was not opened; ask whoever made it",
        )
