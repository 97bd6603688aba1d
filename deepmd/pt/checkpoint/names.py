# SPDX-License-Identifier: LGPL-3.0-or-later
"""Names of arrays in the state dictionaries of DeePMD-kit's PyTorch dialect.

Components declare how their parts and arrays are called there (``torch_names``, and ``torch_prefix``
of descriptors); others keep their neutral names. What concerns no single component is here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

import deepmd.dpmodel.model  # noqa: F401  registers the components
from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.module import Module
from deepmd.dpmodel.nn.layers import NetworkCollection

Path = tuple[str | int, ...]

#: Arrays that the dialect does not store: a pair table is told by its splines.
NOT_STORED = ("vdata",)
#: Arrays of a fitting that it refuses in checkpoints: its model has them from the section.
OF_SECTION = ("scale", "constant_matrix")
#: The splines are flat in a model dictionary; here they are (ntypes, ntypes, n_intervals, 4).
_SPLINES = "tab_data"
#: Where the section of a model names the file of a pair table, and the model that has it.
_TABLE_KEYS = {"tab_file": "", "use_srtab": "models.1."}
#: Descriptors and blocks with type embedding, which may have a table of its own.
_WITH_TYPES = ("se_atten.", "se_ttebd.", "repinit.", "repinit_three_body.")
#: Collections of networks have two names for the same tensors.
_NETWORKS = ("networks", "_networks")


def array_names(model: Mapping[str, Any]) -> dict[Path, list[str]]:
    """Return the names of every array of a model dictionary, by its place in the dictionary.

    Parameters
    ----------
    model : dict
        Of :meth:`deepmd.dpmodel.model.Model.serialize`.

    Returns
    -------
    dict
        ``("fitting", "@variables", "bias_atom_e") -> ["atomic_model.fitting_net.bias_atom_e"]``;
        an array that the dialect stores twice has two names.
    """
    found: dict[Path, list[str]] = {}
    backbone, prefix = _backbone(model)
    for place, name in _walk(at(model, backbone), backbone, prefix):
        found.setdefault(place, []).append(name)
    return found


def _backbone(model: Mapping[str, Any]) -> tuple[Path, str]:
    """Place of the part that has the arrays, and what their names begin with."""
    if "backbone_model" in model:
        return ("backbone_model",), "backbone_model.atomic_model."
    return (), "atomic_model."


def min_nbor_dist_name(model: Mapping[str, Any]) -> str:
    """Return the name of the smallest distance of the training data."""
    return _backbone(model)[1].replace("atomic_model.", "min_nbor_dist")


def _walk(
    node: Any, place: Path, prefix: str, component: type[Module] = Module
) -> Iterator[tuple[Path, str]]:
    """Iterate over places and names; a dictionary without a class is part of that around it."""
    if isinstance(node, (list, tuple)):
        for k, item in enumerate(node):
            yield from _walk(item, (*place, k), f"{prefix}{k}.", component)
    elif "@variables" in place and node is not None:
        yield place, prefix[:-1]
    if not isinstance(node, Mapping):
        return
    inner = prefix
    if "@class" in node:
        base = Module._classes.get(node["@class"], Module)
        component = base.kind_of(node) or base
        inner += component.torch_prefix if issubclass(component, Descriptor) else ""
    names = _names(component)
    for key, value in node.items():
        here = prefix if key == "type_embedding" else inner
        if key == "@variables":
            for name in (n for n in value if n not in NOT_STORED):
                called = f"{here}{names.get(name, name)}."
                yield from _walk(value[name], (*place, key, name), called)
        elif component is NetworkCollection and key == "networks":
            for name in _NETWORKS:
                yield from _walk(value, (*place, key), f"{here}{name}.", component)
        else:
            part = names.get(key, key)
            yield from _walk(value, (*place, key), f"{here}{part}." if part else here, component)


def _names(component: type[Module]) -> dict[str, str]:
    """Names that a class and its bases declare."""
    return {
        key: name
        for base in reversed(component.__mro__)
        for key, name in vars(base).get("torch_names", {}).items()
    }


def state_of(model: Mapping[str, Any], prefix: str = "") -> dict[str, torch.Tensor]:
    """Return a model dictionary's arrays as tensors under the dialect's names."""
    out: dict[str, torch.Tensor] = {}
    for place, names in array_names(model).items():
        if not is_written(place):
            continue
        tensor = torch.from_numpy(np.array(_stored(model, place)))
        for name in names:
            out[prefix + name] = tensor
    return out | _no_tables(list(out))


def is_written(place: Path) -> bool:
    """Whether the dialect has the array in this place of a model dictionary in its checkpoints."""
    return place[-1] not in OF_SECTION or place[-3] != "fitting"


def _no_tables(names: Sequence[str]) -> dict[str, torch.Tensor]:
    """Return the empty compression tables that the dialect expects beside embedding networks."""
    out: dict[str, torch.Tensor] = {}
    for name in names:
        head, found, rest = name.partition("filter_layers.networks.")
        if not found or ".descriptor." not in head:
            continue
        tables = [f"{kind}.{rest.split('.')[0]}" for kind in ("compress_info", "compress_data")]
        if head.endswith(_WITH_TYPES):
            tables.append("type_embd_data")
        out |= {head + table: torch.zeros(0, dtype=torch.float64) for table in tables}
    return out


def fill(
    model: dict[str, Any],
    state: Mapping[str, Any],
    prefix: str = "",
    *,
    absent: Sequence[str] = (),
) -> set[str]:
    """Put the arrays of a state dictionary into a model dictionary, in place.

    Parameters
    ----------
    model : dict
    state : mapping of str to Tensor
    prefix : str
        What the names of the model begin with.
    absent : sequence of str
        Arrays that may be missing; they stay as they are.

    Returns
    -------
    set of str
        Names that the model has.

    Raises
    ------
    ModelFileError
        If an array is missing, or has another shape.
    """
    used = set()
    for place, names in array_names(model).items():
        used |= {prefix + n for n in names}
        name = next((prefix + n for n in names if prefix + n in state), None)
        old = _stored(model, place)
        if name is None and place[-1] in absent:
            continue
        if name is None:
            raise ModelFileError(f"array {prefix}{names[0]} is missing")
        new = state[name]
        if old.shape != tuple(new.shape):
            raise ModelFileError(f"{name} has shape {tuple(new.shape)}, expected {old.shape}")
        at(model, place[:-1])[place[-1]] = neutral(name, new)
    return used


def neutral(name: str, tensor: torch.Tensor) -> np.ndarray:
    """Return an array of a state in the shape that it has in a model dictionary."""
    array = np.array(tensor.detach().cpu().numpy())
    return array.reshape(-1) if name.endswith(_SPLINES) else array


def with_tables(
    section: Mapping[str, Any], state: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """Return a model section with the pair tables of a state in the places of their files.

    The files need not be there any more when a checkpoint is read.
    """
    return _with_tables(section, state, f"{prefix}atomic_model.")


def _with_tables(
    section: Mapping[str, Any], state: Mapping[str, Any], prefix: str
) -> dict[str, Any]:
    out = dict(section)
    for key, part in _TABLE_KEYS.items():
        if out.get(key) is not None:
            out[key] = _table(state, prefix + part)
    if "models" in out:
        members = enumerate(out["models"])
        out["models"] = [_with_tables(m, state, f"{prefix}models.{k}.") for k, m in members]
    return out


def _table(state: Mapping[str, Any], prefix: str) -> np.ndarray:
    """Columns r, u_00, u_01, … of the pair table whose splines are in a state."""
    rmin, step = (float(x) for x in state[f"{prefix}tab_info"][:2])
    splines = state[f"{prefix}{_SPLINES}"].detach().cpu().numpy()
    a, b = np.triu_indices(len(splines))
    # The constant terms are the values where intervals begin, the sums those where they end.
    values = np.append(splines[a, b, :, 3], splines[a, b, -1:].sum(-1), axis=1)
    r = rmin + step * np.arange(values.shape[1])
    return np.column_stack([r, *values])


def _stored(model: Mapping[str, Any], place: Path) -> np.ndarray:
    """Return an array in the shape that it has in the dialect."""
    array = np.asarray(at(model, place))
    if place[-1] != _SPLINES:
        return array
    ntypes = at(model, place[:-2])["ntypes"]
    return array.reshape(ntypes, ntypes, -1, 4)


def at(node: Any, place: Path) -> Any:
    """Return what is in a place of a tree."""
    for key in place:
        node = node[key]
    return node
