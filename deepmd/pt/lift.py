# SPDX-License-Identifier: LGPL-3.0-or-later
"""Conversion of neutral trees of arrays to ``torch.nn.Module`` and back.

A lifted node is of a class that inherits from ``torch.nn.Module`` and from the neutral class, so
the mathematics is that of the neutral class, and ``state_dict``, ``.to()``, hooks and
``functional_call`` are those of PyTorch. The names of the state are the paths of
:func:`deepmd.dpmodel.module.walk`.
"""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

import deepmd.pt.ops  # noqa: F401  (registers the operations)
from deepmd.dpmodel.module import Module, _Checked


class _Lifted(_Checked):
    """Metaclass of lifted classes: constructing one constructs the neutral one, and lifts it."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        neutral: Any = cls.neutral  # type: ignore[attr-defined]
        return convert(neutral(*args, **kwargs))


class TorchModule(torch.nn.Module):
    """Methods of lifted nodes beside those of the neutral class."""

    neutral: ClassVar[type[Module]]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, as the neutral class does."""
        evaluate: Any = self.call
        return evaluate(*args, **kwargs)

    def serialize(self) -> dict:
        """Return the neutral dictionary of this tree."""
        return to_neutral(self).serialize()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Convert the arrays, and those of modules that are attached to this node."""
        super()._apply(fn, recurse)
        for module in vars(self).get("attached", ()):
            module._apply(fn)
            linked: Any = self
            linked.link()
        return self

    @classmethod
    def deserialize(cls, data: dict) -> Any:
        """Build a lifted tree from its neutral dictionary."""
        return convert(cls.neutral.deserialize(data))


@functools.cache
def lift(neutral: type[Module]) -> type:
    """Return the class of ``torch.nn.Module`` that goes with a neutral class."""
    return _Lifted(
        neutral.__name__,
        (TorchModule, neutral),
        {"neutral": neutral, "__module__": __name__, "__doc__": neutral.__doc__},
    )


def convert(root: Module, memo: dict[int, Any] | None = None) -> Any:
    """Return the lifted form of a neutral tree; the arrays are copied.

    Trained arrays become parameters, the others buffers. A node that appears twice is one node in
    the result, too.

    Parameters
    ----------
    root : Module
    memo : dict, optional
        Nodes that are lifted already, by identity, to share them between trees.
    """
    return _convert(root, True, {} if memo is None else memo)


def _convert(node: Any, trainable: bool, memo: dict[int, Any]) -> Any:
    if node is None:
        return None
    if isinstance(node, torch.nn.Module):
        return node
    if isinstance(node, Mapping):
        return torch.nn.ModuleDict({k: _convert(v, trainable, memo) for k, v in node.items()})
    if not isinstance(node, Module):
        return torch.nn.ModuleList([_convert(v, trainable, memo) for v in node])
    if id(node) in memo:
        return memo[id(node)]
    kind: Any = lift(type(node))
    new = kind.__new__(kind)
    torch.nn.Module.__init__(new)
    memo[id(node)] = new
    trainable = trainable and node.trainable is not False
    declared = {*node.serial.arrays, *node.serial.children}
    for name, value in vars(node).items():
        if name not in declared:
            setattr(new, name, value)
    for name in node.serial.params:
        _set_array(new, name, getattr(node, name), trainable and not node.frozen)
    for name in node.serial.buffers:
        _set_array(new, name, getattr(node, name), False)
    for name in node.serial.children:
        setattr(new, name, _convert(getattr(node, name), trainable, memo))
    if hasattr(node, "lift_into"):
        node.lift_into(new, trainable and not node.frozen)
    return new


def _set_array(module: torch.nn.Module, name: str, value: Any, trained: bool) -> None:
    """Register an array, a list of arrays or None under a name."""
    if isinstance(value, (list, tuple)):
        holder = _Arrays()
        for k, item in enumerate(value):
            _set_array(holder, str(k), item, trained)
        setattr(module, name, holder)
    elif value is None:
        setattr(module, name, None)
    elif trained:
        module.register_parameter(name, torch.nn.Parameter(torch.from_numpy(np.array(value))))
    else:
        module.register_buffer(name, torch.from_numpy(np.array(value)))


class _Arrays(torch.nn.Module):
    """List of arrays."""

    def __len__(self) -> int:
        return len(self._parameters) + len(self._buffers)

    def __getitem__(self, k: int) -> torch.Tensor:
        return getattr(self, str(range(len(self))[k]))


def to_neutral(module: Any) -> Any:
    """Return the neutral tree of a lifted one; the arrays are copied to NumPy."""
    return _to_neutral(module, {})


def _to_neutral(node: Any, memo: dict[int, Any]) -> Any:
    if node is None:
        return None
    if isinstance(node, torch.nn.ModuleDict):
        return {k: _to_neutral(v, memo) for k, v in node.items()}
    if isinstance(node, torch.nn.ModuleList):
        return [_to_neutral(v, memo) for v in node]
    if id(node) in memo:
        return memo[id(node)]
    kind = node.neutral
    new = kind.__new__(kind)
    memo[id(node)] = new
    for name, value in vars(node).items():
        if name not in _TORCH_NAMES:
            setattr(new, name, value)
    for name in kind.serial.arrays:
        value = getattr(node, name)
        if isinstance(value, _Arrays):
            held: Any = value
            value = [_copied(v) for v in held]
        setattr(new, name, _copied(value) if isinstance(value, torch.Tensor) else value)
    for name in kind.serial.children:
        setattr(new, name, _to_neutral(getattr(node, name), memo))
    return new


def _copied(value: torch.Tensor) -> np.ndarray:
    # Memory that NumPy has seen cannot be freed by size any more, as that of gathered parameters is.
    return value.detach().cpu().clone().numpy()


_TORCH_NAMES = frozenset(vars(torch.nn.Module())) | {"attached"}
