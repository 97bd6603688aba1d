# SPDX-License-Identifier: LGPL-3.0-or-later
"""TorchScript files ``.pth``: a traced core in a scripted wrapper, and the neutral model beside it.

The archive holds the neutral dictionary (``model.json``, ``arrays.npz``) and what the core expects
(``metadata.json``), so that it converts into every other format without loss.
"""

import json
import operator
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from deepmd.base.errors import ModelFileError
from deepmd.base.files import replacing
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.model.info import ModelInfo
from deepmd.dpmodel.model.inputs import SHORTEST
from deepmd.dpmodel.output_def import Level
from deepmd.io.archive import read_archive
from deepmd.io.files import min_nbor_dist_of
from deepmd.io.guard import opening
from deepmd.io.packed import pack_tree, tree_in
from deepmd.pt.evaluator import TorchEvaluator
from deepmd.pt.lift import convert
from deepmd.pt.torchscript import embedding, table
from deepmd.pt.torchscript.archive import archive_of, named_anew
from deepmd.pt.torchscript.entries import source_of
from deepmd.pt.torchscript.example import example_inputs, widths
from deepmd.pt.torchscript.foreign import read_foreign
from deepmd.pt.torchscript.loading import load_program
from deepmd.pt.torchscript.neighbors import packing_lists
from deepmd.pt.torchscript.recording import NotRecordedError, record
from deepmd.pt.torchscript.script import Program
from deepmd.runtime.operations import with_program
from deepmd.runtime.probes import compare_probes, probe_arrays

#: Version of the evaluation entry.
ENTRY_VERSION = 2
#: Ends the names of cotangents among the inputs of atoms; programs in files add it, too.
COTANGENT = "_cotangent"


# -- the core -------------------------------------------------------------------------------------


def trace_core(model: Model) -> torch.fx.GraphModule:
    """Return ``forward_edges`` as a plain graph of 5 arrays, two dictionaries and a list.

    The atoms have the weight of each differentiable output in its gradient as a further input.
    """
    lifted = convert(model).requires_grad_(False)
    inputs = example_inputs(
        model.packings(), inputs=core_inputs(model), taken=sorted(widths(lifted))
    )
    names = list(model.output_def().get_data())
    names += [f"{v.name}_grad" for v in model.differentiable()]

    def function(*arrays: torch.Tensor) -> dict[str, torch.Tensor]:
        given = inputs.with_arrays(arrays)
        atoms = given.atom_inputs
        weights = {v.name: atoms.pop(f"{v.name}{COTANGENT}") for v in model.differentiable()}
        raw = lifted.forward_edges(given, weights=weights)
        return {name: raw[name] for name in names}

    return graph_of(function, model, inputs)


def graph_of(
    function: Callable[..., dict[str, torch.Tensor]], model: Model, inputs: Inputs
) -> torch.fx.GraphModule:
    """Return a function of a model's evaluation entry as a graph that TorchScript compiles.

    Parameters
    ----------
    function : callable
        Takes the arrays of the inputs, in the order of :meth:`Inputs.flat`.
    model : Model
    inputs : Inputs
        Example with the names that the graph has.
    """
    try:
        graph = record(function, [one.only(inputs.named()).flat() for one in _examples(model)])
    except NotRecordedError:
        graph = make_fx(function, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
            *inputs.flat()
        )
    _name_inputs(graph, inputs)
    for node in list(graph.graph.nodes):
        _for_torchscript(graph, node)
    graph.graph.set_codegen(torch.fx.graph.CodeGen())
    core = torch.fx.GraphModule(graph, graph.graph)
    # Only now: before, the graph does not know which of its inputs are used.
    core.graph.eliminate_dead_code()
    core.recompile()
    return core


def _examples(model: Model) -> list[Inputs]:
    """Return inputs to record with; small ones, because all results stay in memory."""
    rng = np.random.default_rng(0)
    sizes = iter(lambda: int(rng.integers(3, 19)), None)
    return [
        example_inputs(model.packings(), inputs=core_inputs(model), sizes=sizes) for _ in range(6)
    ]


def core_inputs(model: Model) -> tuple[InputDef, ...]:
    """Inputs of the core: those of the evaluation entry, and the cotangents of outputs."""
    cotangents = (
        InputDef(f"{v.name}{COTANGENT}", Level.ATOM, v.size) for v in model.differentiable()
    )
    return (*model.entry_inputs(), *cotangents)


def _name_inputs(graph: torch.fx.GraphModule, inputs: Inputs) -> None:
    """Give the arguments their names; named inputs become dictionaries, slots a list."""
    places = [n for n in graph.graph.nodes if n.op == "placeholder"]
    last = places[-1]
    named, rest = Inputs._fields[:5], iter(places[5:])
    for name, node in zip(named, places[:5], strict=True):
        node.target = node.name = name
    keys: dict[str, list[Any]] = {
        "frame_inputs": list(inputs.frame_inputs),
        "atom_inputs": list(inputs.atom_inputs),
        "slots": list(range(len(inputs.slots))),
    }
    groups = []
    for name in keys:
        kind: Any = list[torch.Tensor] if name == "slots" else dict[str, torch.Tensor]
        with graph.graph.inserting_after(last):
            last = graph.graph.placeholder(name, type_expr=kind)
        groups.append(last)
    for group, some in zip(groups, keys.values(), strict=True):
        for key in some:
            node = next(rest)
            with graph.graph.inserting_after(last):
                last = graph.graph.call_function(operator.getitem, (group, key))
            node.replace_all_uses_with(last)
            graph.graph.erase_node(node)


#: Functions that nodes of traced graphs stand for.
_SCRIPTED = {**embedding.SCRIPTED, **table.SCRIPTED}
_SAME = ("lift_fresh_copy", "detach", "alias", "lift_fresh")
_PLACES = ("device", "layout", "pin_memory")


def _for_torchscript(graph: torch.fx.GraphModule, node: torch.fx.Node) -> None:
    """Rewrite a node in terms TorchScript knows."""
    if node.op == "get_attr":
        _constant_to_buffer(graph, str(node.target))
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
        return
    full_name = node.target._schema.name
    name = full_name.split("::")[1]
    if full_name in _SCRIPTED:
        node.target = _SCRIPTED[full_name]
    elif name in _SAME:
        node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
        graph.graph.erase_node(node)
    elif name.startswith(("_assert", "sym_constrain")):
        graph.graph.erase_node(node)
    elif name == "sym_size":
        node.target = torch.ops.aten.size
    else:
        node.target = node.target.overloadpacket
        # Where things are follows from the arguments, on whatever device the file is opened.
        node.kwargs = {k: v for k, v in node.kwargs.items() if k not in _PLACES}


def _constant_to_buffer(graph: torch.fx.GraphModule, name: str) -> None:
    value = getattr(graph, name)
    if isinstance(value, torch.Tensor) and name not in dict(graph.named_buffers()):
        delattr(graph, name)
        graph.register_buffer(name, value.detach().clone())


# -- the wrapper ----------------------------------------------------------------------------------


def settings_of(
    info: ModelInfo,
    takes_cotangents: bool,
    script: Mapping[str, Any],
    min_nbor_dist: float | None,
    probes: list[dict[str, torch.Tensor]],
) -> dict[str, Any]:
    """Return the attributes of :class:`deepmd.pt.torchscript.script.Program`."""
    outputs = info.outputs
    return {
        "entry_version": ENTRY_VERSION,
        "takes_cotangents": takes_cotangents,
        "rcut": info.rcut,
        "core_types": info.core_types,
        "shortest": SHORTEST**2 if info.use_spin else 0.0,
        "message_passing": info.message_passing,
        "regions": info.regions,
        "precision": info.precision,
        "model_def_script": json.dumps(script),
        "probes": probes,
        "names": [v.name for v in outputs],
        "sizes": [v.size for v in outputs],
        "differentiable": [v.differentiable for v in outputs],
        "intensive": [v.intensive for v in outputs],
        **packing_lists(info.packings),
        "contributing": list(info.contributing_types),
        "use_spin": list(info.use_spin),
        "scale": _float64(info.spin_scale),
        "dim_fparam": info.size_of("fparam"),
        "dim_aparam": info.size_of("aparam"),
        "dim_chg_spin": info.size_of("charge_spin"),
        "default_fparam": _float64(info.default_of("fparam") or ()),
        "usual_chg_spin": _float64(info.default_of("charge_spin") or ()),
        "min_nbor_dist": _float64(-1.0 if min_nbor_dist is None else min_nbor_dist),
    }


def _float64(values: Sequence[float] | float) -> torch.Tensor:
    """Return numbers as a buffer: made from a list in TorchScript, they would pass float32."""
    return torch.tensor(values, dtype=torch.float64)


def build_program(
    model: Model,
    script: Mapping[str, Any] | None = None,
    min_nbor_dist: float | None = None,
    probes: Mapping[str, Any] | None = None,
) -> torch.jit.ScriptModule:
    """Return a model as a TorchScript module.

    The core of whole models of plugins is their own code, compiled; of all others it is traced.
    """
    whole: Any = model
    compiled = whole.scripted_core() if hasattr(model, "scripted_core") else None
    with warnings.catch_warnings(), named_anew():
        # TorchScript is announced to end; this format needs it.
        warnings.simplefilter("ignore", DeprecationWarning)
        info, script = model.info(), script or {}
        frames = probe_arrays(model, probes or {})
        tensors = [{k: torch.from_numpy(v) for k, v in frame.items()} for frame in frames]
        settings = settings_of(info, compiled is None, script, min_nbor_dist, tensors)
        core = trace_core(model) if compiled is None else compiled
        program = torch.jit.script(Program(core, settings))
        program.define(source_of(info, script, min_nbor_dist))
        return program


# -- files ----------------------------------------------------------------------------------------


def write_pth(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a ``.pth`` file from the dictionary of a stored model.

    The file is opened again and must give the results of the probes in it.
    """
    data = with_program(data)
    model = Model.deserialize(data["model"])
    script, probes = data.get("model_def_script") or {}, data.get("probes")
    program = build_program(model, script, min_nbor_dist_of(data), probes)
    info = model.info(probes=len((probes or {}).get("frames", ())))
    tree, arrays = pack_tree(data)
    extra: dict[str, str | bytes] = {
        "model.json": tree,
        "arrays.npz": arrays,
        "metadata.json": json.dumps({"entry_version": ENTRY_VERSION, **info.to_dict()}),
        "data_modifier.pth": "",
    }
    archive = archive_of(program, extra)
    with replacing(path) as file:
        file.write(archive)
        if probes:
            worst = compare_probes(open_program(file.path), probes)
            if worst is not None:
                raise ModelFileError(worst, where=path, fix="no file was written")


def read_pth(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the dictionary of the stored model; no code of the file is run.

    Raises
    ------
    ModelFileError
        If the file is missing, damaged, or holds no model.
    """
    with opening(path):
        records = read_archive(path)
        tree = tree_in(records)
        return read_foreign(records) if tree is None else tree


def open_program(path: str | os.PathLike[str]) -> TorchEvaluator:
    """Open a ``.pth`` file for evaluation by its own program; that of DeePMD-kit is not used."""
    with opening(path):
        records = read_archive(path)
        tree = tree_in(records)
        if tree is None:
            return TorchEvaluator.of_tree(read_foreign(records), path)
        evaluator = TorchEvaluator.of_tree(tree, path)
        evaluator.path, evaluator.program = path, load_program(records, path, evaluator.device)
        found = getattr(evaluator.program, "entry_version", 1)
        if found != ENTRY_VERSION:
            raise ModelFileError(
                f"the program has entry version {found}; {ENTRY_VERSION} is read here",
                fix="convert the file into itself with dp convert-backend, or freeze it again",
            )
    return evaluator
