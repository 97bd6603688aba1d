# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation with JAX: compiled, in chunks of centres of one shape."""

import dataclasses
import functools
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from deepmd.dpmodel.batch import Batch, Edges
from deepmd.dpmodel.chunks import EDGES_PER_CHUNK, Chunk, assemble, chunks
from deepmd.dpmodel.evaluator import Evaluator
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import bind, split
from deepmd.dpmodel.output_def import Level, of_level
from deepmd.io.dp import has_digest
from deepmd.io.files import load_model
from deepmd.io.guard import opening
from deepmd.jax.cache import architecture, make_room, shared
from deepmd.jax.program import program_of
from deepmd.jax.shapes import Sizes, pad_inputs, round_sizes, sizes_of
from deepmd.utils.fork import refuse_fork

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

    def __init__(self, model: Model, **about: Any) -> None:
        refuse_fork("JAX")
        super().__init__(model, **about)
        small = jax.default_backend() == "cpu"
        self.max_edges = EDGES_PER_CHUNK if small else _EDGES_ON_ACCELERATOR
        self.forward = model_forward(model)
        self.shapes: set[Any] = set()

    def evaluate(
        self,
        batch: Batch,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Evaluate a batch with edges; see :class:`Evaluator`."""
        refuse_fork("JAX")
        batch = self.model.expand(batch)
        local = not self.model.message_passing()
        ordered = any(p.layout == "first_type" for p in self.model.packings())
        n_edges = len(edges_of(batch))
        total, limit = batch.n_atoms + n_edges, self.max_edges
        turns = mixed = None
        if local and total > limit and not ordered:
            turns, mixed = take_turns(batch)
            limit = _even_limit(total, limit)
        found = list(
            chunks(
                batch if mixed is None else mixed,
                self.model.packings(),
                ntypes=self.model.atomic_model.ntypes,
                local=local,
                max_edges=limit,
                overflow=self.overflow,
            )
        )
        edge_names = of_level(self.model.output_def().raw_results(), Level.EDGE)
        raw: dict[str, np.ndarray] = {}
        for chunk, values in zip(
            found, self._run(found, batch.n_frames, tuple(extra), bool(derivatives))
        ):
            for name, value in values.items():
                kind = int(name in edge_names)
                where: Any = (chunk.atoms, chunk.edges)[kind]
                value = np.asarray(value)[: where.stop - where.start]
                if turns is not None:
                    where = turns[kind][where]
                if name not in raw:
                    rows = (batch.n_atoms, n_edges)[kind]
                    raw[name] = np.zeros((rows, *value.shape[1:]), value.dtype)
                raw[name][where] = value
        return assemble(self.model, batch, raw, derivatives)

    def _run(
        self, found: Sequence[Chunk], n_frames: int, extra: tuple[str, ...], gradients: bool
    ) -> Iterator[dict[str, Any]]:
        """Evaluate chunks, padded to one shape."""
        packings, ntypes = self.model.packings(), self.model.atomic_model.ntypes
        sizes = [sizes_of(c.inputs, packings, n_frames, ntypes) for c in found]
        to = round_sizes(functools.reduce(Sizes.join, sizes), packings, coarse=True)
        key = (to, extra, gradients)
        if key not in self.shapes:
            self.shapes.add(key)
            make_room()
            log.info("compiling program %d for %s", len(self.shapes), to)
        names = {one.name for one in self.model.entry_inputs()}
        for chunk in found:
            padded = pad_inputs(chunk.inputs.only(names), packings, n_frames, to, self.model.rcut)
            if self.program is not None and gradients and not extra:
                yield self.program(*padded)
            else:
                yield self.forward(padded, extra, gradients)


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


def edges_of(batch: Batch) -> Edges:
    """Return the edges of a batch, which must have been found."""
    if batch.edges is None:
        raise ValueError("a batch without edges cannot be evaluated")
    return batch.edges


def take_turns(batch: Batch) -> tuple[tuple[np.ndarray, np.ndarray], Batch]:
    """Reorder atoms so that any range of them has about the composition of the whole.

    Returns
    -------
    turns : arrays (n_atoms,) and (n_edges,)
        Old numbers of the atoms and edges, in their new order.
    batch : Batch
        The reordered one, without labels.
    """
    position = np.empty(batch.n_atoms)
    for t in np.unique(batch.atype):
        rows = np.flatnonzero(batch.atype == t)
        position[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    atoms = np.argsort(position, kind="stable")
    number = np.argsort(atoms)
    old = edges_of(batch)
    edges = np.argsort(number[old.i], kind="stable")
    return (atoms, edges), dataclasses.replace(
        batch,
        coord=batch.coord[atoms],
        atype=batch.atype[atoms],
        frame=batch.frame[atoms],
        aparam=None if batch.aparam is None else batch.aparam[atoms],
        displacement=None if batch.displacement is None else batch.displacement[atoms],
        labels={},
        find={},
        edges=Edges(number[old.i[edges]], number[old.j[edges]], old.shift[edges]),
    )


def _even_limit(total: int, limit: int) -> int:
    """Return the size of a chunk that divides the work evenly, a little above the exact share."""
    share = total / -(-total // limit)
    return min(limit, int(1.02 * share) + 1)


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
