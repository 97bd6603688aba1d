# SPDX-License-Identifier: LGPL-3.0-or-later
"""Functions of a SavedModel under the names and with the arguments that DeePMD-kit gives them.

Its C++ library finds functions in the graph by their names, its Python library as attributes:
``call`` and ``call_atomic_virial`` evaluate frames, ``call_lower`` and
``call_lower_atomic_virial`` extended atoms, others answer questions. ``forward_edges`` is the
evaluation entry of our own files.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.neighbors import slot_axes
from deepmd.dpmodel.output_def import Level, of_level
from deepmd.tf.saved.assembly import Core, Program

Tensor = Any
#: Names in the graph of the functions that evaluate, by their names as attributes.
ENTRIES = {
    "call": "call_without_atomic_virial",
    "call_atomic_virial": "call_with_atomic_virial",
    "call_lower": "call_lower_without_atomic_virial",
    "call_lower_atomic_virial": "call_lower_with_atomic_virial",
}
EDGES = "forward_edges"
#: Inputs beside positions and types, in the order of the arguments. DeePMD-kit's functions have
#: the first two always, with zero columns where a model takes none, and the last only if it does.
_ALWAYS, _INPUTS = ("fparam", "aparam"), ("fparam", "aparam", "charge_spin")
_FRAMES = (("coord", tf.float64, [None, None, 3]), ("atype", tf.int32, [None, None]))
_OTHERS = {
    "call": (("box", tf.float64, [None, None, None]),),
    "call_lower": (
        ("nlist", tf.int64, [None, None, None]),
        ("mapping", tf.int64, [None, None]),
    ),
}


def saved_module(
    model: Model, core: Core, script: Mapping[str, Any], min_nbor_dist: float | None
) -> tf.Module:
    """Module of all functions for ``tf.saved_model.save``, which traces them.

    Parameters
    ----------
    model : Model
        The neutral model, asked for its description.
    core : callable
        Evaluation entry; its results may have further rows at the end.
    script : dict
        The model section of the input.
    min_nbor_dist : float, optional
        Smallest distance of the training data [Å].
    """
    module, edges = tf.Module(), _edges_entry(model, core)
    program, functions = Program(model, lambda inputs: edges(*inputs.flat())), {EDGES: edges}
    if not model.expands():  # for which these functions have no argument
        functions |= {name: _entry(program, name) for name in ENTRIES}
    for name, value in answers(model, script, min_nbor_dist).items():
        functions[name] = _function(name, functools.partial(tf.constant, value), [])
    for name, function in functions.items():
        setattr(module, name, function)
    module.do_message_passing = module.has_message_passing
    return module


def _function(name: str, body: Callable[..., Any], signature: Sequence[tf.TensorSpec]) -> Any:
    """Function of TensorFlow, called ``name`` in the graph."""

    def named(*tensors: Tensor) -> Any:
        return body(*tensors)

    named.__name__ = name
    # Not traced before it is saved: saving would trace it again, for other options.
    return tf.function(named, input_signature=list(signature), autograph=False)


def _entry(program: Program, name: str) -> Any:
    """One of the functions that evaluate."""
    lower, atomic = name.startswith("call_lower"), name.endswith("atomic_virial")
    sizes = {one.name: (one.size, one.level) for one in program.model.inputs()}
    columns = [(n, *sizes.get(n, (0, Level.FRAME))) for n in _INPUTS if n in sizes or n in _ALWAYS]
    arguments = [*_FRAMES, *_OTHERS["call_lower" if lower else "call"]]
    for given, size, level in columns:
        of_atoms = level is Level.ATOM or given == "aparam"
        arguments.append((given, tf.float64, [None, None, size] if of_atoms else [None, size]))
    n_fixed = len(arguments) - len(columns)

    def body(*tensors: Tensor) -> dict[str, Tensor]:
        inputs = zip(columns, tensors[n_fixed:], strict=True)
        taken = {given: x for (given, _, _), x in inputs if given in sizes}
        evaluate: Callable[..., dict[str, Tensor]] = program.extended if lower else program.frames
        out = evaluate(*tensors[:n_fixed], taken)
        # As DeePMD-kit's: per-atom virials of extended atoms are there in any case.
        return {k: v for k, v in out.items() if lower or atomic or not k.endswith("_derv_c")}

    specs = [tf.TensorSpec(shape, dtype, name=n) for n, dtype, shape in arguments]
    return _function(ENTRIES[name], body, specs)


def edge_arguments(model: Model) -> list[tuple[str, Any, Sequence[int | None]]]:
    """Names, dtypes and shapes of the arguments of ``forward_edges``, in their order."""
    # Those of frames first.
    named = sorted(model.entry_inputs(), key=lambda one: one.level is Level.ATOM)
    arguments: list[tuple[str, Any, Sequence[int | None]]] = [("vec", tf.float64, [None, 3])]
    arguments += [(name, tf.int64, [None]) for name in ("i", "j", "atype", "frame")]
    arguments += [(one.name, tf.float64, [None, one.size]) for one in named]
    slots = enumerate(slot_axes(model.packings()))
    arguments += [(f"slot_{k:03d}", tf.int64, [None] * len(axes)) for k, axes in slots]
    return arguments


def _edges_entry(model: Model, core: Core) -> Any:
    arguments = edge_arguments(model)
    of_frames, of_atoms = (
        {one.name: None for one in model.entry_inputs() if one.level is level}
        for level in (Level.FRAME, Level.ATOM)
    )
    likeness = Inputs(None, None, None, None, None, of_frames, of_atoms, [])
    of_edges = of_level(model.output_def().raw_results(), Level.EDGE)

    def body(*tensors: Tensor) -> dict[str, Tensor]:
        inputs = likeness.with_arrays(tensors)
        n_atoms, n_edges = (tf.shape(x)[0] for x in (inputs.atype, inputs.vec))
        raw = core(inputs)
        return {k: v[: n_edges if k in of_edges else n_atoms] for k, v in raw.items()}

    specs = [tf.TensorSpec(shape, dtype, name=name) for name, dtype, shape in arguments]
    return _function(EDGES, body, specs)


def answers(model: Model, script: Mapping[str, Any], min_nbor_dist: float | None) -> dict[str, Any]:
    """Answers to the questions that can be asked, by the name of the function."""
    info = model.info()
    charges = info.default_of("charge_spin") or []
    fparam = info.default_of("fparam") or []
    selected = info.selected_types or range(len(info.type_map))
    distance = -1.0 if min_nbor_dist is None else min_nbor_dist

    def strings(values: Sequence[str]) -> np.ndarray:
        return np.array([value.encode() for value in values], object)

    def integers(values: Sequence[int]) -> np.ndarray:
        return np.array(values, np.int64)

    return {
        "get_type_map": strings(info.type_map),
        "get_rcut": np.float64(info.rcut),
        "get_sel": integers(info.sel),
        "get_dim_fparam": np.int64(info.size_of("fparam")),
        "get_dim_aparam": np.int64(info.size_of("aparam")),
        "get_dim_chg_spin": np.int64(info.size_of("charge_spin")),
        "get_sel_type": integers(list(selected)),
        "is_aparam_nall": np.bool_(False),
        "model_output_type": strings([*(v.name for v in info.outputs), "mask"]),
        "mixed_types": np.bool_(info.mixed_types),
        "get_model_def_script": json.dumps(script).encode(),
        "get_min_nbor_dist": np.float64(distance),
        "has_message_passing": np.bool_(info.message_passing),
        "has_default_fparam": np.bool_(bool(fparam)),
        "get_default_fparam": np.array(fparam, np.float64),
        "has_chg_spin_ebd": np.bool_(info.size_of("charge_spin") > 0),
        "has_default_chg_spin": np.bool_(bool(charges)),
        "get_default_chg_spin": np.array(charges, np.float64),
        # The program leaves them out itself, after they have taken their place among the nearest.
        "get_pair_exclude_types": integers([]),
    }
