# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation with JAX: compiled, in chunks of centers of one shape."""

import functools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from deepmd.base.fork import refuse_fork
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import bind, split
from deepmd.io.dp import has_digest
from deepmd.io.files import load_model
from deepmd.io.guard import opening
from deepmd.jax.cache import make_room
from deepmd.jax.program import program_of
from deepmd.runtime.bucketing import Sizes, pad_inputs, round_sizes, sizes_of
from deepmd.runtime.chunks import EDGES_PER_CHUNK, Chunk
from deepmd.runtime.evaluator import Evaluator
from deepmd.runtime.programs import architecture, shared

log = logging.getLogger(__name__)

#: ``forward(inputs, extra, gradients)``: what :meth:`Model.forward_edges` returns, or
#: :meth:`Model.atomic` without gradients.
Forward = Callable[[Inputs, tuple[str, ...], bool], dict[str, Any]]

#: Accelerators want more work at a time than a processor.
_EDGES_ON_ACCELERATOR = 1 << 18


class JaxEvaluator(Evaluator):
    """Evaluation of a model with JAX.

    Attributes
    ----------
    program : function or None
        An exported program of ``forward_edges``, used instead of the model where it will do.
    """

    program: Callable[..., dict[str, Any]] | None = None
    interleave = True

    def __init__(self, model: Model, **about: Any) -> None:
        refuse_fork("JAX")
        super().__init__(model, **about)
        small = jax.default_backend() == "cpu"
        self.max_edges = EDGES_PER_CHUNK if small else _EDGES_ON_ACCELERATOR
        self.forward = model_forward(model)
        self.shapes: set[Any] = set()

    def run(
        self,
        parts: Iterable[Chunk],
        n_frames: int,
        derivatives: Sequence[str],
        extra: Sequence[str],
    ) -> Iterator[tuple[Chunk, dict[str, Any]]]:
        """Evaluate chunks, padded to one shape; see :class:`Evaluator`."""
        refuse_fork("JAX")
        found, gradients, more = list(parts), bool(derivatives), tuple(extra)
        packings, ntypes = self.model.packings(), self.model.atomic_model.ntypes
        sizes = [sizes_of(c.inputs, packings, n_frames, ntypes) for c in found]
        to = round_sizes(functools.reduce(Sizes.join, sizes), packings, coarse=True)
        key = (to, more, gradients)
        if key not in self.shapes:
            self.shapes.add(key)
            make_room()
            log.info("compiling program %d for %s", len(self.shapes), to)
        names = self.model.input_names()
        for chunk in found:
            padded = pad_inputs(chunk.inputs.only(names), packings, n_frames, to, self.model.rcut)
            if self.program is not None and gradients and not more:
                yield chunk, self.program(*padded)
            else:
                yield chunk, self.forward(padded, more, gradients)


def model_forward(model: Model) -> Forward:
    """Return the compiled functions of a model."""
    params, fixed = split(model)
    leaves = jax.device_put(params | fixed)
    run = shared(lambda: _compiled(model), "evaluate", architecture(model))
    return lambda inputs, extra, gradients: run(leaves, inputs, extra, gradients)


def _compiled(model: Model) -> Callable[..., dict[str, Any]]:
    """Return the evaluation of a model as a compiled function of its arrays."""

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def run(leaves: Any, inputs: Inputs, extra: tuple[str, ...], gradients: bool) -> Any:
        bound = bind(model, leaves)
        return bound.forward_edges(inputs, extra) if gradients else bound.atomic(inputs, extra)

    return run


def open_hlo(path: str | os.PathLike[str], head: str | None = None) -> JaxEvaluator:
    """Open a compiled model (``.hlo``) or a checkpoint (``.jax``) for evaluation.

    A program of ours is used, if the file has a checksum; of other files, and of checkpoints, the
    dictionary is.

    Parameters
    ----------
    path : path
    head : str, optional
        Task of a checkpoint with several.
    """
    tree = load_model(path)
    evaluator = JaxEvaluator.of_tree(tree, path, head)
    with opening(path):
        # The probes were compared with the dictionary; without a checksum nothing binds the two.
        evaluator.program = program_of(tree, evaluator.model) if has_digest(path) else None
    return evaluator
