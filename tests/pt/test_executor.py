# SPDX-License-Identifier: LGPL-3.0-or-later
"""Scripted functions of plugins give the same bits at every call of a training."""

import sys
from collections.abc import Iterator
from importlib import metadata
from types import ModuleType

import pytest

pytest.importorskip("torch")

import torch

from deepmd.backend.backend import choose_backend
from deepmd.base import plugin

#: A new unit each time: what has run keeps its executor.
SOURCE = """
def of_the_plugin(x, w):
    return (torch.tanh(x * w) * w / (1.0 + x * x)).sum()
"""


class Scripting:
    """A plugin that runs a scripted function when it is imported, as e3nn does."""

    dist = None
    module = name = value = "scripting"

    def load(self) -> ModuleType:
        """Compile the function, and call it."""
        self.function = torch.jit.CompilationUnit(SOURCE).of_the_plugin
        self.at_import = self.gradients()
        return sys.modules[__name__]

    def gradients(self) -> torch.Tensor:
        """Return gradients of the function, of both arguments."""
        draw = torch.Generator().manual_seed(1)
        x, w = torch.randn((2, 1000), dtype=torch.float64, generator=draw)
        x, w = x.requires_grad_(), w.requires_grad_()
        return torch.cat(torch.autograd.grad(self.function(x, w), (x, w)))


@pytest.fixture
def scripting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripting]:
    """The only plugin for PyTorch that is installed; none is loaded yet."""
    point = Scripting()
    found = {"deepmd.pt": [point]}
    monkeypatch.setattr(metadata, "entry_points", lambda group: found.get(group, []))
    monkeypatch.setattr(plugin, "_loaded", set())
    before = modes(executor=True, profiling=True)
    yield point
    modes(*before)


def modes(executor: bool, profiling: bool) -> tuple[bool, bool]:
    """Set whether there is a profiling executor, and whether it profiles; return what was set."""
    return (
        torch._C._jit_set_profiling_executor(executor),
        torch._C._jit_set_profiling_mode(profiling),
    )


def test_a_training_does_not_profile(scripting: Scripting) -> None:
    """Its first call has the gradients of all that follow."""
    choose_backend("pytorch", trains=True)
    assert all(torch.equal(scripting.gradients(), scripting.at_import) for _ in range(4))
    assert modes(executor=True, profiling=True) == (False, False)


def test_evaluations_profile(scripting: Scripting) -> None:
    """Everything else leaves PyTorch as it is."""
    choose_backend("pytorch")
    assert scripting.at_import.shape == (2000,)
    assert modes(executor=True, profiling=True) == (True, True)
