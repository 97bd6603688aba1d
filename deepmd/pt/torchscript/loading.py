# SPDX-License-Identifier: LGPL-3.0-or-later
"""TorchScript programs, opened only if they compute and do nothing else.

TorchScript has operators that write files (``aten::save``) or map them into memory. Programs may
use the operators of ``allowed_operators.txt``, those in the namespace of an installed plugin's
package, whose code runs anyway, and no others. The only code that runs while PyTorch
opens an archive are the methods ``__setstate__`` of its classes: archives with such are refused
unopened.
"""

import functools
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from deepmd.base.errors import ModelFileError
from deepmd.base.plugin import load_entry_points, plugin_packages
from deepmd.io.archive import packed
from deepmd.io.pickled import check_pickle

#: Classes of PyTorch's libraries, which restore themselves by code of their own.
_FOREIGN_CLASS = re.compile(rb"torch\W+classes\b")
#: Namespace of an operator in the source of a program; those of PyTorch have none.
_NAMESPACE = re.compile(rb"\bops\.(\w+)\.")
#: Brackets within brackets; the parser of TorchScript calls itself for each.
_MAX_BRACKETS = 100


def load_program(
    records: Mapping[str, bytes], path: str | os.PathLike[str], device: torch.device
) -> torch.jit.ScriptModule:
    """Return the program in the records of an archive.

    Raises
    ------
    ModelFileError
        If it uses operators that are not allowed.
    """
    check_records(records)
    _load_plugins(records)
    # Where errors were in the source; takes a third of the time to open.
    needed = {k: v for k, v in records.items() if not k.endswith(".debug_pkl")}
    # As torch.jit.load, which does not give access to the functions of a program.
    unit: Any = torch._C.CompilationUnit()
    open_in: Any = torch._C.import_ir_module_from_buffer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = open_in(unit, packed(needed, path).getvalue(), device, {}, False)
        nodes = list(nodes_of(f.graph for f in unit.get_functions()))
        check_operators(nodes)
        program = torch.jit._recursive.wrap_cpp_module(module)
        arrays = [*program.parameters(), *program.buffers(), *constants_of(nodes)]
        check_arrays(arrays)
        check_memory(arrays, map(len, needed.values()))
        return program


def _load_plugins(records: Mapping[str, bytes]) -> None:
    """Import the plugins of PyTorch if the program uses operators that may be theirs."""
    code = (data for name, data in records.items() if name.startswith("code/"))
    used = {space.decode() for data in code for space in _NAMESPACE.findall(data)}
    exact, prefixes = allowed_operators()
    if used - {name.partition("::")[0] for name in (*exact, *prefixes)}:
        for group in ("deepmd", "deepmd.pt"):
            load_entry_points(group)


def check_records(records: Mapping[str, bytes]) -> None:
    """Raise ModelFileError if opening the archive of these records would run code."""
    for name, data in records.items():
        code = name.startswith("code/")
        if not code and not name.endswith(".pkl"):
            continue
        if b"__setstate__" in data or _FOREIGN_CLASS.search(data):
            raise _refused(f"{name} restores objects by code of its own")
        if name.endswith(".pkl"):
            check_pickle(data, name)
        if code and name.endswith(".py") and brackets(data) > _MAX_BRACKETS:
            raise _refused(f"{name} nests its expressions too deeply")


def brackets(code: bytes) -> int:
    """Return how deeply the brackets of a text are nested."""
    depth = deepest = 0
    for bracket in re.findall(rb"[()\[\]{}]", code):
        depth += 1 if bracket in b"([{" else -1
        deepest = max(deepest, depth)
    return deepest


def nodes_of(graphs: Iterable[Any]) -> Iterator[Any]:
    """Iterate over the nodes of graphs, and of the blocks in them."""
    todo = list(graphs)
    while todo:
        for node in todo.pop().nodes():
            yield node
            todo += node.blocks()


def constants_of(nodes: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Iterate over the arrays that programs hold as constants, alone or in lists."""
    for node in nodes:
        if node.kind() == "prim::Constant" and "Tensor" in node.output().type().str():
            value = node.output().toIValue()
            yield from (x for x in tree_leaves(value) if isinstance(x, torch.Tensor))


def check_operators(nodes: Iterable[Any]) -> None:
    """Raise ModelFileError if a node has an operator that is not allowed."""
    found = {node.kind() for node in nodes}
    exact, prefixes = allowed_operators()
    prefixes += tuple(f"{name}::" for name in plugin_packages())
    wrong = sorted(k for k in found - exact if not k.startswith(prefixes))
    if wrong:
        raise _refused(f"its program uses {', '.join(wrong[:5])}")


def check_arrays(arrays: Iterable[torch.Tensor]) -> None:
    """Raise ModelFileError if an array reaches beyond its memory, which PyTorch does not check."""
    for x in arrays:
        steps = [(n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True)]
        last = x.storage_offset() + sum(steps)
        beyond = (last + 1) * x.element_size() > x.untyped_storage().nbytes()
        beyond |= x.data_ptr() == x.storage_offset() * x.element_size()  # an empty record
        if x.numel() and (beyond or min([x.storage_offset(), *steps]) < 0):
            raise _refused(f"an array of shape {tuple(x.shape)} reaches beyond its record")


def check_memory(arrays: Iterable[torch.Tensor], sizes: Iterable[int]) -> None:
    """Raise ModelFileError if the memory of arrays is not that of as many records.

    PyTorch takes the size from the description of an array, and reads what is behind the record.
    """
    left = Counter(sizes)
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in arrays}
    left.subtract(size for size in storages.values() if size)
    if min(left.values(), default=0) < 0:
        raise _refused("an array has another size than its record")


@functools.cache
def allowed_operators() -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the operators that programs may use, and the prefixes of such.

    They are the lines of ``allowed_operators.txt``: an operator, ``aten::add``, or a prefix that
    ends in ``*``, ``deepmd::*``. ``#`` begins a comment.
    """
    text = (Path(__file__).parent / "allowed_operators.txt").read_text(encoding="utf-8")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    exact = frozenset(x for x in lines if x and not x.endswith("*"))
    return exact, tuple(x[:-1] for x in lines if x.endswith("*"))


def _refused(why: str) -> ModelFileError:
    return ModelFileError(
        f"{why}, which no model needs",
        fix="the file was not opened; ask whoever made it, or convert its .dp",
    )
