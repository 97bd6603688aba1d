# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of model files of any backend."""

import copy
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from deepmd.backend.detect import backend_of, existing_model
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.evaluator import Evaluator
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.output_def import Level, of_derivatives
from deepmd.infer.batch_size import AutoBatchSize
from deepmd.infer.frames import PARAMETERS, Frames, make_frames
from deepmd.infer.neighbors import edges_from_ase
from deepmd.infer.queries import Queries
from deepmd.utils.errors import InputError, NotAvailableError, did_you_mean
from deepmd.utils.plugin import file_under

log = logging.getLogger(__name__)

#: What a backend opens a file as.
DeepEvalBackend = Evaluator


class DeepEval(Queries):
    """A model file, opened for evaluation; the suffix of the file decides who evaluates it.

    ``DeepEval(file)`` gives the subclass for what the model predicts, such as
    :class:`deepmd.infer.DeepPot`. The file is read at once and may be deleted afterwards. Pickling
    keeps path and options: unpickling opens the file again.

    Parameters
    ----------
    model_file : str or path
        Model file or training checkpoint.
    auto_batch_size : bool, int or AutoBatchSize
        Evaluate as many frames at a time as suits the memory; a number is the frames × atoms to
        begin with; False means all at once.
    neighbor_list : ase.neighborlist.NeighborList, optional
        Finds the pairs instead of the built-in search.
    head : str, optional
        Branch of a checkpoint with several.
    **kwargs
        Accepted for compatibility, without effect.
    """

    #: Output without which a subclass cannot work.
    output: str | None = None
    atomic_by_default = False
    returns_tuple = True
    _classes: dict[str, type["DeepEval"]] = {}

    def __init_subclass__(cls, *, override: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        output = cls.__dict__.get("output")
        filed = DeepEval._classes.get(output or "")
        refined = filed is not None and issubclass(cls, filed)  # a class of somebody's own
        if output and (override or not refined):
            file_under(DeepEval._classes, output, cls, kind="class of", override=override)

    def __new__(cls, model_file: Any = None, *args: Any, **kwargs: Any) -> "DeepEval":
        """Choose the subclass when the general class is called."""
        if cls is not DeepEval or model_file is None:
            return super().__new__(cls)
        evaluator = _open(model_file, kwargs.get("head"))
        outputs = evaluator.model.kinds()
        found = [c for name, c in DeepEval._classes.items() if name in outputs]
        instance = super().__new__(found[0] if found else cls)
        instance.evaluator = evaluator
        return instance

    def __init__(
        self,
        model_file: "str | os.PathLike[str] | Evaluator",
        *args: Any,
        auto_batch_size: "bool | int | AutoBatchSize" = True,
        neighbor_list: Any = None,
        head: str | None = None,
        **kwargs: Any,
    ) -> None:
        name: Any = "model in memory"
        self._source: Any = model_file
        if isinstance(model_file, Evaluator):
            self.evaluator = model_file
        else:
            if "evaluator" not in self.__dict__:
                self.evaluator = _open(model_file, head)
            name, self._source = model_file, os.path.abspath(model_file)
        self._options = {
            "auto_batch_size": auto_batch_size,
            "neighbor_list": neighbor_list,
            "head": head,
        }
        outputs = self.model.kinds()
        if self.output is not None and self.output not in outputs:
            raise InputError(
                f"predicts {', '.join(outputs)}, not {self.output}",
                where=name,
                fix="open it with deepmd.infer.DeepEval",
            )
        self._batch_size = _batch_size(auto_batch_size, self.evaluator)
        self._neighbor_list = neighbor_list
        self._neighbor_list_checked = False
        self._warned = self._warned_of_coincident = False
        ignored = [k for k, v in kwargs.items() if v is not None]
        if ignored or args:
            log.debug("options without effect: %s", ", ".join([*map(str, args), *ignored]))

    @classmethod
    def from_evaluator(cls, evaluator: Evaluator, **kwargs: Any) -> Self:
        """Wrap a model that is in memory; the options are those of the constructor."""
        instance = super().__new__(cls)
        instance.__init__(evaluator, **kwargs)  # type: ignore[misc]
        return instance

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (type(self), self._source, self._options)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that shares the model, which nothing changes."""
        return self.from_evaluator(self.evaluator, **copy.deepcopy(self._options, memo))

    # -- evaluation ---------------------------------------------------------------------------

    def evaluate(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
        **parameters: Any,
    ) -> dict[str, np.ndarray]:
        """Evaluate frames; all results by name.

        Parameters
        ----------
        coords, cells, atom_types, **parameters
            See :meth:`eval`.
        derivatives : sequence of str
            Which of ``force``, ``virial``, ``atom_virial``, ``hessian`` are wanted.
        extra : sequence of str
            ``descriptor``, ``fitting_last_layer``.

        Returns
        -------
        dict
            (n_frames, …) for quantities of frames, (n_frames, n_atoms, …) for those of atoms, with
            zeros for virtual atoms. Float64.
        """
        frames = make_frames(self.model, coords, cells, atom_types, **parameters)
        if self.has_spin:
            self._refuse_with_spins(derivatives)

        def evaluate(part: np.ndarray) -> dict[str, np.ndarray]:
            return self._evaluate(frames, part, derivatives, extra)

        every, size = np.arange(frames.n_frames), self._batch_size
        if size is None or not frames.n_frames:
            out = evaluate(every)
        else:
            out = size.execute_all(evaluate, frames.n_frames, frames.n_atoms, every)
        self._warn_of_overflow()
        return out

    def _evaluate(
        self, frames: Frames, part: np.ndarray, derivatives: Sequence[str], extra: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Evaluate some frames, and put the atoms' results into (n_frames, n_atoms, …)."""
        first = [d for d in derivatives if d != "hessian"]
        batch = self._batch(frames, part)
        self._warn_of_coincident(frames, part, batch)
        results = self.evaluator.evaluate(batch, derivatives=first, extra=extra)
        real = frames.real[part]
        out = {}
        for name, value in results.items():
            out[name] = np.asarray(value, np.float64)
            if self.is_per_atom(name):
                out[name] = np.zeros((*real.shape, *value.shape[1:]))
                out[name][real] = value
        if "hessian" in derivatives:
            out["hessian"] = np.stack([self._hessian(frames, number) for number in part])
        return out

    def _batch(self, frames: Frames, part: np.ndarray) -> Batch:
        """Some of the frames, with their edges."""
        batch, rcut = frames.batch(part), self.model.rcut
        if self._neighbor_list is None:
            batch.edges = batch_edges(batch, rcut)
        else:
            check = not self._neighbor_list_checked
            batch.edges = edges_from_ase(self._neighbor_list, batch, rcut, check=check)
            self._neighbor_list_checked = True
        return batch

    def is_per_atom(self, name: str) -> bool:
        """Whether an evaluator's result has a row per atom, and not per frame."""
        return self.model.output_def().results()[name].level is Level.ATOM

    def _refuse_with_spins(self, derivatives: Sequence[str]) -> None:
        """Refuse what is not built for models with spins."""
        if self._neighbor_list is not None:
            raise NotAvailableError(
                "a model with spins looks for the pairs of virtual atoms itself",
                where="neighbor_list",
                fix="leave it out",
            )
        if "hessian" in derivatives:
            raise NotAvailableError("second derivatives are not built for models with spins")

    def _hessian(self, frames: Frames, number: int) -> np.ndarray:
        """Second derivatives of a frame, zero for virtual atoms."""
        out = np.zeros((3 * frames.n_atoms, 3 * frames.n_atoms))
        real = np.flatnonzero(np.repeat(frames.real[number], 3))
        batch = self._batch(frames, np.array([number]))
        out[np.ix_(real, real)] = self.evaluator.hessian(batch)
        return out

    def _warn_of_coincident(self, frames: Frames, part: np.ndarray, batch: Batch) -> None:
        """Warn once of atoms at the same place, which do not see each other."""
        if self._warned_of_coincident:
            return
        pairs = batch.coincident()
        if len(pairs):
            self._warned_of_coincident = True
            k = batch.frame[pairs[0, 0]]
            atoms = np.flatnonzero(frames.real[part[k]])[np.sort(pairs[0]) - batch.offsets()[k]]
            log.warning("atoms %d and %d of frame %d are at the same place", *atoms, part[k])

    def _warn_of_overflow(self) -> None:
        overflow = self.evaluator.overflow
        if overflow.centres and not self._warned:
            self._warned = True
            needed = "" if overflow.needed is None else f", {overflow.needed.tolist()} would do"
            log.warning(
                "atoms have more neighbours than the model's sel %s; the farthest are left out%s",
                self.model.get_sel(),
                needed,
            )

    def eval(
        self,
        coords: Any,
        cells: Any,
        atom_types: Any,
        atomic: bool | None = None,
        fparam: Any = None,
        aparam: Any = None,
        mixed_type: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Evaluate frames; the class says what is returned.

        Parameters
        ----------
        coords : n_frames × n_atoms × 3 numbers of any shape [Å]
        cells : n_frames × 9 numbers, or 9 for all frames [Å]
            Rows are the cell vectors. None for an open system.
        atom_types : (n_atoms,), or (n_frames, n_atoms) with ``mixed_type``
            Index into the type map; -1 marks a virtual atom, whose results are zero.
        atomic : bool
            Whether values of atoms are returned, too; of tensors, in place of those of frames.
        fparam : n_frames × n_fparam numbers, or n_fparam for all frames
            Needed if the model has frame parameters without a default.
        aparam : n_frames × n_atoms × n_aparam numbers, or n_atoms × n_aparam, or n_aparam
        mixed_type : bool
            Whether every frame has its own row of types.
        **kwargs
            ``charge_spin``, n_frames × 2 or 2 numbers, and ``spin``, n_frames × n_atoms × 3 or
            n_atoms × 3 numbers, for models that take them; other models refuse ``spin``, all of
            them ``efield``.

        Raises
        ------
        InputError
            If the arrays do not fit each other or the model.
        """
        atomic = self.atomic_by_default if atomic is None else atomic
        given = {"fparam": fparam, "aparam": aparam, "mixed_type": mixed_type, **kwargs}
        names = self.results(atomic=atomic)
        out = self._select(names, (coords, cells, atom_types), given)
        return out if self.returns_tuple else out[0]

    def results(self, *, atomic: bool) -> list[str]:
        """Return the names of what :meth:`eval` returns."""
        raise NotAvailableError(
            f"a model of {', '.join(self.model.kinds())} has no eval()", fix="use evaluate()"
        )

    def _select(
        self, names: Sequence[str], frames: Sequence[Any], given: Mapping[str, Any]
    ) -> tuple[np.ndarray, ...]:
        """Evaluate frames, and take some of the results."""
        asked = of_derivatives(self.model.output_def().results())
        wanted = [name for name in names if name in asked]
        out = self.evaluate(*frames, derivatives=wanted, **_known_inputs(given))
        return tuple(out[name] for name in names)

    def eval_descriptor(
        self, coords: Any, cells: Any, atom_types: Any, *parameters: Any, **kwargs: Any
    ) -> np.ndarray:
        """Return the descriptor of every atom, (n_frames, n_atoms, width).

        ``parameters`` are ``fparam``, ``aparam`` and ``mixed_type`` of :meth:`eval`, which may be
        named, too.
        """
        return self._extra("descriptor", (coords, cells, atom_types), parameters, kwargs)

    def eval_fitting_last_layer(
        self, coords: Any, cells: Any, atom_types: Any, *parameters: Any, **kwargs: Any
    ) -> np.ndarray:
        """Return the output of the last hidden layer, (n_frames, n_atoms, width), likewise."""
        return self._extra("fitting_last_layer", (coords, cells, atom_types), parameters, kwargs)

    def _extra(
        self, name: str, frames: tuple, parameters: tuple, named: dict[str, Any]
    ) -> np.ndarray:
        given = dict(zip(("fparam", "aparam", "mixed_type"), parameters, strict=False)) | named
        return self.evaluate(*frames, derivatives=(), extra=(name,), **_known_inputs(given))[name]


def _known_inputs(given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is None, and refuse inputs that no model here takes."""
    if given.get("efield") is not None:
        raise NotAvailableError("the model does not take this", where="efield")
    known = (*PARAMETERS, "mixed_type")
    inputs = {name: value for name, value in given.items() if value is not None}
    for name in inputs:
        if name not in known:
            raise InputError("no model takes this input", where=name, fix=did_you_mean(name, known))
    return inputs


def _reopened(kind: type[DeepEval], source: Any, options: Mapping[str, Any]) -> DeepEval:
    """Return what was pickled."""
    if isinstance(source, Evaluator):
        return kind.from_evaluator(source, **options)
    return kind(source, **options)


def _open(model_file: str | os.PathLike[str], head: str | None) -> Evaluator:
    try:
        path = existing_model(os.fspath(model_file))
    except TypeError:
        raise InputError(f"{type(model_file).__name__} given, a path was expected") from None
    return backend_of(path).deep_eval(path, head=head)


def _batch_size(given: "bool | int | AutoBatchSize", evaluator: Evaluator) -> AutoBatchSize | None:
    """Return the budget of atoms per call, or None for all frames at once."""
    if given is False or given is None:
        return None
    if isinstance(given, AutoBatchSize):
        return given
    return AutoBatchSize(evaluator.batch_atoms if given is True else int(given))
