# SPDX-License-Identifier: LGPL-3.0-or-later
"""Filling a model dictionary with the arrays of a graph or checkpoint."""

import re
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.graphs.names import FITTING_ARRAYS, LAYER, Path, Source, parts_of, sources
from deepmd.graphs.tables import compress
from deepmd.graphs.types import Find
from deepmd.io.graph import Graph

#: Operators that hand on a constant, or set it before a training.
PASSING = ("Identity", "Assign", "ReadVariableOp", "AssignVariableOp", "VarIsInitializedOp")


def fill(model: dict[str, Any], graph: Graph, find: Find) -> set[str]:
    """Put arrays into the dictionary of a standard model, in place.

    Parameters
    ----------
    model : dict
        Of :meth:`deepmd.dpmodel.model.Model.serialize`.
    graph : Graph
    find : callable
        Returns the array of a name, or None.

    Returns
    -------
    set of str
        Names that were used.

    Raises
    ------
    ModelFileError
        If an array is missing, or has another size.
    """
    used: set[str] = set()
    for _, part, s in parts_of(model["descriptor"]):
        used |= compress(part, graph, s)
    _without_residuals(model["fitting"])
    for source in sources(model):
        names = [next((n for n in part if find(n) is not None), None) for part in source.parts]
        used |= {n for n in names if n is not None}
        holder = at(model, source.place[:-1])
        if None in names:
            _without(source, names, model)
            continue
        parts = [np.asarray(find(n)) for n in names if n is not None]
        holder[source.place[-1]] = _fitted(parts, holder[source.place[-1]], names)
    used |= _bias_of_polar(model, graph)
    _drop_idle_bias(model, graph)
    _scale_outputs(model)
    return used


def _without_residuals(fitting: dict[str, Any]) -> None:
    """Take residuals from the layers of a fitting that have none in TensorFlow.

    There only layers behind the first that keep the width add their input, and have a time step.
    """
    for network in fitting["nets"]["networks"]:
        for k, layer in enumerate(network["layers"][:-1]):
            arrays = layer["@variables"]
            n_in, n_out = arrays["w"].shape
            if n_out in (n_in, 2 * n_in) and not (k and n_in == n_out):
                layer["resnet"] = layer["use_timestep"] = False
                arrays["idt"] = None


def _without(source: Source, names: list[str | None], model: dict[str, Any]) -> None:
    """Leave an array that the graph does not have as it is, or zero, if the model can do without."""
    missing = source.parts[names.index(None)][0]
    holder, key = at(model, source.place[:-1]), source.place[-1]
    if source.needed:
        raise ModelFileError(
            f'has no node "{missing}", which its model needs',
            fix="it is damaged, or of a form that is not known here",
        )
    elif key in LAYER:  # of a network that is never used
        holder[key] = np.zeros_like(holder[key])


def _fitted(parts: list[np.ndarray], old: Any, names: list[str | None]) -> np.ndarray:
    """Return the parts of an array side by side, in the shape and precision of the old one."""
    old = np.asarray(old)
    new = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    if new.dtype.kind not in "fiu" or new.size != old.size:
        raise ModelFileError(
            f'the node "{names[0]}" has the shape {parts[0].shape}, its model needs {old.shape}'
        )
    return new.reshape(old.shape).astype(old.dtype)


def _bias_of_polar(model: dict[str, Any], graph: Graph) -> set[str]:
    """Take the constants of a polarizability in the form that they have here.

    The node with the means of diagonals has no name of its own.

    It is the only constant with a number per type that is reshaped.
    """
    if model["fitting"]["type"] != "polar":
        return set()
    out_bias, variables = model["@variables"]["out_bias"], model["fitting"]["@variables"]
    scale = variables["scale"][:, 0]
    if not scale.all():
        raise ModelFileError("a scale of the polarizability is 0")
    # Here constants are multiplied by the scale, too.
    variables["constant_matrix"] = variables["constant_matrix"] / scale
    if not model["fitting"]["fit_diag"]:  # there Y + Yᵀ, here half of it
        for network in model["fitting"]["nets"]["networks"]:
            last = network["layers"][-1]["@variables"]
            last["w"], last["b"] = 2.0 * last["w"], 2.0 * last["b"]
    found = [
        name
        for name, node in graph.items()
        if re.fullmatch(r"Reshape(_\d+)?/tensor", name)
        and np.shape(node.value) == out_bias.shape[1:2]
        and np.asarray(node.value).dtype.kind == "f"
    ]
    if len(found) > 1:
        raise ModelFileError(f"has several biases of the polarizability: {', '.join(found)}")
    for name in found:
        out_bias[0, :, [0, 4, 8]] = graph.constant(name) / scale
    return set(found)


def _drop_idle_bias(model: dict[str, Any], graph: Graph) -> None:
    """Set the bias of a fitting to zero where the graph has it, but does not add it."""
    name = FITTING_ARRAYS["bias_atom_e"]
    users = [user for node in graph.users(name) for user in (node, *graph.users(node.name))]
    if name in graph and not [user for user in users if user.op not in PASSING]:
        bias = model["fitting"]["@variables"]["bias_atom_e"]
        model["fitting"]["@variables"]["bias_atom_e"] = np.zeros_like(bias)


def _scale_outputs(model: dict[str, Any]) -> None:
    """Put the deviation of the output, by which graphs multiply, into the last layers.

    Raises
    ------
    ModelFileError
        If one network serves types with different deviations.
    """
    std = np.array(model["@variables"]["out_std"])[0]
    if (std == 1.0).all():
        return
    fitting = model["fitting"]
    rows = std[:1] if fitting["mixed_types"] else std
    if not (std == rows).all():
        raise ModelFileError(
            "multiplies the output of one network by deviations that differ between types",
            fix="convert the file that it was made from",
        )
    for network, row in zip(fitting["nets"]["networks"], rows, strict=True):
        last = network["layers"][-1]["@variables"]
        last["w"] = last["w"] * row
        last["b"] = last["b"] * row
    fitting["@variables"]["bias_atom_e"] = fitting["@variables"]["bias_atom_e"] * std
    model["@variables"]["out_std"] = np.ones_like(model["@variables"]["out_std"])


def at(node: Any, place: Path) -> Any:
    """Return what is in a place of a tree."""
    for key in place:
        node = node[key]
    return node
