# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models in ``.pth`` files of DeePMD-kit: arrays by their names, without running the program.

A TorchScript archive holds its attributes as a pickle (``data.pkl``) of objects of classes of its own
and of tensors, whose bytes are other records. The classes are read as plain nodes; only what builds
tensors and lists is known beside them.
"""

import ast
import collections
import io
import itertools
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from deepmd.base.errors import ModelFileError, NotAvailableError
from deepmd.base.reading import MAX_DEPTH
from deepmd.dpmodel.construction import constructing
from deepmd.dpmodel.model.spin_section import section_of_atoms
from deepmd.io.guard import AGAIN, ENTRIES, Allowance
from deepmd.io.pickled import check_pickle
from deepmd.pt.checkpoint.dialect import as_built, model_of_state

#: Types of storages.
_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
#: Functions of TorchScript's pickles that return their first argument.
_SAME = ("restore_type_tag", "build_intlist", "build_doublelist", "build_boollist")
_LISTS = (*_SAME, "build_tensorlist")


class Node:
    """Object of a TorchScript class: its attributes."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise ModelFileError("an object of its program has no attributes by name")
        self.attributes = state


class _Reader(pickle.Unpickler):
    """Unpickler that knows nodes, tensors and lists, and calls nothing else."""

    def __init__(self, records: Mapping[str, bytes]) -> None:
        super().__init__(io.BytesIO(records["data.pkl"]))
        self.records = records
        self.allowance = Allowance(sum(map(len, records.values())))

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return Node
        if module == "torch" and name in _DTYPES:
            return name
        if module == "torch.jit._pickle" and name in _LISTS:
            return _first
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name == "_rebuild_tensor_v2":
            return self._tensor
        raise ModelFileError(f"its attributes name {module}.{name}, which no model needs")

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, storage, number = pid[0], str(pid[1]), str(pid[2])
        if kind != "storage" or storage not in _DTYPES:
            raise ModelFileError(f"a tensor has the storage {storage}, which is not known")
        return np.frombuffer(self.records[f"data/{number}"], dtype=f"<{_DTYPES[storage]}")

    def _tensor(self, storage: np.ndarray, offset: int, size: Any, stride: Any, *_: Any) -> Any:
        """Return a tensor, a copy of its part of the storage."""
        shape, steps = tuple(map(int, size)), tuple(map(int, stride))
        count = int(np.prod(shape, dtype=object))
        if len(steps) != len(shape) or min((offset, *steps, *shape)) < 0:
            raise ModelFileError("a tensor has no shape")
        last = offset + sum((n - 1) * step for n, step in zip(shape, steps, strict=True))
        if count and (count > storage.size or last >= storage.size):
            raise ModelFileError(f"a tensor of shape {shape} reaches beyond its record")
        self.allowance.take(count * storage.itemsize, f"a tensor of shape {shape}")
        if not count:
            return torch.from_numpy(np.zeros(shape, storage.dtype))
        view = np.lib.stride_tricks.as_strided(
            storage[offset:], shape, [n * storage.itemsize for n in steps], writeable=False
        )
        return torch.from_numpy(np.array(view))


def _first(value: Any, *_: Any) -> Any:
    return value


def read_foreign(records: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the dictionary of the model in the records of an archive.

    Raises
    ------
    ModelFileError
        If it holds no model of DeePMD-kit, or one with arrays of unknown names.
    """
    if "data.pkl" not in records:
        raise ModelFileError("is no TorchScript archive: it has no attributes")
    if records.get("extra/data_modifier.pth"):
        raise NotAvailableError("its model has a modifier, which is not read from .pth files")
    check_pickle(records["data.pkl"], "data.pkl")
    root = _Reader(records).load()
    if not isinstance(root, Node):
        raise ModelFileError("is no TorchScript archive: it holds no module")
    state = dict(itertools.islice(_arrays(root, "", 0), ENTRIES + 1))
    if len(state) > ENTRIES:
        raise ModelFileError("repeats its parts too often", fix=AGAIN)
    section = _section(root, records)
    with constructing(state):
        model = model_of_state(section, state)
    backbone = "backbone_model." if "backbone_model" in root.attributes else ""
    stored = state.get(f"{backbone}min_nbor_dist")
    min_dist = float(stored) if stored is not None and stored.numel() == 1 else 0.0
    return {
        "software": "deepmd-kit",
        "backend": "PyTorch",
        "model": model.serialize(),
        "model_def_script": section,
        "@variables": {"min_nbor_dist": np.asarray(min_dist)} if min_dist > 0 else {},
    }


def _arrays(node: Node, prefix: str, depth: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Iterate over the tensors of a tree by the names of a state dictionary."""
    if depth > MAX_DEPTH:
        raise ModelFileError("is nested too deeply")
    for name, value in node.attributes.items():
        if isinstance(value, Node):
            yield from _arrays(value, f"{prefix}{name}.", depth + 1)
        elif isinstance(value, torch.Tensor):
            yield f"{prefix}{name}", value


#: Where the section stands in files in which it is a constant of the program.
_METHOD = re.compile(r"def get_model_def_script\(self[^)]*\) -> str:\s+return (\"[^\n]*\")\n")


def _section(root: Node, records: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the model section, an attribute of the model, or a text that its method returns.

    Of trained models with spins it is that of the backbone, of atoms and virtual partners.
    """
    text, backbone = root.attributes.get("model_def_script"), root.attributes.get("backbone_model")
    of_backbone = False
    if not text and isinstance(backbone, Node):
        text, of_backbone = backbone.attributes.get("model_def_script"), True
    if not isinstance(text, str) or not text:
        sources = (
            v.decode() for k, v in records.items() if k.startswith("code/") and k[-3:] == ".py"
        )
        found = next((m for m in map(_METHOD.search, sources) if m is not None), None)
        text = "" if found is None else ast.literal_eval(found[1])
    section = json.loads(text) if text else None
    if not isinstance(section, dict) or not section.get("type_map"):
        raise ModelFileError(
            "holds no neutral model, and does not state the section of its model",
            fix="files made by DeePMD-kit: convert its .dp or .pt instead",
        )
    if of_backbone and section.get("spin"):
        section = section_of_atoms(section)
    return as_built(section)
