# SPDX-License-Identifier: LGPL-3.0-or-later
"""SavedModels ``.savedmodel``: programs of JAX that TensorFlow calls."""

import os
from collections.abc import Mapping
from typing import Any

import jax

from deepmd.dpmodel.model import Model
from deepmd.jax.program import exported_program
from deepmd.tf.saved.assembly import Core
from deepmd.tf.saved.folder import write_saved
from deepmd.tf.saved.foreign import open_foreign
from deepmd.tf.saved.stablehlo import StableHLO, stablehlo_core

__all__ = ["jax_core", "open_foreign", "write_savedmodel"]


def jax_core(model: Model) -> Core:
    """Evaluation entry of a model as TensorFlow calls it."""
    exported = exported_program(model)
    names, _ = jax.tree_util.tree_flatten_with_path(
        jax.tree_util.tree_unflatten(exported.out_tree, exported.out_avals)
    )
    results = tuple(
        (
            path[-1].key,
            aval.dtype.name,
            tuple(n if isinstance(n, int) else None for n in aval.shape),
        )
        for path, aval in names
    )
    program = StableHLO(
        exported.mlir_module_serialized,
        exported.calling_convention_version,
        tuple(p.upper() for p in exported.platforms),
        tuple(exported.module_kept_var_idx),
        results,
    )
    return stablehlo_core(program, model)


def write_savedmodel(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a ``.savedmodel`` from the dictionary of a stored model, and check its results."""
    write_saved(path, data, jax_core)
