# SPDX-License-Identifier: LGPL-3.0-or-later
"""Node of the neutral tree around a ``torch.nn.Module`` of a plugin.

The neutral node holds the section of the input and the arrays of the module, so that checkpoints,
files and optimizers see an ordinary component. Lifted, it has the module itself, whose parameters
are those of the node. It can be evaluated by PyTorch only.
"""

import contextlib
import inspect
import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from deepmd.base.errors import InputError, ModelFileError, NotAvailableError
from deepmd.dpmodel import ops
from deepmd.dpmodel.module import Module, Serial, to_numpy


def native_serial(name: str, kind: str, more: str = "", **declared: Any) -> Serial:
    """Return what the node of a registered class holds; ``more`` are further keys."""
    return Serial(
        layout=f"@class type @version section type_map {more} trained_names fixed_names @variables",
        name=name,
        type=kind,
        params=("trained",),
        buffers=("fixed", *declared.pop("buffers", ())),
        constants=("trained_names", "fixed_names"),
        **declared,
    )


class _Spare:
    """Module that nobody uses yet, given away once; copies have none."""

    def __init__(self, module: Any = None, origin: str = "") -> None:
        self.module, self.origin = module, origin

    def take(self, origin: str) -> Any:
        """Return the module if it was constructed from the same section, otherwise None."""
        module, self.module = self.module, None
        return module if origin == self.origin else None

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Spare":
        return _Spare()

    def __copy__(self) -> "_Spare":
        return _Spare()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Spare, ()


class NativeNode(Module):
    """Mixin of the nodes around modules of PyTorch.

    Attributes
    ----------
    code : type of torch.nn.Module
        The registered class.
    section : dict
        Its section of the input, without ``type``.
    trained, fixed : list of array
        Parameters and buffers of the module.
    trained_names, fixed_names : list of str
        Their names.
    """

    code: ClassVar[Any] = None
    evaluated_by: ClassVar[str] = "deepmd.pt.evaluator:TorchEvaluator"
    section: dict[str, Any]
    type_map: Any
    trained: Any
    fixed: Any
    trained_names: list[str]
    fixed_names: list[str]
    _spare: Any = _Spare()

    def take_module(self) -> Any:
        """Construct the module, take its arrays as the node's, and return it."""
        self.trainable = self.section.get("trainable", True)
        module = self.construct_module()
        self.take_arrays(module)
        self._spare = _Spare(module, self._origin())
        return module

    def take_arrays(self, module: Any) -> None:
        """Copy the arrays of a module into this node."""
        params, buffers = arrays_of(module)
        self.trained_names, self.fixed_names = list(params), list(buffers)
        self.trained = [to_numpy(p) for p in params.values()]
        self.fixed = [to_numpy(b) for b in buffers.values()]

    def _origin(self) -> str:
        """Return what the module is constructed from."""
        return json.dumps([self.section, self.type_map], default=repr, sort_keys=True)

    def arguments_of_module(self) -> dict[str, Any]:
        """Return arguments that constructors may take beside the keys of the section."""
        names = list(self.type_map or [])
        return {"type": self.serial.type, "type_map": names, "ntypes": len(names)}

    def construct_module(self) -> Any:
        """Return the module of the section, with initial values that follow from its seed."""
        with torch.random.fork_rng(devices=[]), double_by_default():
            if self.section.get("seed") is not None:
                seed = json.dumps([self.section["seed"], self.serial.type])
                torch.manual_seed(zlib.crc32(seed.encode()))
            given = accepted(self.code, self.section, self.arguments_of_module())
            module = self.code(**given)
        if not isinstance(module, torch.nn.Module):
            raise InputError(
                f"{self.code.__name__} is no torch.nn.Module",
                where=str(self.serial.type),
                fix="derive the class from torch.nn.Module, too",
            )
        return module

    def module(self) -> Any:
        """Return the module with the arrays of this node.

        The first one is that of the constructor, since building a network may take seconds.
        """
        module = self._spare.take(self._origin())
        if module is None:
            module = self.construct_module()
        self.fill(module)
        return module

    def fill(self, module: Any) -> None:
        """Copy the arrays of this node into a module."""
        held = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        names, arrays = self.trained_names + self.fixed_names, [*self.trained, *self.fixed]
        with torch.no_grad():
            for name, array in zip(names, arrays, strict=True):
                held[name].copy_(torch.as_tensor(np.asarray(array)))

    def lift_into(self, lifted: Any, trainable: bool) -> None:
        """Complete a lifted node: it has the module, whose arrays are its own."""
        module = self.module()
        trained = set(self.trained_names) if trainable else set()
        for name, p in module.named_parameters():
            p.requires_grad_(name in trained)
        lifted.attached = [module]
        lifted.link()

    def link(self) -> None:
        """Let a lifted node hold the tensors of its module."""
        node: Any = self
        held = {**dict(self.inner.named_parameters()), **dict(self.inner.named_buffers())}
        for names, holder in (self.trained_names, node.trained), (self.fixed_names, node.fixed):
            for k, name in enumerate(names):
                place = holder._parameters if str(k) in holder._parameters else holder._buffers
                place[str(k)] = held[name]

    @property
    def inner(self) -> Any:
        """The module of a lifted node."""
        return vars(self)["attached"][0]

    def restore(self, data: dict) -> None:
        """Take the arrays from a dictionary, which must be those of the module."""
        variables = data.get("@variables", {})
        for name, key in (("trained", "trained_names"), ("fixed", "fixed_names")):
            found = variables.get(name)
            given, here = data.get(key), getattr(self, key)
            if given != here or not isinstance(found, (list, tuple)) or len(found) != len(here):
                raise ModelFileError(
                    f"the arrays of {self.serial.type} are not those that its class has here",
                    fix=f"install {data.get('@plugin', 'the version of the plugin')}, which wrote it",
                )
            for one, old in zip(found, getattr(self, name), strict=True):
                if np.shape(one) != np.shape(old):
                    raise ModelFileError(
                        f"an array of {self.serial.type} has shape {np.shape(one)}, "
                        f"expected {np.shape(old)}"
                    )
        super().restore(data)

    def running_module(self, x: Any) -> Any:
        """Return the module that evaluates arrays like ``x``.

        Raises
        ------
        NotAvailableError
            If they are neither of PyTorch nor of NumPy.
        """
        if isinstance(x, torch.Tensor):
            return self.inner
        if isinstance(x, np.ndarray):
            return self.module()
        raise NotAvailableError(
            f'"{self.serial.type}" is written for PyTorch; {ops.backend_of(x)} cannot evaluate it',
            fix="use --pt",
        )

    def change_types(self, change: Any) -> Any:
        """Adopt another type map by the method of the class, where it has one."""
        module = self.module()
        method = getattr(module, "change_type_map", None)
        if method is None:
            raise NotAvailableError(
                f'the types of "{self.serial.type}" cannot be changed: it has no change_type_map'
            )
        method(list(change.new))
        self.type_map = list(change.new)
        self.take_arrays(module)


@contextlib.contextmanager
def double_by_default() -> Iterator[None]:
    """Make tensors of plugins float64 where they do not say what they are."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def arrays_of(module: Any) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return the trained and the fixed arrays of a module by name."""
    params = {n: p for n, p in module.named_parameters() if p.requires_grad}
    frozen = {n: p for n, p in module.named_parameters() if not p.requires_grad}
    return params, {**frozen, **dict(module.named_buffers())}


def accepted(code: Any, section: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys of a section, and of ``more`` those that a constructor names or collects."""
    parameters = inspect.signature(code.__init__).parameters.values()
    names = {p.name for p in parameters}
    every = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    return {**{k: v for k, v in more.items() if every or k in names}, **section}


def to_torch(x: Any) -> Any:
    """Return an array of NumPy or PyTorch as a tensor; None stays None."""
    return torch.from_numpy(np.ascontiguousarray(x)) if isinstance(x, np.ndarray) else x


def back(x: Any, like: Any) -> Any:
    """Return a tensor as an array of the package of ``like``."""
    return x if x is None or isinstance(like, torch.Tensor) else to_numpy(x)
