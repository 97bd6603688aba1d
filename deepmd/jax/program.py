# SPDX-License-Identifier: LGPL-3.0-or-later
"""Exported programs: the evaluation entry ``forward_edges`` for all sizes, weights inside.

They are StableHLO as ``jax.export`` serializes it, for processors and CUDA devices. Sizes must be
at least 1; whoever calls pads, which keeps the number of shapes small anyway.
"""

import contextlib
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.base.reading import reason
from deepmd.dpmodel.construction import FOREIGN
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.module import bind, short, split
from deepmd.dpmodel.neighbors import slot_axes
from deepmd.dpmodel.output_def import Level

#: Version of the evaluation entry.
ENTRY_VERSION = 2
PLATFORMS = ("cpu", "cuda")
#: Key of the program in the arrays of a file, and of its description.
BLOB, ABOUT = "forward_edges", "program"


def arguments(model: Model) -> Inputs:
    """Return shapes and dtypes of the arguments, the sizes being symbols."""
    axes = slot_axes(model.packings())
    of_frames = any(one.level is Level.FRAME for one in model.entry_inputs())
    rows = ["edges", "atoms", *(["frames"] if of_frames else [])]
    names = dict.fromkeys([*rows, *(name for slot in axes for name in slot)])
    scope = jax.export.SymbolicScope([f"{name} >= 1" for name in names])

    def array(shape: str, dtype: Any) -> Any:
        return jax.ShapeDtypeStruct(jax.export.symbolic_shape(shape, scope=scope), dtype)

    def named(level: Level, rows: str) -> dict[str, Any]:
        known = [one for one in model.entry_inputs() if one.level is level]
        return {one.name: array(f"{rows}, {one.size}", jnp.float64) for one in known}

    return Inputs(
        vec=array("edges, 3", jnp.float64),
        i=array("edges,", jnp.int64),
        j=array("edges,", jnp.int64),
        atype=array("atoms,", jnp.int64),
        frame=array("atoms,", jnp.int64),
        frame_inputs=named(Level.FRAME, "frames"),
        atom_inputs=named(Level.ATOM, "atoms"),
        slots=[array(f"{', '.join(slot)},", jnp.int64) for slot in axes],
    )


def export_program(model: Model) -> bytes:
    """Trace ``forward_edges`` for all sizes and serialize it."""
    return bytes(exported_program(model).serialize())


def exported_program(model: Model) -> jax.export.Exported:
    """Trace ``forward_edges`` for all sizes."""
    params, fixed = split(model)
    leaves = {k: jnp.asarray(v) for k, v in (params | fixed).items()}

    # Plain arguments: a file must not depend on a class of ours.
    def forward(*inputs: Any) -> dict[str, Any]:
        return bind(model, leaves).forward_edges(Inputs(*inputs))

    with _without_places():
        return jax.export.export(jax.jit(forward), platforms=PLATFORMS)(*arguments(model))


@contextlib.contextmanager
def _without_places() -> Iterator[None]:
    """Let programs be lowered without the files and lines of their operations.

    With them, programs would depend on where this package lies, and on who called it.
    """
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def describe(model: Model) -> dict[str, Any]:
    """Return what a program needs to be called beside the description of the model, as JSON."""
    return {
        "entry": BLOB,
        "entry_version": ENTRY_VERSION,
        "platforms": list(PLATFORMS),
        "packings": model.info().to_dict()["packings"],
        "jax_version": jax.__version__,
    }


def program_of(tree: Mapping[str, Any], model: Model) -> Callable[..., dict[str, Any]] | None:
    """Return the program in the tree of a file, a function of the parts of :class:`Inputs`.

    Returns None if there is no program, or another one (of DeePMD-kit).

    Raises
    ------
    ModelFileError
        If the program is for another model or another version of the entry, or is damaged.
    """
    about, blob = tree.get(ABOUT), tree.get("@variables", {}).get(BLOB)
    if about is None or blob is None:
        return None
    again = "convert the model again"
    if not isinstance(about, dict):
        raise ModelFileError("the description of the program is no dictionary", fix=again)
    if about.get("entry_version") != ENTRY_VERSION:
        raise ModelFileError(
            f"the program has entry version {short(about.get('entry_version'))}; "
            f"{ENTRY_VERSION} is read here",
            fix=again,
        )
    if about.get("packings") != describe(model)["packings"]:
        raise ModelFileError("the program does not belong to the model in the file", fix=again)
    try:
        exported = jax.export.deserialize(bytearray(np.asarray(blob).tobytes()))
    except (*FOREIGN, RuntimeError, struct.error) as error:
        raise ModelFileError(f"the program cannot be read ({reason(error)})", fix=again) from None
    return jax.jit(exported.call)
