# SPDX-License-Identifier: LGPL-3.0-or-later
"""Model section of a graph without a training script, as DeePMD-kit 1 wrote them.

Cutoffs and numbers of neighbors are attributes of the operator of the environment matrix, widths
the shapes of the arrays, and activations the operators behind them.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.io.graph import Graph, Node

#: Operators of the environment matrix, and the descriptors that use them; None for those that are
#: younger than training scripts in graphs.
ENVIRONMENTS = {
    "ProdEnvMatAMix": None,
    "ProdEnvMatA": "se_e2_a",
    "DescrptSeA": "se_e2_a",
    "DescrptNorot": "se_e2_a",
    "ProdEnvMatR": "se_e2_r",
    "DescrptSeR": "se_e2_r",
}
#: What the attributes of the operators are called, by setting.
ATTRIBUTES = {
    "rcut": ("rcut_r", "rcut"),
    "rcut_smth": ("rcut_r_smth", "rcut_smth"),
    "sel": ("sel_a", "sel"),
}
#: Operators of activations.
ACTIVATIONS = {
    "Tanh": "tanh",
    "Relu": "relu",
    "Relu6": "relu6",
    "Softplus": "softplus",
    "Sigmoid": "sigmoid",
    "Pow": "gelu",
    "Gelu": "gelu",
}
#: Operators that pass a value on.
_PASSING = ("Identity", "Reshape", "BiasAdd", "MatMul")
#: Descriptors with components along axes: their width is that of the embedding times their number.
_WITH_AXES = ("se_e2_a",)


def inferred_section(graph: Graph) -> dict[str, Any]:
    """Return the model section that operators, names and shapes of a graph imply.

    Raises
    ------
    ModelFileError
        Naming what the graph does not tell.
    """
    names = graph.text("model_attr/tmap")
    if names is None:
        raise ModelFileError("has neither a training script nor names of types (model_attr/tmap)")
    found = environment_nodes(graph)
    if not found or any(ENVIRONMENTS[node.op] is None for node in found):
        known = ", ".join(sorted(op for op, kind in ENVIRONMENTS.items() if kind))
        raise ModelFileError(f"has no training script, and no operator of {known}")
    suffixes = [suffix_of(node) for node in found]
    parts = [_descriptor(graph, node, s) for node, s in zip(found, suffixes, strict=True)]
    fitting = _fitting(graph)
    given = _width(graph, "layer_0", 0) - fitting["numb_fparam"] - fitting["numb_aparam"]
    _set_axes(parts, given)
    several = {"type": "hybrid", "list": parts}
    return {
        "type_map": names.split(),
        "descriptor": parts[0] if suffixes == [""] else several,
        "fitting_net": fitting,
    }


def environment_nodes(graph: Graph) -> list[Node]:
    """Return the operators of the environment matrix of a graph."""
    return [node for node in graph.values() if node.op in ENVIRONMENTS]


def suffix_of(node: Node) -> str:
    """Return the suffix of the scopes of an environment operator in a hybrid, ``_0``."""
    for name in node.inputs:
        match = re.match(r"descrpt_attr(_\d+)?/t_avg", name)
        if match:
            return match[1] or ""
    raise ModelFileError(f'its operator "{node.name}" has no statistics')


def settings_of(node: Node) -> dict[str, Any]:
    """Return cutoffs [Å] and numbers of neighbors, which are attributes of an operator."""
    attrs, section = node.attrs, {}
    for name, choices in ATTRIBUTES.items():
        found = next((attrs[c] for c in choices if c in attrs), None)
        if found is None:
            raise ModelFileError(f'its operator "{node.name}" does not state {name}')
        section[name] = _shortest(found) if isinstance(found, float) else found
    return section


def _descriptor(graph: Graph, node: Node, s: str) -> dict[str, Any]:
    """Section of the descriptor of an environment operator."""
    kind, section = ENVIRONMENTS[node.op], settings_of(node)
    scope = f"filter_type_all{s}"
    if f"{scope}/matrix_1_0_0" in graph:
        kind, first = "se_e3", f"{scope}/{{array}}_{{l}}_0_0"
    elif f"{scope}/matrix_1_0" in graph:
        first = f"{scope}/{{array}}_{{l}}_0"
    else:
        first = f"filter_type_0{s}/{{array}}_{{l}}_0"
    weights = list(_layers(graph, first, 1))
    return {
        "type": kind,
        **section,
        "neuron": [w.shape[1] for w in weights],
        "resnet_dt": first.format(array="idt", l=2) in graph,
        "activation_function": _activation(graph, first.format(array="matrix", l=1)),
        **_precision(weights[0]),
    }


def _fitting(graph: Graph) -> dict[str, Any]:
    kind = graph.text("model_attr/model_type") or "ener"
    name = _layer_name(graph, "layer_0")
    template = name.replace("layer_0", "layer_{l}") + "/{array}"
    weights = list(_layers(graph, template, 0))
    counts = {
        key: int(number) if number is not None else 0
        for key, number in (
            ("numb_fparam", graph.constant("fitting_attr/dfparam")),
            ("numb_aparam", graph.constant("fitting_attr/daparam")),
        )
    }
    return {
        "type": kind,
        "neuron": [w.shape[1] for w in weights],
        "resnet_dt": any(f"{name.replace('_0', f'_{k}', 1)}/idt" in graph for k in (1, 2)),
        "activation_function": _activation(graph, f"{name}/matrix"),
        **_precision(weights[0]),
        **counts,
        **_of_kind(graph, kind),
    }


def _of_kind(graph: Graph, kind: str) -> dict[str, Any]:
    """Return the settings of kinds of fittings."""
    found: dict[str, Any] = {}
    chosen, size = graph.constant("model_attr/sel_type"), graph.constant("fitting_attr/numb_dos")
    if chosen is not None:
        found["sel_type"] = [int(t) for t in chosen]
    if size is not None:
        found["numb_dos"] = int(size)
    if kind == "polar":
        raise ModelFileError("has no training script, which a polarizability needs for its scale")
    return found


def _precision(weight: np.ndarray) -> dict[str, Any]:
    """Return the precision of networks, if it is not that of everything."""
    return {} if weight.dtype == np.float64 else {"precision": weight.dtype.name}


def _layers(graph: Graph, template: str, first: int) -> Iterator[np.ndarray]:
    """Iterate over the weights of layers, numbered from ``first``."""
    k = first
    while template.format(array="matrix", l=k) in graph:
        yield np.asarray(graph.constant(template.format(array="matrix", l=k)))
        k += 1
    if k == first:
        raise ModelFileError(f'has no node "{template.format(array="matrix", l=first)}"')


def _layer_name(graph: Graph, layer: str) -> str:
    """Return the name of a layer of the fitting, of the first type that has one."""
    for name in graph:
        if re.fullmatch(rf"{layer}(_type_\d+)?/matrix", name):
            return name.removesuffix("/matrix")
    raise ModelFileError(f'has no fitting: there is no node "{layer}/matrix"')


def _width(graph: Graph, layer: str, axis: int) -> int:
    return int(np.shape(graph.constant(f"{_layer_name(graph, layer)}/matrix"))[axis])


def _set_axes(parts: list[dict[str, Any]], width: int) -> None:
    """Set the number of axes, which follows from the width of all descriptors together."""
    having = [p for p in parts if p["type"] in _WITH_AXES]
    rest = width - sum(p["neuron"][-1] for p in parts if p not in having)
    if not having:
        return
    total = sum(p["neuron"][-1] for p in having)
    if rest <= 0 or rest % total:
        raise ModelFileError("has no training script, and its shapes do not tell axis_neuron")
    for part in having:
        part["axis_neuron"] = rest // total


def _activation(graph: Graph, name: str) -> str:
    """Return the activation behind the weights of a layer."""
    todo, seen = [name], {name}
    found = set()
    while todo:
        for node in graph.users(todo.pop()):
            if node.op in ACTIVATIONS:
                found.add(ACTIVATIONS[node.op])
            elif node.op in _PASSING and node.name not in seen and "gradients" not in node.name:
                seen.add(node.name)
                todo.append(node.name)
    if len(found) != 1:
        raise ModelFileError(
            f'has no training script, and the activation behind "{name}" is unclear'
        )
    return found.pop()


def _shortest(value: float) -> float:
    """Return the shortest decimal number that is the same in single precision."""
    return float(str(np.float32(value)))
