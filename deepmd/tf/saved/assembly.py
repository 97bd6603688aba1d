# SPDX-License-Identifier: LGPL-3.0-or-later
"""From pairs of atoms to results of frames in TensorFlow, around an evaluation entry.

Results have the names of DeePMD-kit's SavedModels. Atoms of all frames, ghosts included, have
*places*: 0, 1, … in the order of the input.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tensorflow as tf

from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.output_def import OutputVariableDef
from deepmd.tf.saved.neighbors import frame_pairs, list_pairs
from deepmd.tf.saved.packing import Pairs, pack, positions, rows_of

Tensor = Any
#: Evaluation entry: results of :meth:`Model.forward_edges`; further rows at the end are dropped.
Core = Callable[[Inputs], Mapping[str, Tensor]]


class Atoms(NamedTuple):
    """Atoms of all frames.

    Attributes
    ----------
    types : (n_frames, n_all) int64
        -1 for virtual atoms. The first ``nloc`` of a frame are centers, the others ghosts.
    nloc : int64
    owner : (n_frames * n_all,) int64
        Place of the atom of which the one in a place is an image.
    frame_inputs : dict of str to (n_frames, d)
    atom_inputs : dict of str to (n_frames, n_local, d)
    """

    types: Tensor
    nloc: Tensor
    owner: Tensor
    frame_inputs: dict[str, Tensor]
    atom_inputs: dict[str, Tensor]


class Program:
    """Evaluation of frames and of extended atoms.

    Parameters
    ----------
    model : Model
        The neutral model, asked for its description only.
    core : callable
        Evaluation entry.
    """

    def __init__(self, model: Model, core: Core) -> None:
        self.model, self.core = model, core
        self.packings, self.info = model.packings(), model.info()
        # One function for all entries, so that files hold it once.
        self._results = tf.function(self._assembled, autograph=False)

    def frames(
        self, coord: Tensor, atype: Tensor, box: Tensor, inputs: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Evaluate frames; the search for neighbors included.

        Parameters
        ----------
        coord : (n_frames, n_atoms, 3) float64 [Å]
        atype : (n_frames, n_atoms) int32
            -1 for virtual atoms.
        box : (n_frames, 3, 3) float64, or empty [Å]
            Empty or zero for open systems.
        inputs : dict of str to tensor
            Further inputs of frames and atoms by name.
        """
        types = tf.cast(atype, tf.int64)
        size = tf.shape(types, out_type=tf.int64)
        owner = tf.range(size[0] * size[1])
        i, j, vec = frame_pairs(coord, types, box, self.info.rcut)
        return self._results(i, j, vec, self._atoms(types, size[1], owner, inputs))

    def extended(
        self,
        coord: Tensor,
        atype: Tensor,
        nlist: Tensor,
        mapping: Tensor,
        inputs: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """Evaluate local atoms among ghosts, with a given neighbor list.

        Parameters
        ----------
        coord : (n_frames, n_all, 3) float64 [Å]
            Local atoms first, then ghosts.
        atype : (n_frames, n_all) int32
        nlist : (n_frames, n_local, any width) int64
            Numbers of extended atoms in any order, -1 where there is none.
        mapping : (n_frames, n_all) int64
            Local atom of every extended one; used by models that pass messages.
        inputs : dict of str to tensor
        """
        types = tf.cast(atype, tf.int64)
        size = tf.shape(types, out_type=tf.int64)
        if self.info.message_passing:
            first = tf.range(size[0])[:, None] * size[1]
            owner = tf.reshape(first + tf.maximum(mapping, 0), [-1])
        else:
            owner = tf.range(size[0] * size[1])
        i, j, vec = list_pairs(coord, types, nlist, self.info.rcut)
        nloc = tf.shape(nlist, out_type=tf.int64)[1]
        return self._results(i, j, vec, self._atoms(types, nloc, owner, inputs))

    def _atoms(
        self, types: Tensor, nloc: Tensor, owner: Tensor, inputs: Mapping[str, Tensor]
    ) -> Atoms:
        of_atoms = {k: v for k, v in inputs.items() if v.shape.rank == 3}
        of_frames = {k: v for k, v in inputs.items() if k not in of_atoms}
        return Atoms(types, nloc, tf.ensure_shape(owner, [None]), of_frames, of_atoms)

    def _assembled(self, i: Tensor, j: Tensor, vec: Tensor, atoms: Atoms) -> dict[str, Tensor]:
        """Results of all atoms from their pairs.

        The core gets the real centers, followed by one placeholder per type that has no edges:
        these stand for neighbors of which nothing but the type is needed.
        """
        nf, nall = (tf.shape(atoms.types, out_type=tf.int64)[k] for k in (0, 1))
        inner, flat = atoms.types[:, : atoms.nloc], tf.reshape(atoms.types, [-1])
        rows = tf.where(inner >= 0)
        n, frame, place = rows_of(rows), rows[:, 0], rows[:, 0] * atoms.nloc + rows[:, 1]
        centers = frame * nall + rows[:, 1]
        number = positions(nf * nall, centers)
        known = tf.gather(number, tf.gather(atoms.owner, j))
        kinds = tf.range(tf.constant(self.info.core_types, tf.int64))
        first = tf.gather(number, i)
        second = tf.where(known >= 0, known, n + tf.gather(flat, j))
        every = tf.concat([tf.gather(flat, centers), kinds], 0)
        frames = tf.concat([frame, tf.fill(tf.shape(kinds), nf - 1)], 0)
        pairs = Pairs(first, second, every, frames, vec)
        of_atoms = {name: _with_rows(x, place, kinds) for name, x in atoms.atom_inputs.items()}
        slots = pack(self.packings, pairs)
        raw = self.core(
            Inputs(vec, first, second, every, frames, atoms.frame_inputs, of_atoms, slots)
        )
        out = {"mask": tf.cast(inner >= 0, tf.int32)}
        contributing = tf.gather(tf.constant(self.info.contributing_types), every[:n])
        for v in self.model.output_def().get_data().values():
            values = tf.scatter_nd(
                place[:, None], raw[v.name][:n], tf.stack([nf * atoms.nloc, v.size])
            )
            out[v.name] = tf.reshape(values, tf.stack([nf, atoms.nloc, *v.shape]))
            total = tf.reduce_sum(tf.reshape(values, tf.stack([nf, atoms.nloc, v.size])), 1)
            if v.intensive:
                counts = tf.math.unsorted_segment_sum(tf.cast(contributing, tf.float64), frame, nf)
                total /= tf.maximum(counts, 1.0)[:, None]
            out[f"{v.name}_redu"] = tf.reshape(total, tf.stack([nf, *v.shape]))
            if v.r_differentiable:
                out |= _derivatives(v, raw[v.edge_name][: rows_of(i)], vec, i, j, (nf, nall))
        return out


def _with_rows(values: Tensor, place: Tensor, kinds: Tensor) -> Tensor:
    """Inputs (n_frames, n_local, d) of the real atoms, zero for the placeholders."""
    width = values.shape[-1]
    zero = tf.zeros(tf.stack([rows_of(kinds), width]), tf.float64)
    return tf.concat([tf.gather(tf.reshape(values, [-1, width]), place), zero], 0)


def _derivatives(
    v: OutputVariableDef, g: Tensor, vec: Tensor, i: Tensor, j: Tensor, size: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    """Forces and virials from the gradients (n_edges, d, 3) of an output."""
    nf, nall = size
    n = nf * nall
    force = tf.math.unsorted_segment_sum(g, i, n) - tf.math.unsorted_segment_sum(g, j, n)
    pair = -g[:, :, :, None] * vec[:, None, None, :]
    pair = tf.reshape(pair, tf.stack([rows_of(i), v.size, 9]))
    atomic = tf.math.unsorted_segment_sum(pair, j, n)
    of_atoms = tf.stack([nf, nall, *v.shape])
    shape = {k: tf.concat([of_atoms, [k]], 0) for k in (3, 9)}
    atomic = tf.reshape(atomic, shape[9])
    return {
        f"{v.name}_derv_r": tf.reshape(force, shape[3]),
        f"{v.name}_derv_c": atomic,
        f"{v.name}_derv_c_redu": tf.reduce_sum(atomic, 1),
    }
