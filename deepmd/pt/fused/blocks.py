# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions whose first and second derivatives are written out, in blocks that stay in the cache.

A training step needs three things of a function ``y = f(x, w)`` of geometry x and parameters w:
its value; with a the adjoint of y, the adjoint of x, which gives the forces; and, from the adjoint u
of that one, the adjoints of the parameters in both. The last is the adjoint of a pair: of f and of
its derivative along u. Hence the four parts of :class:`Fused`, each computed once per step.

Autograd sees two nodes. The second, which stands for ``vjp``, hands u to ``jvp``, and passes a
token to the first, which therefore waits for it and runs ``vjp_of_vjp`` once for everything.

Third derivatives, and second ones with respect to geometry, do not exist in this form: operations
are told by ``order``, see :mod:`deepmd.dpmodel.ops`, which derivatives will be asked for, and take the
reference from 3 on.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from deepmd.pt.torchscript.recording import is_recording

Tensor = torch.Tensor

#: Elements of the largest intermediate array in a block.
BLOCK = 1 << 18


def traced() -> bool:
    """Whether a trace is being made. Loops over blocks would fix its sizes."""
    return is_recording() or get_proxy_mode() is not None or torch.compiler.is_compiling()


def in_blocks(x: Tensor, order: int) -> bool:
    """Whether forms in blocks have the derivatives up to ``order``, and serve such an array."""
    return order < 3 and not traced() and x.numel() > 0


def in_file(order: int) -> bool:
    """Whether a trace for a file is being made, in which one node may stand for all blocks."""
    return order == 1 and traced()


def ranges(n: int, step: int) -> list[slice]:
    """Cut 0..n into ranges of ``step``, at least one."""
    step = max(step, 1)
    return [slice(a, min(a + step, n)) for a in range(0, n, step)]


class Fused:
    """Function of arrays with derivatives; an instance serves one evaluation.

    Parameters
    ----------
    order : int
        Highest derivative that will be asked for: with 2, ``jvp`` and ``vjp_of_vjp`` may follow
        ``vjp``.

    Attributes
    ----------
    moving : int
        Number of inputs, the first ones, that depend on the geometry.
    """

    moving = 1
    has_vjp = has_jvp = False

    def __init__(self, order: int) -> None:
        self.order = order

    def __call__(self, *inputs: Tensor) -> Any:
        """Evaluate, recorded by autograd."""
        outputs = _Value.apply(self, *inputs)[:-1]
        return outputs[0] if len(outputs) == 1 else outputs

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs."""
        raise NotImplementedError

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        """Return the adjoints of the moving inputs, from those of the outputs."""
        raise NotImplementedError

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        """Return the tangents of the outputs, from those of the moving inputs."""
        raise NotImplementedError

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        """Return the adjoints of all inputs.

        ``adjoints`` are those of the outputs; those of the tangents of the last ``jvp`` are the
        arguments of the ``vjp`` before. None for inputs that are independent of the parameters.
        """
        raise NotImplementedError


class Blocked(Fused):
    """Function of independent rows, evaluated block by block.

    Parameters
    ----------
    part : callable
        Returns the object of one block, from the block's rows of the first inputs and the other
        inputs. It has ``outputs``, ``vjp``, ``jvp`` and ``vjp_of_vjp``.
    rows, moving : int
        Number of inputs, the first ones, that are split into rows, and how many of these are moving.
    elements : int
        Elements per row of the largest intermediate array.
    """

    def __init__(
        self, part: Callable[..., Any], order: int, *, rows: int, moving: int, elements: int
    ) -> None:
        super().__init__(order)
        self.part, self.rows, self.moving, self.elements = part, rows, moving, elements

    def value(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        self.blocks = ranges(len(inputs[0]), BLOCK // self.elements)
        split, fixed = inputs[: self.rows], inputs[self.rows :]
        self.parts = [self.part(*(x[b] for x in split), *fixed) for b in self.blocks]
        return _joined([p.outputs for p in self.parts])

    def vjp(self, *adjoints: Tensor) -> tuple[Tensor, ...]:
        return _joined(self._each("vjp", adjoints))

    def jvp(self, *tangents: Tensor) -> tuple[Tensor, ...]:
        return _joined(self._each("jvp", tangents))

    def vjp_of_vjp(self, *adjoints: Tensor) -> tuple[Tensor | None, ...]:
        found = self._each("vjp_of_vjp", adjoints)
        split = [
            None if c[0] is None else torch.cat(c)
            for c in zip(*(f[: self.rows] for f in found), strict=True)
        ]
        return *split, *(sum(c) for c in zip(*(f[self.rows :] for f in found), strict=True))

    def _each(self, name: str, arrays: Sequence[Tensor]) -> list[tuple[Any, ...]]:
        return [
            getattr(part, name)(*(x[b] for x in arrays))
            for part, b in zip(self.parts, self.blocks, strict=True)
        ]


def _joined(blocks: list[tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(column) for column in zip(*blocks, strict=True))


class _Value(torch.autograd.Function):
    """Node of the value: inputs -> outputs and the token."""

    @staticmethod
    def forward(ctx: Any, fused: Fused, *inputs: Tensor) -> tuple[Tensor, ...]:
        inputs = tuple(x.detach() for x in inputs)
        outputs, token = fused.value(*inputs), inputs[0].new_zeros(())
        ctx.fused, ctx.fixed = fused, len(inputs) - fused.moving
        ctx.moving = inputs[: fused.moving]
        ctx.save_for_backward(token)
        return *outputs, token

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        *adjoints, _ = grads
        fused = ctx.fused
        if torch.is_grad_enabled() or fused.order < 2:
            found = _Vjp.apply(fused, *ctx.saved_tensors, *adjoints)
            return None, *found, *ctx.fixed * (None,)
        if not fused.has_jvp:  # the loss is one of energies alone
            if not fused.has_vjp:
                fused.vjp(*(torch.zeros_like(a) for a in adjoints))
            fused.jvp(*(torch.zeros_like(x) for x in ctx.moving))
        fused.has_jvp = False
        return None, *fused.vjp_of_vjp(*adjoints)


class _Vjp(torch.autograd.Function):
    """Node of the vjp: the token and adjoints of the outputs -> adjoints of the moving inputs."""

    @staticmethod
    def forward(ctx: Any, fused: Fused, token: Tensor, *adjoints: Tensor) -> tuple[Tensor, ...]:
        ctx.fused, ctx.zero, fused.has_vjp = fused, token.new_zeros(()), True
        return fused.vjp(*(a.detach() for a in adjoints))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *tangents: Tensor) -> tuple:
        ctx.fused.has_jvp = True
        return None, ctx.zero, *ctx.fused.jvp(*tangents)
