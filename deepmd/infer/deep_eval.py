# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation of model files of any backend."""

import copy
import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from deepmd.backend.detect import backend_of, existing_model
from deepmd.base.errors import InputError, NotAvailableError, did_you_mean
from deepmd.base.plugin import file_under
from deepmd.dpmodel.batch import Batch, widened
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.dpmodel.output_def import Level, of_derivatives
from deepmd.infer.batch_size import AutoBatchSize
from deepmd.infer.engine import open_native
from deepmd.infer.frames import PARAMETERS, check_batch, make_frames
from deepmd.infer.neighbors import edges_from_ase
from deepmd.infer.queries import Queries
from deepmd.runtime.evaluator import Evaluator

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
    engine : str
        ``native``: the C++ engine of this project, which needs no framework; ``framework``: that of
        the file, NumPy for neutral files; ``auto``: native where it is installed and knows every
        part of the model.
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
        evaluator = _open(model_file, kwargs.get("head"), kwargs.get("engine", "auto"))
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
        engine: str = "auto",
        **kwargs: Any,
    ) -> None:
        name: Any = "model in memory"
        self._source: Any = model_file
        if isinstance(model_file, Evaluator):
            self.evaluator = model_file
        else:
            if "evaluator" not in self.__dict__:
                self.evaluator = _open(model_file, head, engine)
            name, self._source = model_file, os.path.abspath(model_file)
        self._options = {
            "auto_batch_size": auto_batch_size,
            "neighbor_list": neighbor_list,
            "head": head,
            "engine": engine,
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

    @property
    def deep_eval(self) -> "DeepEval":
        """The object itself, where clients look for the evaluator of a backend."""
        return self

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
        batch, real = frames.batch(slice(None)), frames.real
        self._warn_of_coincident(batch, np.nonzero(real)[1])
        found = self._in_parts(batch, frames.n_atoms, derivatives, extra)
        out = {}
        for name, value in found.items():
            if name == "hessian" and name in derivatives:
                out[name] = _hessians(value, real)
            elif self.is_per_atom(name):
                out[name] = np.zeros((*real.shape, *value.shape[1:]))
                out[name][real] = value
            else:
                out[name] = value
        return out

    def evaluate_batch(
        self,
        batch: Batch,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
    ) -> dict[str, np.ndarray]:
        """Evaluate a batch, as data sets give it: frames of any sizes without virtual atoms.

        Parameters
        ----------
        batch : Batch
            Edges are found where it has none.
        derivatives, extra
            See :meth:`evaluate`.

        Returns
        -------
        dict
            (n_frames, …) for quantities of frames, (n_atoms, …) for those of atoms; the Hessian as
            its label, see :class:`deepmd.dpmodel.label.Label`. Float64.

        Raises
        ------
        InputError
            If types or inputs do not fit the model.
        """
        batch = check_batch(self.model, batch)
        self._warn_of_coincident(batch, np.arange(batch.n_atoms) - batch.offsets()[batch.frame])
        return self._in_parts(batch, int(batch.natoms.max(initial=0)), derivatives, extra)

    def _in_parts(
        self, batch: Batch, n_atoms: int, derivatives: Sequence[str], extra: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Evaluate a batch, a number of frames at a time; ``n_atoms`` of a frame decide how many."""
        if self.has_spin:
            self._refuse_with_spins(derivatives)
        widest = int(batch.natoms.max(initial=0))

        def evaluate(part: np.ndarray) -> dict[str, np.ndarray]:
            start, stop = (part[0], part[-1] + 1) if len(part) else (0, 0)
            found = batch.frames(start, stop)
            if not self.evaluator.finds_edges or self._neighbor_list is not None:
                found = self._with_edges(found)
            first = [d for d in derivatives if d != "hessian"]
            results = self.evaluator.evaluate(found, derivatives=first, extra=extra)
            out = {name: np.asarray(value, np.float64) for name, value in results.items()}
            if "hessian" in derivatives:
                out["hessian"] = self._hessian_rows(found, widest)
            return out

        every, size = np.arange(batch.n_frames), self._batch_size
        if size is None or not batch.n_frames:
            out = evaluate(every)
        else:
            out = size.execute_all(evaluate, batch.n_frames, n_atoms, every)
        self._warn_of_overflow()
        return out

    def _with_edges(self, batch: Batch) -> Batch:
        """Return a batch with its edges."""
        if batch.edges is not None:
            return batch
        rcut = self.model.rcut
        if self._neighbor_list is None:
            edges = batch_edges(batch, rcut)
        else:
            check = not self._neighbor_list_checked
            edges = edges_from_ase(self._neighbor_list, batch, rcut, check=check)
            self._neighbor_list_checked = True
        return dataclasses.replace(batch, edges=edges)

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

    def _hessian_rows(self, batch: Batch, widest: int) -> np.ndarray:
        """Second derivatives (n_atoms, 9 widest): three rows of the matrix for each atom."""
        if self.evaluator.model.modifier is not None:
            raise NotAvailableError("second derivatives are not built for models with a modifier")
        out, ends = np.zeros((batch.n_atoms, 9 * widest)), batch.offsets()
        for k, n in enumerate(batch.natoms):
            hessian = self.evaluator.hessian(batch.frames(k, k + 1))
            out[ends[k] : ends[k + 1]] = widened(hessian.reshape(n, 9 * n), 9 * widest)
        return out

    def _warn_of_coincident(self, batch: Batch, place: np.ndarray) -> None:
        """Warn once of atoms at the same place, which do not see each other.

        ``place`` (n_atoms,) is the number of each atom in its frame, as the caller counts them.
        """
        if self._warned_of_coincident:
            return
        pairs = batch.coincident()
        if len(pairs):
            self._warned_of_coincident = True
            first, second = place[np.sort(pairs[0])]
            frame = batch.frame[pairs[0, 0]]
            log.warning("atoms %d and %d of frame %d are at the same place", first, second, frame)

    def _warn_of_overflow(self) -> None:
        overflow = self.evaluator.overflow
        if overflow.centers and not self._warned:
            self._warned = True
            needed = "" if overflow.needed is None else f", {overflow.needed.tolist()} would do"
            log.warning(
                "atoms have more neighbors than the model's sel %s; the farthest are left out%s",
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


def _hessians(rows: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Return matrices (n_frames, 3 n_atoms, 3 n_atoms), zero for virtual atoms.

    Parameters
    ----------
    rows : (n_real, 9 n)
        Three rows of the matrix for each real atom.
    real : (n_frames, n_atoms) bool
    """
    nf, size = len(real), 3 * real.shape[1]
    if real.all():
        return rows.reshape(nf, size, size)
    out, start = np.zeros((nf, size, size)), 0
    for k, there in enumerate(real):
        n = int(there.sum())
        of_frame = rows[start : start + n].reshape(3 * n, -1)[:, : 3 * n]
        places = np.flatnonzero(np.repeat(there, 3))
        out[k][np.ix_(places, places)] = of_frame
        start += n
    return out


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


def _open(model_file: str | os.PathLike[str], head: str | None, engine: str) -> Evaluator:
    try:
        path = existing_model(os.fspath(model_file))
    except TypeError:
        raise InputError(f"{type(model_file).__name__} given, a path was expected") from None
    found = open_native(path, head, engine)
    return backend_of(path).deep_eval(path, head=head) if found is None else found


def _batch_size(given: "bool | int | AutoBatchSize", evaluator: Evaluator) -> AutoBatchSize | None:
    """Return the budget of atoms per call, or None for all frames at once."""
    if given is False or given is None:
        return None
    if isinstance(given, AutoBatchSize):
        return given
    return AutoBatchSize(evaluator.batch_atoms if given is True else int(given))
