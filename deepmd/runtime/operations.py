# SPDX-License-Identifier: LGPL-3.0-or-later
"""Programs in model files, by which the native engine evaluates what it does not know by hand."""

import logging
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from deepmd.dpmodel.model import Model
from deepmd.io.digest import digest_of
from deepmd.io.files import OPERATIONS
from deepmd.io.packed import named_arrays
from deepmd.runtime.programs import shared

log = logging.getLogger(__name__)

#: Parts that the native engine evaluates by hand, by their main names.
BY_HAND = {
    "descriptors": {
        *("se_e2_a", "se_e2_r", "se_e3", "se_e3_tebd", "se_atten", "se_atten_v2", "hybrid"),
    },
    "fittings": {"ener", "invar", "dos", "property", "dipole", "polar"},
    "models": {"standard", "pairtab", "linear", "zbl", "pairwise_dprc"},
}
#: Models that the C++ core makes of several ones, and the keys of these.
PARTS = {"pairwise_dprc": ("qm_model", "qmmm_model")}
#: Their other names in dictionaries.
_NAMES = {
    "Descriptor": BY_HAND["descriptors"] | {*("se_a", "se_r", "dpa1", "se_at", "se_a_3be", "se_t")},
    "Fitting": BY_HAND["fittings"],
    "Model": BY_HAND["models"] | {"linear_ener"},
}
_ACTIVATIONS = {
    *("none", "linear", "tanh", "gelu", "gelu_tf", "relu", "relu6", "softplus", "sigmoid", "silu"),
    *("silut", "custom_silu"),
}


def with_program(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dictionary of a model file with a program, if the native engine needs one.

    Without PyTorch, or for models whose evaluation is no list of operations, there is none: C++
    then says which framework evaluates the file.
    """
    data = {k: v for k, v in data.items() if k != OPERATIONS}
    model = data["model"]
    if model.get("type") in PARTS:
        found = {name: _program(model[name]) for name in PARTS[model["type"]]}
        program = {name: one for name, one in found.items() if one is not None} or None
    else:
        program = _program(model)
    return data if program is None else {**data, OPERATIONS: program}


def _program(tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the program of a model, or None if it needs none or has none."""
    if is_by_hand(tree) or find_spec("torch") is None:
        return None
    text, arrays = named_arrays({"model": tree})
    return shared(lambda: _made(tree), OPERATIONS, digest_of(text, arrays.values()))


def _made(tree: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the program of a model, or None."""
    # By its name: PyTorch records the operations, whatever the backend is that writes the file.
    operations = import_module("deepmd.pt.torchscript.operations")
    try:
        return operations.operations_of(Model.deserialize(dict(tree)), tree)
    except operations.NoProgramError as error:
        log.info("The file holds no program for the native engine: %s.", error)
        return None


def is_by_hand(tree: Mapping[str, Any]) -> bool:
    """Whether the native engine evaluates a model without a program."""
    if tree.get("type") in ("spin", "spin_ener"):
        return is_by_hand(tree["backbone_model"])
    return all(_known(node) for node in _parts(tree))


def _parts(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield all dictionaries in the dictionary of a model but those of arrays."""
    if isinstance(node, (list, tuple)):
        for one in node:
            yield from _parts(one)
    elif isinstance(node, Mapping):
        yield node
        for key, one in node.items():
            if key != "@variables":
                yield from _parts(one)


def _known(node: Mapping[str, Any]) -> bool:
    names = _NAMES.get(str(node.get("@class")))
    activation = str(node.get("activation_function", "none")).lower().partition(":")[0]
    return (
        (names is None or node.get("type") in names)
        and not node.get("use_econf_tebd")
        and activation in _ACTIVATIONS
    )
