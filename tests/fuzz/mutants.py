# SPDX-License-Identifier: LGPL-3.0-or-later
"""Mutants of model files and checkpoints: damaged as disks do it, and edited with intent.

A *mutator* takes the bytes of a file and a random generator, and returns other bytes. Those of the
second kind keep checksums right, so that the readers behind them are reached, too.
"""

import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from deepmd.io.saved_model import METADATA_FILE, MODEL, PROBES_FILE, PROGRAM, SUFFIXES

Rng = np.random.Generator
Mutator = Callable[[bytes, Rng], bytes]

#: Values that readers do not expect in the place of others.
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 10**9, 10**30, -(10**12), 1e300, float("nan"), "", "x", "9" * 50, [], {},
    [[]], [None], {"@class": "Layer"}, {"type": "nothing"}, [10**8, 10**8], ["a", 1],
)  # fmt: skip


# -- damage ---------------------------------------------------------------------------------------


def flip(data: bytes, rng: Rng) -> bytes:
    """Flip one bit."""
    out = bytearray(data)
    out[rng.integers(len(out))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def cut(data: bytes, rng: Rng) -> bytes:
    """Lose the end."""
    return data[: rng.integers(len(data))]


def sector(data: bytes, rng: Rng) -> bytes:
    """Lose 512 bytes, to zeros or to noise."""
    start = int(rng.integers(max(1, len(data) - 512)))
    middle = bytes(512) if rng.random() < 0.5 else rng.bytes(512)
    return data[:start] + middle[: len(data) - start] + data[start + 512 :]


def move(data: bytes, rng: Rng) -> bytes:
    """Insert, remove or repeat a part."""
    a, b = sorted(int(x) for x in rng.integers(len(data), size=2))
    b = min(b, a + 64)
    part = (data[a:b] * 2, b"", rng.bytes(b - a))[int(rng.integers(3))]
    return data[:a] + part + data[b:]


DAMAGE: tuple[Mutator, ...] = (flip, cut, sector, move)


# -- edits ----------------------------------------------------------------------------------------


def edited(tree: Any, rng: Rng) -> Any:
    """Return a tree of plain values with one entry changed, removed or added."""
    tree = json.loads(json.dumps(tree))
    places: list[tuple[Any, Any]] = []
    todo = [tree]
    while todo:
        node = todo.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            places.append((node, key))
            if isinstance(value, (dict, list)):
                todo.append(value)
    node, key = places[int(rng.integers(len(places)))]
    choice = int(rng.integers(6))
    if choice == 0:
        del node[key]
    elif choice == 1 and isinstance(node, dict):
        node["surprise"] = 1
    elif choice == 2 and isinstance(node[key], (int, float)):
        node[key] = type(node[key])(node[key] * (10.0 ** float(rng.integers(-3, 7))))
    elif choice == 3:
        other, at = places[int(rng.integers(len(places)))]
        node[key] = json.loads(json.dumps(other[at]))
    else:
        node[key] = ODD[int(rng.integers(len(ODD)))]
    return tree


def edit_hdf5(data: bytes, rng: Rng) -> bytes:
    """Change the JSON or an array of an HDF5 file, and leave its checksum out."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        groups = [g for g in (file, file.get("training")) if g is not None]
        for group in groups:
            group.attrs.pop("digest", None)
        group = groups[int(rng.integers(len(groups)))]
        arrays = [k for k in group if isinstance(group[k], h5py.Dataset)]
        if rng.random() < 0.7 or not arrays:
            group.attrs["json"] = json.dumps(edited(json.loads(group.attrs["json"]), rng))
        else:
            name = arrays[int(rng.integers(len(arrays)))]
            _edit_dataset(group, name, rng)
    return buffer.getvalue()


def _edit_dataset(group: h5py.Group, name: str, rng: Rng) -> None:
    value = np.asarray(group[name][()])
    del group[name]
    choice = int(rng.integers(6))
    if choice == 0:
        group.create_dataset(name, (3 * 10**8,), "f8", chunks=(1000,), compression="gzip")
    elif choice == 1:
        group[name] = h5py.SoftLink("/" + name)
    elif choice == 2:
        group[name] = np.full(value.shape, np.nan)
    elif choice == 3:
        group[name] = "text"
    elif choice == 4:
        group[name] = value.reshape(-1)[: value.size // 2]
    else:
        group.create_group(name)


def edit_yaml(data: bytes, rng: Rng) -> bytes:
    """Change a word or a line of a YAML text, and leave its checksum out."""
    lines = [x for x in data.decode().split("\n") if not x.startswith("# digest")]
    at = int(rng.integers(len(lines)))
    choice = int(rng.integers(5))
    if choice == 0:
        del lines[at]
    elif choice == 1:
        lines[at] = " " * int(rng.integers(1, 9)) + lines[at]
    elif choice == 2:
        words = lines[at].split(" ")
        odd = ("*a", "&a", "!!python/name:os", "2001-01-01", "[[[[", "~", "0x" + "f" * 99, "<<: 1")
        words[int(rng.integers(len(words)))] = odd[int(rng.integers(len(odd)))]
        lines[at] = " ".join(words)
    elif choice == 3:
        lines[at] = BOMB
    else:
        lines[at], lines[at - 1] = lines[at - 1], lines[at]
    return "\n".join(lines).encode()


#: Aliases of lists of aliases: 10⁹ entries.
BOMB = "\n".join(
    ["b0: &b0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"b{k}: &b{k} [{', '.join([f'*b{k - 1}'] * 10)}]" for k in range(1, 9)]
)


def edit_zip(data: bytes, rng: Rng) -> bytes:
    """Change a record of an archive, with a right checksum; JSON by its entries."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = [(i, archive.read(i)) for i in archive.infolist()]
    at = int(rng.integers(len(records)))
    pickles = [k for k, (i, _) in enumerate(records) if i.filename.endswith("json")]
    if pickles and rng.random() < 0.4:
        at = pickles[int(rng.integers(len(pickles)))]
    info, value = records[at]
    if info.filename.endswith("json"):
        value = json.dumps(edited(json.loads(value), rng)).encode()
    elif value:
        value = DAMAGE[int(rng.integers(len(DAMAGE)))](value, rng)
    records[at] = (info, value)
    if rng.random() < 0.1:
        del records[at]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, content in records:
            archive.writestr(zipfile.ZipInfo(i.filename), content)
    return buffer.getvalue()


def edit_graph(data: bytes, rng: Rng) -> bytes:
    """Change a node of a frozen graph: its name, shape, type or values, or a text inside.

    The checksum behind graphs of ours is left out.
    """
    from deepmd.io.graph.messages import message

    raw = message("GraphDef")
    raw.ParseFromString(data)
    _edit_nodes(raw, rng)
    return raw.SerializeToString()


#: Constants that hold a tree as JSON, of ours and of DeePMD-kit.
_TREES = ("deepmd/model", "deepmd/checkpoint", "train_attr/training_script")


def _edit_nodes(graph: Any, rng: Rng) -> None:
    """Change a node of a GraphDef."""
    kept = [n for n in graph.node if n.name != "deepmd/digest"]
    del graph.node[:]
    graph.node.extend(kept)
    constants = [n for n in graph.node if n.op == "Const" and not n.name.startswith("gradients")]
    node = constants[int(rng.integers(len(constants)))]
    tensor, choice = node.attr["value"].tensor, int(rng.integers(7))
    texts = [n for n in constants if n.name in _TREES]
    if choice < 3 and texts:
        value = texts[int(rng.integers(len(texts)))].attr["value"].tensor.string_val
        value[0] = json.dumps(edited(json.loads(value[0]), rng)).encode()
    elif choice == 3:
        node.name = constants[int(rng.integers(len(constants)))].name
    elif choice == 4:
        tensor.tensor_shape.dim.add(size=int(10 ** float(rng.integers(0, 18))))
    elif choice == 5:
        tensor.dtype = int(rng.integers(24))
    elif tensor.string_val:
        old = tensor.string_val[0] or b" "
        tensor.string_val[0] = DAMAGE[int(rng.integers(len(DAMAGE)))](old, rng)
    else:
        tensor.tensor_content = rng.bytes(8)


Parts = dict[str, bytes]


def edit_checkpoint(files: Parts, rng: Rng) -> Parts:
    """Change the graph, an entry of the index or a tensor of a checkpoint of TensorFlow."""
    from fuzz.bundle import crc, entries_of, table

    from deepmd.io.graph.messages import message

    meta, index, data = ".meta", ".index", ".data-00000-of-00001"
    choice = int(rng.integers(4))
    if choice < 2:
        raw = message("MetaGraphDef")
        raw.ParseFromString(files[meta])
        _edit_nodes(raw.graph_def, rng)
        return {**files, meta: raw.SerializeToString()}
    entries = entries_of(files[index])
    names = [k for k in entries if k]
    name = names[int(rng.integers(len(names)))]
    entry = message("BundleEntryProto")
    entry.ParseFromString(entries[name])
    content = files[data]
    if choice == 2:
        _edit_entry(entry, rng)
    else:  # other numbers, with their checksum
        size = entry.size
        number = (float("nan"), 1e300, -1.0, 0.0)[int(rng.integers(4))]
        part = np.full(size // 8 + 1, number).tobytes() if rng.random() < 0.5 else rng.bytes(size)
        content = content[: entry.offset] + part[:size] + content[entry.offset + size :]
        entry.crc32c = crc(part[:size])
    entries[name] = entry.SerializeToString()
    if rng.random() < 0.1:
        del entries[name]
    # The checksum of ours is left out, or everything would end there.
    raw = message("MetaGraphDef")
    raw.ParseFromString(files[meta])
    kept = [n for n in raw.graph_def.node if n.name != "deepmd/digest"]
    del raw.graph_def.node[:]
    raw.graph_def.node.extend(kept)
    return {**files, index: table(entries), data: content, meta: raw.SerializeToString()}


def _edit_entry(entry: Any, rng: Rng) -> None:
    """Change where a tensor lies, or its form."""
    choice = int(rng.integers(5))
    if choice == 0:
        entry.dtype = int(rng.integers(24))
    elif choice == 1:
        entry.offset = int(10 ** float(rng.integers(0, 18)))
    elif choice == 2 and entry.shape.dim:
        for dim in entry.shape.dim:
            dim.size, entry.shape.dim[0].size = entry.shape.dim[0].size, dim.size
    elif choice == 3:
        entry.shape.dim.add(size=1)
    else:
        entry.shape.dim.add(size=int(10 ** float(rng.integers(0, 18))))
        entry.size = entry.size * entry.shape.dim[-1].size % (1 << 62)


def edit_saved(files: Parts, rng: Rng) -> Parts:
    """Change the model or the program of a SavedModel, the description beside it, or what is there."""
    name = (MODEL, PROGRAM, METADATA_FILE, PROBES_FILE)[int(rng.choice(4, p=(0.5, 0.3, 0.1, 0.1)))]
    if name not in files:
        name = PROGRAM
    if rng.random() < 0.1:
        return {k: v for k, v in files.items() if k != name}
    if name == MODEL:
        changed = edit_hdf5(files[name], rng)
    elif name == PROGRAM:
        changed = edit_program(files[name], rng)
    else:
        changed = json.dumps(edited(json.loads(files[name]), rng)).encode()
    return {**files, name: changed}


def edit_program(data: bytes, rng: Rng) -> bytes:
    """Change a function of a SavedModel: a node of it, its name, its arguments or its library."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString(data)
    functions = model.meta_graphs[0].graph_def.library.function
    function = functions[int(rng.integers(len(functions)))]
    nodes, choice = function.node_def, int(rng.integers(8))
    node = nodes[int(rng.integers(len(nodes)))]
    other = nodes[int(rng.integers(len(nodes)))]
    if choice == 0:
        node.name = other.name
    elif choice == 1 and node.input:
        node.input[int(rng.integers(len(node.input)))] = f"{other.name}:output:0"
    elif choice == 2:
        node.op = other.op
    elif choice == 3:
        key = sorted(node.attr)[int(rng.integers(len(node.attr)))] if node.attr else "T"
        node.attr[key].type = int(rng.integers(24))
    elif choice == 4:
        function.signature.name = functions[int(rng.integers(len(functions)))].signature.name
    elif choice == 5 and function.signature.input_arg:
        del function.signature.input_arg[0]
    else:  # numbers and texts, with lengths and shapes that may not be theirs
        values = [n for n in nodes if "value" in n.attr or "module" in n.attr] or [node]
        chosen = values[int(rng.integers(len(values)))].attr
        tensor, module = chosen["value"].tensor, chosen["module"].s
        if module:
            chosen["module"].s = DAMAGE[int(rng.integers(len(DAMAGE)))](module, rng)
        elif choice == 6:
            tensor.tensor_shape.dim.add(size=int(10 ** float(rng.integers(0, 18))))
        else:
            tensor.tensor_content = rng.bytes(8)
    return model.SerializeToString(deterministic=True)


EDITS: dict[str, Mutator] = {
    ".pb": edit_graph,
    ".dp": edit_hdf5,
    ".hlo": edit_hdf5,
    ".jax": edit_hdf5,
    ".yaml": edit_yaml,
    ".pth": edit_zip,
    ".pt": edit_zip,
}


#: Edits of files that belong together.
TOGETHER: dict[str, Callable[[Parts, Rng], Parts]] = {
    ".meta": edit_checkpoint,
    **dict.fromkeys(SUFFIXES, edit_saved),
}


def mutant(files: Parts, suffix: str, seed: int, *, edit: bool = False) -> tuple[str, Parts]:
    """Return the name of the mutator, and the mutant with a number.

    Parameters
    ----------
    files : dict of str to bytes
        Contents of the files of a model; most have one.
    suffix : str
        Of the file by which it is opened.
    seed : int
        The number.
    edit : bool
        Edit all of them, and damage none.
    """
    rng = np.random.default_rng(seed)
    at = len(DAMAGE) if edit else seed % (len(DAMAGE) + 3)
    if at >= len(DAMAGE) and suffix in TOGETHER:
        return TOGETHER[suffix].__name__, TOGETHER[suffix](files, rng)
    mutator = DAMAGE[at] if at < len(DAMAGE) else EDITS[suffix]
    name = suffix if len(files) == 1 else sorted(files)[int(rng.integers(len(files)))]
    return mutator.__name__, {**files, name: mutator(files[name], rng)}
