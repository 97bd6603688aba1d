# SPDX-License-Identifier: LGPL-3.0-or-later
"""Training checkpoints, three files of one name: ``.meta``, ``.index``, ``.data-00000-of-00001``.

The last two hold tensors as TensorFlow stores them; the first says in a constant of its graph what
they are. It is written last, and has the checksum of the tensors.
"""

import os
import uuid
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from deepmd.base.files import replacing
from deepmd.graphs.ours import INDEX, META, SHARD, checkpoint_meta, checkpoint_parts
from deepmd.runtime.checkpoint import Checkpoint


def write_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint; every one of its files appears whole or not at all.

    Parameters
    ----------
    path : path
        Of the file ``.meta``.
    checkpoint : Checkpoint
    """
    text, tensors = checkpoint_parts(checkpoint)
    prefix = os.fspath(path).removesuffix(META)
    files = {f"{prefix}{suffix}": data for suffix, data in _bundle(tensors).items()}
    files[f"{prefix}{META}"] = checkpoint_meta(text, tensors)
    for name, data in files.items():
        with replacing(name) as file:
            file.write(data)


def _bundle(tensors: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the files that TensorFlow makes of tensors by suffix, the data first."""
    # In memory, so that the files are written as all others are.
    folder = f"ram://{uuid.uuid4().hex}"
    prefix = f"{folder}/checkpoint"
    tf.raw_ops.SaveV2(
        prefix=prefix,
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(x) for x in tensors.values()],
    )
    out = {}
    for suffix in (SHARD, INDEX):
        with tf.io.gfile.GFile(prefix + suffix, "rb") as file:
            out[suffix] = file.read()
        tf.io.gfile.remove(prefix + suffix)
    return out
