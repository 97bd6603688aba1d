# SPDX-License-Identifier: LGPL-3.0-or-later
"""TorchScript files ``.pth``: a traced core in a scripted wrapper, and the neutral model beside it.

The archive holds the neutral dictionary (``model.json``, ``arrays.npz``) and what the core expects
(``metadata.json``), so that it converts into every other format without loss.
"""

import io
import json
import operator
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from deepmd.dpmodel.model import Inputs, Model
from deepmd.dpmodel.model.info import ModelInfo
from deepmd.dpmodel.model.inputs import SHORTEST
from deepmd.dpmodel.probes import INPUTS, compare_probes
from deepmd.io.archive import read_archive, read_npz
from deepmd.io.files import check_frame, nearest_of
from deepmd.io.guard import check_tree, opening
from deepmd.pt.archive import archive_of, named_anew
from deepmd.pt.evaluator import TorchEvaluator
from deepmd.pt.example import example_inputs, widths
from deepmd.pt.lift import convert
from deepmd.pt.loading import load_program
from deepmd.pt.recording import NotRecordedError, record
from deepmd.pt.script import Program
from deepmd.pt.script_embedding import SCRIPTED
from deepmd.pt.script_entries import source_of
from deepmd.utils.errors import ModelFileError
from deepmd.utils.files import replacing

#: Version of the evaluation entry.
ENTRY_VERSION = 2


# -- the core -------------------------------------------------------------------------------------


def trace_core(model: Model) -> torch.fx.GraphModule:
    """Return ``forward_edges`` as a plain graph of 5 arrays, two dictionaries and a list."""
    lifted = convert(model).requires_grad_(False)
    inputs = example_inputs(
        model.packings(), inputs=model.entry_inputs(), taken=sorted(widths(lifted))
    )
    names = list(model.output_def().get_data())
    names += [f"{v.name}_grad" for v in model.differentiable()]

    def function(*arrays: torch.Tensor) -> dict[str, torch.Tensor]:
        raw = lifted.forward_edges(inputs.with_arrays(arrays))
        return {name: raw[name] for name in names}

    try:
        graph = record(function, [one.flat() for one in _examples(model)])
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
        example_inputs(model.packings(), inputs=model.entry_inputs(), sizes=sizes) for _ in range(6)
    ]


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
    if full_name in SCRIPTED:
        node.target = SCRIPTED[full_name]
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
    script: Mapping[str, Any],
    min_nbor_dist: float | None,
    probes: list[dict[str, torch.Tensor]],
) -> dict[str, Any]:
    """Return the attributes of :class:`deepmd.pt.script.Program`."""
    packings, outputs = info.packings, info.outputs
    return {
        "entry_version": ENTRY_VERSION,
        "rcut": info.rcut,
        "core_types": info.core_types,
        "shortest": SHORTEST**2 if info.use_spin else 0.0,
        "message_passing": info.message_passing,
        "precision": info.precision,
        "model_def_script": json.dumps(script),
        "probes": probes,
        "names": [v.name for v in outputs],
        "sizes": [v.size for v in outputs],
        "differentiable": [v.differentiable for v in outputs],
        "intensive": [v.intensive for v in outputs],
        "layouts": [p.layout for p in packings],
        "rcuts": [float(p.rcut) for p in packings],
        "sels": [list(p.sel) for p in packings],
        "grouped": [p.by_centre for p in packings],
        "nearest": [p.nearest for p in packings],
        "excluded": [[t for pair in p.exclude for t in pair] for p in packings],
        "edge_rcuts": [float(p.edge_rcut) for p in packings],
        "edge_sels": [p.edge_sel for p in packings],
        "counted": list(info.contributing_types),
        "use_spin": list(info.use_spin),
        "scale": _float64(info.spin_scale),
        "dim_fparam": info.size_of("fparam"),
        "dim_aparam": info.size_of("aparam"),
        "dim_chg_spin": info.size_of("charge_spin"),
        "usual_fparam": _float64(info.default_of("fparam") or ()),
        "usual_chg_spin": _float64(info.default_of("charge_spin") or ()),
        "min_nbor_dist": _float64(-1.0 if min_nbor_dist is None else min_nbor_dist),
    }


def _float64(values: Sequence[float] | float) -> torch.Tensor:
    """Return numbers as a buffer: made from a list in TorchScript, they would pass float32."""
    return torch.tensor(values, dtype=torch.float64)


def probe_tensors(model: Model, probes: Mapping[str, Any]) -> list[dict[str, torch.Tensor]]:
    """Return the probes as C++ wants them: inputs, and value, force and virial of one output.

    The first output of the model is meant; its components come first, (size, n_atoms, 3).
    """
    first = next(iter(model.output_def().get_data()))
    out = []
    for stored in (frame["@variables"] for frame in probes.get("frames", ())):
        frame = {k: stored[k] for k in (*INPUTS, "virial") if stored.get(k) is not None}
        frame["value"] = stored[first]
        if stored.get("force") is not None:
            n, force = len(stored["coord"]), np.asarray(stored["force"])
            frame["force"] = force.reshape(n, -1, 3).swapaxes(0, 1)
        out.append({k: torch.from_numpy(np.array(v)) for k, v in frame.items()})
    return out


def build_program(
    model: Model,
    script: Mapping[str, Any] | None = None,
    min_nbor_dist: float | None = None,
    probes: Mapping[str, Any] | None = None,
) -> torch.jit.ScriptModule:
    """Return a model as a TorchScript module."""
    with warnings.catch_warnings(), named_anew():
        # TorchScript is announced to end; this format needs it.
        warnings.simplefilter("ignore", DeprecationWarning)
        info, script = model.info(), script or {}
        tensors = probe_tensors(model, probes or {})
        settings = settings_of(info, script, min_nbor_dist, tensors)
        program = torch.jit.script(Program(trace_core(model), settings))
        program.define(source_of(info, script, min_nbor_dist))
        return program


# -- files ----------------------------------------------------------------------------------------


def write_pth(path: str | os.PathLike[str], data: Mapping[str, Any]) -> None:
    """Write a ``.pth`` file from the dictionary of a stored model.

    The file is opened again and must give the results of the probes in it.
    """
    model = Model.deserialize(data["model"])
    script, probes = data.get("model_def_script") or {}, data.get("probes")
    program = build_program(model, script, nearest_of(data), probes)
    info = model.info(probes=len((probes or {}).get("frames", ())))
    arrays: dict[str, np.ndarray] = {}

    def store(value: Any) -> dict[str, str]:
        if not isinstance(value, (np.ndarray, np.generic)):
            raise TypeError(f"{type(value).__name__} found in a model dictionary")
        name = f"array_{len(arrays):04d}"
        arrays[name] = np.asarray(value)
        return {"@array": name}

    tree, packed = json.dumps(data, default=store), io.BytesIO()
    np.savez(packed, **arrays)  # type: ignore[arg-type]
    extra: dict[str, str | bytes] = {
        "model.json": tree,
        "arrays.npz": packed.getvalue(),
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
        If the file is missing, damaged, or was not written by this program.
    """
    with opening(path):
        return _stored_tree(read_archive(path))


def _stored_tree(records: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the dictionary in the records of an archive."""
    if "extra/model.json" not in records:
        raise ModelFileError(
            "holds no neutral model",
            fix="files made by DeePMD-kit: convert its .dp or .pt instead",
        )
    arrays, text = read_npz(records["extra/arrays.npz"]), records["extra/model.json"]

    def restored(node: dict[str, Any]) -> Any:
        return arrays[node["@array"]] if "@array" in node else node

    tree = json.loads(text, object_hook=restored)
    check_tree(tree, len(text))
    if not isinstance(tree, dict):
        raise ModelFileError("holds no dictionary; no model")
    check_frame(tree)
    return tree


def open_program(path: str | os.PathLike[str]) -> TorchEvaluator:
    """Open a ``.pth`` file for evaluation by its own program."""
    with opening(path):
        records = read_archive(path)
        evaluator = TorchEvaluator.of_tree(_stored_tree(records), path)
        evaluator.program = load_program(records, path, evaluator.device)
        found = getattr(evaluator.program, "entry_version", 1)
        if found != ENTRY_VERSION:
            raise ModelFileError(
                f"the program has entry version {found}; {ENTRY_VERSION} is read here",
                fix="convert the file into itself with dp convert-backend, or freeze it again",
            )
    return evaluator
