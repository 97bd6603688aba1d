# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation by the functions of a SavedModel, ours or DeePMD-kit's, without the model's arrays."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from deepmd.base.errors import ModelFileError, NotAvailableError
from deepmd.base.reading import shown
from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.model import Inputs, Model
from deepmd.runtime.evaluator import Evaluator
from deepmd.tf.saved.functions import EDGES, ENTRIES
from deepmd.tf.saved.graph import Functions


class Extended(NamedTuple):
    """One frame as DeePMD-kit's functions take it, and how results go back.

    Attributes
    ----------
    coord : (1, n_all, 3) float64 [Å]
        Local atoms, then ghosts, then padding.
    atype : (1, n_all) int32
        -1 for padding.
    nlist : (1, n_local, width) int64
        Numbers of extended atoms, -1 where there is none.
    mapping : (1, n_all) int64
        Local atom of every extended one.
    """

    coord: np.ndarray
    atype: np.ndarray
    nlist: np.ndarray
    mapping: np.ndarray


def extended(batch: Batch) -> list[Extended]:
    """Local atoms and ghosts of every frame of a batch, from its edges.

    Sizes are those of the largest frame, rounded up, so that few programs are compiled.
    """
    parts = [_images(batch.frames(f, f + 1)) for f in range(batch.n_frames)]
    width = _rounded(max((int(p.counts.max(initial=0)) for p in parts), default=0))
    size = _rounded(max((len(p.owner) for p in parts), default=0))
    return [_padded(part, size, width) for part in parts]


class _Images(NamedTuple):
    """Extended atoms of one frame, and its edges between them.

    Attributes
    ----------
    coord : (n_all, 3) [Å]
    atype, owner : (n_all,)
        Owners are local atoms.
    i, j : (n_edges,)
    counts : (n_local,)
        Edges of every local atom.
    """

    coord: np.ndarray
    atype: np.ndarray
    owner: np.ndarray
    i: np.ndarray
    j: np.ndarray
    counts: np.ndarray


def _images(one: Batch) -> _Images:
    edges, n = one.edges, one.n_atoms
    image = np.concatenate([edges.j[:, None], edges.shift.astype(np.int64)], axis=1)
    outside = image[:, 1:].any(axis=1)
    ghosts, place = np.unique(image[outside], axis=0, return_inverse=True)
    number = edges.j.copy()
    number[outside] = n + place.reshape(-1)
    owner = np.concatenate([np.arange(n), ghosts[:, 0]])
    coord = one.coord[owner]
    coord[n:] += ghosts[:, 1:] @ one.cell[0]
    counts = np.bincount(edges.i, minlength=n)
    return _Images(coord, one.atype[owner], owner, edges.i, number, counts)


def _padded(part: _Images, size: int, width: int) -> Extended:
    n, nall = len(part.counts), len(part.owner)
    coord, atype = np.zeros((size, 3)), np.full(size, -1, np.int32)
    mapping, nlist = np.zeros(size, np.int64), np.full((n, width), -1, np.int64)
    coord[:nall], atype[:nall], mapping[:nall] = part.coord, part.atype, part.owner
    column = np.arange(len(part.i)) - (np.cumsum(part.counts) - part.counts)[part.i]
    nlist[part.i, column] = part.j
    return Extended(coord[None], atype[None], nlist[None], mapping[None])


def _rounded(n: int) -> int:
    """Size rounded up by at most a quarter."""
    step = max(8, 1 << max(n.bit_length() - 2, 0))
    return -(-max(n, 1) // step) * step


class FunctionEvaluator(Evaluator):
    """Evaluation of frames by ``call_lower`` and ``call_lower_atomic_virial``.

    Parameters
    ----------
    model : Model
        Description of the model; its arrays are not used.
    functions : Functions
    path : path, optional
        Of the folder, for messages.
    **about
        See :class:`Evaluator`.
    """

    def __init__(
        self,
        model: Model,
        functions: Functions,
        path: str | os.PathLike[str] | None = None,
        **about: Any,
    ) -> None:
        super().__init__(model, **about)
        self.functions, self.path = functions, path
        self._made: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("programs of TensorFlow cannot be pickled; open the file again")

    def evaluate(
        self,
        batch: Batch,
        *,
        derivatives: Sequence[str] = ("force", "virial"),
        extra: Sequence[str] = (),
        modified: bool = True,
    ) -> dict[str, np.ndarray]:
        """Evaluate a batch with edges, frame by frame; see :class:`Evaluator`.

        The program says everything: its model has no modifier.

        Raises
        ------
        ModelFileError
            If the program fails; nothing but its operators was looked at when it was opened.
        """
        if extra:
            raise NotAvailableError(f"the program does not give {', '.join(extra)}", fix=_ASK)
        name = ENTRIES["call_lower_atomic_virial" if "atom_virial" in derivatives else "call_lower"]
        frames = extended(batch)
        try:
            parts = [self._frame(name, batch, f, one) for f, one in enumerate(frames)]
            return self._results(batch, parts, derivatives)
        except ModelFileError as error:
            raise ModelFileError(error.what, where=self.path, fix=error.fix) from error
        except tf.errors.ResourceExhaustedError:  # the memory of the machine
            raise
        except (tf.errors.OpError, ValueError, TypeError, LookupError, AttributeError) as error:
            lines = str(error).strip().splitlines() or [""]
            raise ModelFileError(
                f"its program cannot be evaluated ({shown(lines[0], 200)})",
                where=self.path,
                fix="copy or freeze it again",
            ) from error

    def hessian(self, batch: Batch) -> np.ndarray:
        """Second derivatives, which programs do not have."""
        raise NotAvailableError("the program has no second derivatives", fix=_ASK)

    def _frame(self, name: str, batch: Batch, frame: int, found: Extended) -> dict[str, np.ndarray]:
        """Results of one frame: for local atoms, those of ghosts added to them."""
        if name not in self._made:
            self._made[name] = self.functions.function(name)
        n = found.nlist.shape[1]
        arguments = self.functions.arguments(name)
        values = self._made[name](*found, *self._inputs(arguments[len(found) :], batch, frame))
        out = {k: v.numpy()[0] for k, v in zip(self.functions.outputs(name), values, strict=True)}
        for key, value in out.items():
            if key.endswith(("_derv_r", "_derv_c")):  # rows are extended atoms
                local = np.zeros((n, *value.shape[1:]))
                np.add.at(local, found.mapping[0], value)
                out[key] = local
        return out

    def _inputs(self, names: Sequence[str], batch: Batch, frame: int) -> list[np.ndarray]:
        """Further inputs of a frame, without columns where the model takes none."""
        a, b = batch.offsets()[frame : frame + 2]
        found = []
        for name in names:
            value = getattr(batch, name)
            rows = slice(a, b) if name == "aparam" else slice(frame, frame + 1)
            empty = np.zeros((b - a if name == "aparam" else 1, 0))
            part = empty if value is None else np.asarray(value[rows], np.float64)
            found.append(part[None] if name == "aparam" else part)
        return found

    def _results(
        self, batch: Batch, parts: list[dict[str, np.ndarray]], derivatives: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Results of all frames under our names and in our shapes."""
        out: dict[str, np.ndarray] = {}
        for v in self.model.output_def().get_data().values():

            def joined(key: str, *shape: int, per_frame: bool = False) -> np.ndarray:
                rows = batch.n_frames if per_frame else batch.n_atoms
                found = [np.reshape(p[key], (-1, *shape)) for p in parts]
                return np.concatenate([np.zeros((0, *shape)), *found]).reshape(rows, *shape)

            out[v.atom_name] = joined(v.name, v.size)
            out[v.name] = joined(f"{v.name}_redu", v.size, per_frame=True)
            if not v.r_differentiable:
                continue
            middle = () if v.size == 1 else (v.size,)
            if "force" in derivatives:
                out["force"] = joined(f"{v.name}_derv_r", *middle, 3)
            if "virial" in derivatives:
                out["virial"] = joined(f"{v.name}_derv_c_redu", *middle, 9, per_frame=True)
            if "atom_virial" in derivatives:
                out["atom_virial"] = joined(f"{v.name}_derv_c", *middle, 9)
        return out


_ASK = "convert the model it was made from"


class EdgesEvaluator(Evaluator):
    """Evaluation by ``forward_edges``, in chunks.

    Parameters
    ----------
    model : Model
    functions : Functions
    """

    def __init__(self, model: Model, functions: Functions) -> None:
        super().__init__(model)
        self._function = functions.function(EDGES)
        self._names = list(functions.outputs(EDGES))

    def chunk_function(
        self, derivatives: Sequence[str], extra: Sequence[str]
    ) -> Callable[[Inputs], dict[str, np.ndarray]]:
        """Return the function that evaluates a chunk; see :class:`Evaluator`."""
        names = self.model.input_names()

        def forward(inputs: Inputs) -> dict[str, np.ndarray]:
            values = self._function(*inputs.only(names).flat())
            return {k: v.numpy() for k, v in zip(self._names, values, strict=True)}

        return forward
