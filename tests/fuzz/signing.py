# SPDX-License-Identifier: LGPL-3.0-or-later
"""Right checksums for files whose content was edited, so that what is behind them is reached.

A program that edits a file and computes its checksum again makes such files; so does malice.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import h5py

from deepmd.base.errors import InputError
from deepmd.graphs import ours
from deepmd.io import dp
from deepmd.io.digest import DIGEST, DIGEST_LINE, digest_of, digest_of_lines
from deepmd.io.graph import read_bundle, read_meta_graph
from deepmd.io.graph.messages import message
from deepmd.io.saved_model import ABOUT, MODEL, PROGRAM, SUFFIXES, program_digest
from deepmd.runtime import checkpoint_file


def sign(path: Path) -> None:
    """Give a file the checksum of its content, if this can be read."""
    if path.suffix in SUFFIXES:
        _sign_saved(path)
    elif path.suffix == ".meta":
        _sign_checkpoint(path)
    else:
        path.write_bytes(_SIGNERS[path.suffix](path.read_bytes()))


def signed_hdf5(data: bytes) -> bytes:
    """Return an HDF5 file with the checksums of its model and its training."""
    buffer = io.BytesIO(data)
    with h5py.File(buffer, "r+") as file:
        _sign_group(file, dp, lambda: dp.read_tree(file))
        group, read = file.get("training"), checkpoint_file._read_training
        if isinstance(group, h5py.Group):
            _sign_group(group, checkpoint_file, lambda: read(group, len(data), 1))
    return buffer.getvalue()


def _sign_group(group: h5py.Group, module: object, read: Callable[[], object]) -> None:
    """Store the checksum that a reader finds."""
    found: list[str] = []
    with mock.patch.object(module, "check_digest", lambda stored, new, remedy: found.append(new)):
        try:
            read()
        except Exception:  # noqa: BLE001 - it has no checksum, then, and is refused for this
            return
    group.attrs[DIGEST] = found[0]


def _signed_yaml(data: bytes) -> bytes:
    text = data.decode().rstrip("\n") + "\n"
    return f"{text}{DIGEST_LINE}{digest_of_lines(text)}\n".encode()


def _sign_saved(path: Path) -> None:
    """Bind model and program of a SavedModel, and sign the model."""
    if not (path / MODEL).is_file() or not (path / PROGRAM).is_file():
        return
    with h5py.File(path / MODEL, "r+") as file:
        tree = json.loads(file.attrs["json"])
        if isinstance(tree, dict) and isinstance(tree.get(ABOUT), dict):
            tree[ABOUT]["digest"] = program_digest((path / PROGRAM).read_bytes())
            file.attrs["json"] = json.dumps(tree)
    (path / MODEL).write_bytes(signed_hdf5((path / MODEL).read_bytes()))


def _sign_checkpoint(path: Path) -> None:
    """Sign a checkpoint of TensorFlow."""
    try:
        text = read_meta_graph(path).text(ours.CHECKPOINT) or ""
        tensors = read_bundle(str(path).removesuffix(ours.META))
    except (InputError, ValueError):  # it is refused for this
        return
    meta = message("MetaGraphDef")
    meta.ParseFromString(path.read_bytes())
    digest = digest_of(text, [tensors[k] for k in sorted(tensors)])
    meta.graph_def.node.append(ours.text_node(ours.DIGEST, digest.encode()))
    path.write_bytes(meta.SerializeToString(deterministic=True))


_SIGNERS: dict[str, Callable[[bytes], bytes]] = {
    ".dp": signed_hdf5,
    ".hlo": signed_hdf5,
    ".jax": signed_hdf5,
    ".yaml": _signed_yaml,
    ".pb": ours.closed,
}
