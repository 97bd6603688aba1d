# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checkpoints of DeePMD-kit's TensorFlow backend, ``model.ckpt-N.{meta,index,data-*}``.

The graph in ``.meta`` says what the model is, the other two files hold its arrays.
"""

import os
import re
from typing import Any

from deepmd.base.errors import ModelFileError
from deepmd.graphs.files import min_nbor_dist_in, model_of
from deepmd.graphs.ours import STEP, is_ours, own_checkpoint
from deepmd.io.files import SINGLE
from deepmd.io.graph import read_bundle, read_meta_graph
from deepmd.io.guard import opening
from deepmd.runtime.checkpoint import Checkpoint

_SUFFIXES = r"\.(meta|index|data-\d+-of-\d+)$"
#: What the optimizer keeps of every array, and of the training.
_OPTIMIZER = re.compile(
    r"(.*/(Adam|Adam_1|Momentum|RMSProp|ExponentialMovingAverage)|beta\d_power)$"
)


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint: ours with all that a restart needs, of DeePMD-kit's the model.

    Parameters
    ----------
    path : path
        One of the three files, or what their names begin with.

    Raises
    ------
    ModelFileError
        If a file is missing or damaged, or the model is of a form that is not known.
    """
    prefix = re.sub(_SUFFIXES, "", os.fspath(path))
    graph = read_meta_graph(f"{prefix}.meta")
    if is_ours(graph):
        with opening(path, "use the checkpoint before it"):
            return own_checkpoint(graph, read_bundle(prefix))
    tensors = read_bundle(prefix, lambda name: not _OPTIMIZER.match(name))
    with opening(path):
        if STEP not in tensors:
            raise ModelFileError(f'has no "{STEP}": it is no checkpoint of a training')

        def find(name: str) -> Any:
            return tensors[name] if name in tensors else graph.constant(name)

        section, model = model_of(graph, find, known=[n for n in tensors if n != STEP])
        return Checkpoint(
            {SINGLE: model},
            section,
            step=int(tensors[STEP]),
            min_nbor_dist=min_nbor_dist_in(graph),
            backend="TensorFlow",
        )
