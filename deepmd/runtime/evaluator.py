# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of batches: what a backend gives to inference, and the NumPy form of it."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Self

import numpy as np

from deepmd.base.errors import NotAvailableError
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Inputs, Model, frame_hessian, prepare
from deepmd.dpmodel.model.modifier import Response, respond
from deepmd.dpmodel.module import modules
from deepmd.dpmodel.neighbors import Overflow
from deepmd.dpmodel.uncertainty import SECTION, Uncertainty
from deepmd.io.files import (
    SINGLE,
    branch_of,
    branch_params,
    min_nbor_dist_of,
    models_of,
)
from deepmd.io.guard import opening
from deepmd.runtime.chunks import EDGES_PER_CHUNK, Chunk, assemble, collect, partition

#: Key of the input that asks for bfloat16 in a validation.
AMP = "validating/amp_infer"


class Evaluator:
    """A model that can be evaluated: by NumPy, where a backend has no form of its own.

    Attributes
    ----------
    model : Model
        The neutral model: cutoff, types, dimensions, output definition.
    overflow : Overflow
        How often an atom had more neighbors than ``sel``.
    model_def_script : dict
        The model section of the input it was trained with; empty if the file does not say.
    min_nbor_dist : float or None
        Smallest distance of the training data [Å].
    max_edges : int
        Largest number of edges, and of atoms, evaluated at a time.
    finds_edges : bool
        Whether batches without edges are taken.
    gives_last_layer : bool
        Whether ``fitting_last_layer`` comes out of the evaluation itself.
    interleave : bool
        Whether chunks should be alike, see :func:`deepmd.runtime.chunks.partition`.
    """

    model: Model
    #: Section of the file, see :mod:`deepmd.dpmodel.uncertainty`.
    uncertainty: Uncertainty | None = None
    #: Model of the features of the last layer, for evaluators that give outputs only.
    feature_model: Model | None = None
    #: Its task in a file of several.
    branch = SINGLE
    #: Atoms in one call that keep the device busy without exhausting its memory.
    batch_atoms = 1024
    max_edges = EDGES_PER_CHUNK
    finds_edges = False
    gives_last_layer = True
    interleave = False

    def __init__(
        self,
        model: Model,
        *,
        model_def_script: Mapping[str, Any] | None = None,
        min_nbor_dist: float | None = None,
    ) -> None:
        self.model = model
        self.model_def_script = dict(model_def_script or {})
        self.min_nbor_dist = min_nbor_dist
        self.overflow = Overflow()
        #: Evaluators of other kinds, and of models that a modifier needs, by the model's identity.
        self._others: dict[int, Evaluator] = {}

    @classmethod
    def with_fewer_bits(
        cls, models: Sequence[Model], *, tf32: bool, bfloat16: bool
    ) -> Callable[[Model], "Evaluator"]:
        """Return what makes evaluators whose products of single precision have fewer bits.

        Parameters
        ----------
        models : sequence of Model
            Those to evaluate, with any parameters.
        tf32, bfloat16 : bool
            What to use: TF32 (on devices that have it), bfloat16.

        Raises
        ------
        NotAvailableError
            If the backend or the device has no such products.
        InputError
            If bfloat16 is asked for and the models are not of single precision.
        """
        raise NotAvailableError(
            "this backend has no such option",
            where=AMP if bfloat16 else "validating/tf32_infer",
            fix="leave it out, or train with PyTorch (--pt)",
        )

    @classmethod
    def of_tree(
        cls, tree: Mapping[str, Any], path: str | os.PathLike[str], head: str | None = None
    ) -> Self:
        """Return the evaluator of a stored tree; ``head`` names the task if there are several.

        Raises
        ------
        ModelFileError
            If the tree holds no model, or one that does not give the results of its probes.
        """
        from deepmd.runtime.probes import check_probes  # which evaluates with this module

        with opening(path):
            models = models_of(tree)
            branch = branch_of(models, head, path, tree.get("model_def_script"))
            model = Model.deserialize(models[branch])
            check_probes(model, tree.get("probes"))
            section = branch_params(tree.get("model_def_script") or {}, branch)
            min_dist = min_nbor_dist_of(tree)
            stored = tree.get(SECTION)
            uncertainty = Uncertainty.deserialize(stored, model) if stored else None
        # Outside: what a framework refuses is no fault of the file.
        made = cls(model, model_def_script=section, min_nbor_dist=min_dist)
        made.branch, made.uncertainty = branch, uncertainty
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        data, about = self.model.serialize(), (self.model_def_script, self.min_nbor_dist)
        return _rebuilt, (type(self), data, *about, self.branch, self.uncertainty)

    @property
    def module(self) -> Any:
        """The model in the form of the backend: for NumPy and JAX, the neutral model."""
        return self.model

    def evaluate(
        self,
        batch: Batch,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
        modified: bool = True,
    ) -> dict[str, np.ndarray]:
        """Evaluate a batch with edges; results as of :meth:`Model.predict`, NumPy arrays.

        ``modified`` says whether the terms of the model's modifier are added.
        """
        modifier = self.model.modifier if modified else None
        terms = None if modifier is None else modifier.terms(batch, self.respond)
        batch = self.model.expand(batch)
        raw = self.raw(batch, derivatives, extra)
        return assemble(self.model, batch, raw, derivatives, terms)

    def raw(
        self, batch: Batch, derivatives: Sequence[str], extra: Sequence[str] = ()
    ) -> dict[str, np.ndarray]:
        """Evaluate an expanded batch; results as of :meth:`Model.forward_edges`, NumPy arrays."""
        parts = partition(
            self.model,
            batch,
            max_edges=self.max_edges,
            overflow=self.overflow,
            interleave=self.interleave,
        )
        return collect(self.model, batch, self.run(parts, batch.n_frames, derivatives, extra))

    def respond(self, model: Model, batch: Batch) -> Response:
        """Evaluate another model, one that a modifier needs, in the form of this backend.

        Edges of a local model belong to their center: its gradients are contracted afterwards. One
        that passes messages is evaluated with NumPy.
        """
        if model.message_passing():
            return respond(model, batch)
        raw = self._other(model, type(self)).raw(batch, ("force",))
        (output,) = model.output_def().get_data().values()

        def pullback(cotangent: Mapping[str, np.ndarray]) -> np.ndarray:
            each = cotangent[output.name][batch.edges.i]
            return np.einsum("ed,edk->ek", each, raw[output.edge_name])

        return raw, pullback

    def beside(self, model: Model) -> "Evaluator":
        """Return the evaluator of this backend for another model, made once while that lives."""
        return self._other(model, type(self))

    def _other(self, model: Model, kind: Callable[[Model], "Evaluator"]) -> "Evaluator":
        """Return the evaluator of a kind for a model, made once."""
        if id(model) not in self._others:
            self._others[id(model)] = kind(model)
        return self._others[id(model)]

    def run(
        self,
        parts: Iterable[Chunk],
        n_frames: int,
        derivatives: Sequence[str],
        extra: Sequence[str],
    ) -> Iterator[tuple[Chunk, dict[str, Any]]]:
        """Evaluate the chunks of a batch, each with its results; they may be padded at the end.

        A backend that evaluates chunk by chunk gives a :meth:`chunk_function` instead.

        Parameters
        ----------
        parts : iterable of Chunk
            Made one at a time, so that not all of them are in memory.
        n_frames : int
            Of the batch.
        derivatives, extra
            See :meth:`evaluate`.
        """
        forward = self.chunk_function(derivatives, extra)
        for chunk in parts:
            yield chunk, forward(chunk.inputs)

    def chunk_function(
        self, derivatives: Sequence[str], extra: Sequence[str]
    ) -> Callable[[Inputs], dict[str, np.ndarray]]:
        """Return the function that evaluates a chunk.

        Its results are those of :meth:`Model.forward_edges`, or of :meth:`Model.atomic` where no
        derivatives are wanted. Models with parts that only one framework can evaluate are left to
        it.
        """
        other = only_evaluator(self.model)
        if other is not None:
            return self._other(self.model, other).chunk_function(derivatives, extra)

        def forward(inputs: Inputs) -> dict[str, Any]:
            if derivatives:
                return self.model.forward_edges(inputs, extra)
            return self.model.atomic(inputs, extra)

        return forward

    def vjp(self, inputs: Inputs, cotangent: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Evaluate all atoms at once; values and ``vjp`` as of :meth:`Model.forward_edges`."""
        other = only_evaluator(self.model)
        if other is not None:
            return self._other(self.model, other).vjp(inputs, cotangent)
        return self.model.forward_edges(inputs, cotangent=cotangent)

    def hessian(self, batch: Batch) -> np.ndarray:
        """Second derivatives (3 n_atoms, 3 n_atoms) [eV/Å²] of a batch of one frame, with edges.

        Those of a modifier are not among them.
        """
        inputs = prepare(batch, self.model.packings(), self.overflow)
        return np.asarray(frame_hessian(self.model, inputs))


def only_evaluator(model: Model) -> Any:
    """Return the evaluator of the framework that a part of a model is written for, or None."""
    for node in modules(model):
        place = getattr(node, "evaluated_by", None)
        if place is not None:
            module, _, name = place.partition(":")
            return getattr(import_module(module), name)
    return None


def _rebuilt(
    kind: type[Evaluator],
    data: dict,
    script: Mapping[str, Any],
    min_nbor_dist: float | None,
    branch: str,
    uncertainty: Uncertainty | None,
) -> Evaluator:
    """Return the evaluator that was pickled, without the program of its file."""
    made = kind(Model.deserialize(data), model_def_script=script, min_nbor_dist=min_nbor_dist)
    made.branch, made.uncertainty = branch, uncertainty
    return made
