# SPDX-License-Identifier: LGPL-3.0-or-later
"""Evaluation entries that are programs of XLA, called by TensorFlow."""

import dataclasses
from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from deepmd.dpmodel.model import Inputs, Model
from deepmd.tf.saved.assembly import Core
from deepmd.tf.saved.padding import padded


@dataclasses.dataclass(frozen=True)
class StableHLO:
    """A program in StableHLO of symbolic sizes, with the weights inside.

    Parameters
    ----------
    module : bytes
        Serialized module.
    version : int
        Of the calling convention.
    platforms : tuple of str
        Platforms that it was lowered for, ``CPU`` or ``CUDA``.
    kept : tuple of int
        Arguments that it takes, of the flat ones.
    results : tuple of (str, str, tuple of int or None)
        Names, dtypes and shapes of its results; sizes that are not fixed are None.
    """

    module: bytes
    version: int
    platforms: tuple[str, ...]
    kept: tuple[int, ...]
    results: tuple[tuple[str, str, tuple[int | None, ...]], ...]


def stablehlo_core(program: StableHLO, model: Model) -> Core:
    """Evaluation entry out of a program of XLA; its arguments are padded.

    Parameters
    ----------
    program : StableHLO
        Its flat arguments are those of :class:`Inputs`, names sorted.
    model : Model
        The neutral model, asked for its description.
    """
    packings, ntypes, rcut = model.packings(), model.atomic_model.ntypes, model.rcut

    def core(inputs: Inputs) -> dict[str, Any]:
        full = padded(inputs, packings, ntypes, rcut)
        flat = [*full[:5]]
        for named in (full.frame_inputs, full.atom_inputs):
            flat += [named[key] for key in sorted(named)]
        flat += full.slots
        found = xla.call_module(
            [flat[k] for k in program.kept],
            version=program.version,
            module=program.module,
            Tout=[tf.as_dtype(dtype) for _, dtype, _ in program.results],
            Sout=[list(shape) for _, _, shape in program.results],
            platforms=list(program.platforms),
        )
        return {name: x for (name, _, _), x in zip(program.results, found, strict=True)}

    return core
