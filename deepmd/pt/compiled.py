# SPDX-License-Identifier: LGPL-3.0-or-later
"""The loss as one compiled program, gradients of forces included.

``make_fx`` unrolls the derivative within the loss into a plain graph; ``torch.compile`` makes a
program of it and derives the parameters' gradients.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.fx.experimental.proxy_tensor import make_fx

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.loss import Labels, Loss
from deepmd.dpmodel.model import Inputs
from deepmd.pt.torchscript.example import example_inputs, widths

Tensor = torch.Tensor


class CompiledLoss:
    """A model's loss, compiled once per number of frames and set of labels.

    Parameters
    ----------
    model : lifted Model
    loss : Loss
    """

    def __init__(self, model: Any, loss: Loss) -> None:
        self._part = _Total(model, loss)
        self._atomic = {label.name: label.atomic for label in loss.label_requirements()}
        self._programs: dict[Any, tuple[Callable, list[str]]] = {}

    def __call__(
        self, inputs: Inputs, labels: Labels, lr: float, params: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Return the loss, differentiable by the parameters, and the figures."""
        n_frames = int(labels.natoms.shape[0])
        values = {k: v for k, v in labels.values.items() if k in self._atomic}
        labels = labels._replace(values=values)
        key = (n_frames, tuple(values), tuple(sorted(labels.find.items())))
        if key not in self._programs:
            self._programs[key] = self._trace(inputs, labels, params)
        program, figures = self._programs[key]
        total, *shown = program(list(params.values()), *_flat(inputs, labels, lr))
        return total, dict(zip(figures, shown, strict=True))

    def _example(self, inputs: Inputs, labels: Labels) -> tuple[Inputs, Labels]:
        """Inputs and labels to trace with, in the likeness of real ones."""
        sites = 2 if self._part.model.has_spin() else 1
        made = example_inputs(
            self._part.model.packings(),
            inputs=self._part.model.entry_inputs(),
            taken=[*widths(self._part), *(v.shape[1] for v in labels.values.values())],
            n_frames=labels.natoms.shape[0],
            sites=sites,
            device=inputs.vec.device,
        )
        n = made.atype.shape[0] // sites
        values = {
            k: v.new_ones((n, v.shape[1])) if self._atomic[k] else v
            for k, v in labels.values.items()
        }
        return made, labels._replace(values=values, frame=made.frame[:n].clone())

    def _trace(
        self, inputs: Inputs, labels: Labels, params: Mapping[str, Tensor]
    ) -> tuple[Callable, list[str]]:
        names, find = list(labels.values), dict(labels.find)
        if self._part.model.assembly_inputs():
            raise NotAvailableError(
                "models with copies of atoms, such as pairwise_dprc, are not compiled",
                where="training/enable_compile",
                fix="set it to false",
            )
        if "hessian" in names:
            raise NotAvailableError(
                "the Hessian term cannot be compiled",
                where="training/enable_compile",
                fix="set it to false",
            )
        n_frames, likeness = int(labels.natoms.shape[0]), inputs
        n_inputs = len(inputs.flat())
        flat = _flat(*self._example(inputs, labels), 1e-3)
        figures: list[str] = []

        def function(weights: list[Tensor], lr: Tensor, *arrays: Tensor) -> list[Tensor]:
            # Those of the inputs, the labels, and three that describe frames.
            inputs = likeness.with_arrays(arrays[:n_inputs])
            values = dict(zip(names, arrays[n_inputs:-3], strict=True))
            named = {f"model.{k}": w for k, w in zip(params, weights, strict=True)}
            total, more = torch.func.functional_call(
                self._part, named, (lr, inputs, n_frames, Labels(values, find, *arrays[-3:]))
            )
            figures[:] = list(more)
            return [total, *(torch.as_tensor(v) for v in more.values())]

        # The traced parameters must not be the real ones: their history would be cut.
        copies = [p.detach().clone().requires_grad_(True) for p in params.values()]
        graph = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
            copies, *flat
        )
        drop_detach(graph)
        return torch.compile(graph, dynamic=True), figures


def _flat(inputs: Inputs, labels: Labels, lr: float) -> list[Tensor]:
    """Return everything but the parameters in a row."""
    return [
        torch.tensor(lr, dtype=torch.float64, device=inputs.vec.device),
        *inputs.flat(),
        *labels.values.values(),
        labels.natoms,
        labels.frame,
        labels.weight,
    ]


class _Total(torch.nn.Module):
    """Model and loss in one, for ``functional_call``."""

    def __init__(self, model: Any, loss: Loss) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(
        self, lr: Tensor, inputs: Inputs, n_frames: int, labels: Labels
    ) -> tuple[Tensor, dict[str, Any]]:
        pred = self.loss.predict(self.model, inputs, n_frames, labels, order=2)
        return self.loss(lr, pred, labels)


def drop_detach(graph: torch.fx.GraphModule) -> None:
    """Remove the detach nodes of a traced graph.

    ``make_fx`` records how autograd detaches the tensors it saves. Differentiating the graph with
    these nodes in it gives wrong gradients without an error.
    """
    aten = torch.ops.aten
    for node in list(graph.graph.nodes):
        if node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
