# SPDX-License-Identifier: LGPL-3.0-or-later
"""Small files of every kind, from which mutants are made.

``python sources.py FILE`` writes one: a process that goes on for hours need not hold frameworks.
"""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from fuzz.rows import FINE

from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.nn.tabulation import TableSettings
from deepmd.graphs.ours import INDEX, META, SHARD, checkpoint_meta, checkpoint_parts
from deepmd.io.saved_model import MODEL
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.probes import model_file_dict, write_model

#: Files of DeePMD-kit, in the folder of golden data.
CHECKPOINT = "checkpoints/tf_checkpoint"


def section() -> dict[str, Any]:
    """Return the section of a model."""
    descriptor = {
        "type": "se_e2_a", "rcut": 4.0, "rcut_smth": 0.5, "sel": [6, 8], "neuron": [3, 6],
        "axis_neuron": 2, "seed": 1,
    }  # fmt: skip
    return {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": {"neuron": [5]}}


def _model_writer(suffix: str) -> Callable[[Path, dict[str, Any]], None]:
    if suffix == ".pth":
        from deepmd.pt.torchscript.export import write_pth as write
    elif suffix == ".hlo":
        from deepmd.jax.export import write_hlo as write
    elif suffix == ".pb":
        from deepmd.tf.files import write_pb as write
    else:
        write = write_model
    return write


def write_model_of(path: Path, model: Model | None = None) -> None:
    """Write a model file."""
    data = model_file_dict(model or build_model(section()), section(), 0.9, "NumPy")
    _model_writer(path.suffix)(path, data)


def write_compressed(path: Path) -> None:
    """Write a model whose embedding networks are tables."""
    model = build_model(section())
    model.compress(TableSettings(step=0.2, extrapolate=2.0, min_distance=0.9))
    write_model_of(path, model)


def write_traced(path: Path) -> None:
    """Write a model that the native engine evaluates by its program."""
    descriptor = {
        "type": "dpa3",
        "repflow": {
            "n_dim": 4, "e_dim": 3, "a_dim": 3, "nlayers": 1, "e_rcut": 4.0, "e_rcut_smth": 0.5,
            "e_sel": 12, "a_rcut": 3.0, "a_rcut_smth": 0.5, "a_sel": 8, "axis_neuron": 2,
        },
        "seed": 1,
    }  # fmt: skip
    write_model_of(path, build_model({**section(), "descriptor": descriptor}))


def _checkpoint() -> Checkpoint:
    moments = {f"Default/{k}.w": np.ones((2, 3)) for k in ("first", "second")}
    state = {"seed": 3, "data.Default.cursor": np.arange(4)}
    return Checkpoint({"Default": build_model(section())}, section(), 17, moments, state, 0.9)


def write_checkpoint(path: Path) -> None:
    """Write a checkpoint."""
    if path.suffix == META:
        from fuzz.bundle import bundle

        text, tensors = checkpoint_parts(_checkpoint())
        index, data = bundle(tensors)
        prefix = str(path).removesuffix(META)
        for suffix, content in ((INDEX, index), (SHARD, data)):
            Path(prefix + suffix).write_bytes(content)
        path.write_bytes(checkpoint_meta(text, tensors))
        return
    if path.suffix == ".pt":
        from deepmd.pt.checkpoint.checkpoint import write_checkpoint as write
    else:
        from deepmd.runtime.checkpoint_file import write_checkpoint as write
    write(path, _checkpoint())


def copy_checkpoint(path: Path) -> None:
    """Copy a checkpoint of DeePMD-kit's TensorFlow backend."""
    for file in (_golden() / CHECKPOINT).glob("model.ckpt-4.*"):
        shutil.copyfile(file, path.parent / file.name.replace("model.ckpt-4", path.stem))


def copier(name: str) -> Callable[[Path], Any]:
    """Return the function that copies a golden file of DeePMD-kit."""
    return lambda path: shutil.copyfile(_golden() / name, path)


def copy_saved(path: Path) -> None:
    """Copy a SavedModel of ours."""
    shutil.copytree(Path(__file__).parents[1] / "golden/ours/v2/models/se_e2_a.savedmodel", path)


def write_program(path: Path) -> None:
    """Write a SavedModel without a neutral model, as DeePMD-kit's: a program of TensorFlow alone."""
    from deepmd.tf.savedmodel import write_savedmodeltf

    write_savedmodeltf(path, model_file_dict(build_model(section()), section(), 0.9, "NumPy"))
    shutil.rmtree((path / MODEL).parent)


def _golden() -> Path:
    from conftest import REFERENCE

    assert REFERENCE is not None
    return REFERENCE


#: Writer by name of the file; the suffix decides how it is opened, "ckpt" that it is restarted from.
WRITERS: dict[str, Callable[[Path], Any]] = {
    "model.dp": write_model_of,
    "compressed.dp": write_compressed,
    "program.dp": write_traced,
    "model.yaml": write_model_of,
    "ckpt.dp": write_checkpoint,
    "ckpt.pt": write_checkpoint,
    "ckpt.jax": write_checkpoint,
    "ckpt.meta": write_checkpoint,
    "theirs_ckpt.meta": copy_checkpoint,
    "model.pth": write_model_of,
    "model.hlo": write_model_of,
    "model.pb": write_model_of,
    "theirs.pb": copier(f"{CHECKPOINT}/frozen.pb"),
    "theirs.pth": copier("models/se_e2_a_oneside.pth"),
    "model.savedmodel": copy_saved,
    "program.savedmodeltf": write_program,
}
#: Kinds in which edited content gets a right checksum.
SIGNED = (
    "model.dp", "model.yaml", "ckpt.dp", "ckpt.jax", "ckpt.meta", "model.hlo", "model.pb",
    "model.savedmodel",
)  # fmt: skip
#: Kinds without a checksum of everything, in which damage to numbers cannot be found.
UNSIGNED = ("theirs.pb", "theirs_ckpt.meta", "program.savedmodeltf")
#: Packages without which a suffix or a file cannot be written or opened.
PACKAGES = {
    ".pt": ("torch",),
    ".pth": ("torch",),
    ".hlo": ("jax",),
    ".jax": ("jax",),
    ".pb": ("google.protobuf",),
    ".meta": ("google.protobuf",),
    "model.pb": ("tensorflow",),
    ".savedmodel": ("tensorflow",),
    ".savedmodeltf": ("tensorflow",),
}


def write(path: Path) -> Path:
    """Write the file of a name."""
    WRITERS[path.name](path)
    return path


def parts(path: Path) -> dict[str, bytes]:
    """Return the contents of the files of a model by suffix, those of a folder by their names in it."""
    if path.is_dir():
        found = (p for p in sorted(path.rglob("*")) if p.is_file())
        return {str(p.relative_to(path)): p.read_bytes() for p in found}
    prefix = str(path).removesuffix(path.suffix)
    suffixes = (META, INDEX, SHARD) if path.suffix == META else (path.suffix,)
    return {s: Path(prefix + s).read_bytes() for s in suffixes}


def write_or_skip(path: Path) -> Path:
    """Write the file of a name; skip the test where a package is missing."""
    import pytest

    needed = {*PACKAGES.get(path.suffix, ()), *PACKAGES.get(path.name, ())}
    for package in sorted(needed):
        pytest.importorskip(package)
    return write(path)


def fine(name: str) -> tuple[str, ...]:
    """Return the outcomes that are allowed for a kind."""
    return (*FINE, "wrong") if name in UNSIGNED else FINE


if __name__ == "__main__":
    write(Path(sys.argv[1]))
