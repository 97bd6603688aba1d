# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp freeze``: write the model of a checkpoint as a model file."""

import logging
import os
from typing import Any

from deepmd.backend.backend import Backend, choose_backend
from deepmd.backend.detect import backend_of, output_of, refuse_same_file
from deepmd.base.errors import InputError, NotAvailableError
from deepmd.io.files import branch_of, check_head
from deepmd.train.checkpoints import find_checkpoints, read_newest

log = logging.getLogger(__name__)


def freeze(
    *,
    checkpoint_folder: str = ".",
    output: str = "frozen_model",
    head: str | None = None,
    backend: str | None = None,
    hessian: bool = False,
    precision: str | None = None,
    node_names: str | None = None,
    nvnmd_weight: str | None = None,
    **_: Any,
) -> str:
    """Write the model of a checkpoint as a model file and return its name.

    The options are those of ``dp freeze``. Without ``backend`` it is the one whose suffix ``output``
    has, else the one that wrote the checkpoint.
    """
    asked = {"--node-names": node_names, "--nvnmd-weight": nvnmd_weight}
    for option, value in asked.items():
        if value:
            raise NotAvailableError("known but not built yet", where=f"dp freeze {option}")
    source = checkpoint_backend(checkpoint_folder, backend)
    target = target_backend(output, backend, source)
    path = str(output_of(output, type(target)))
    source.require(reading=True)
    suffix = source.checkpoint_suffix or ""
    checkpoint, origin = read_newest(checkpoint_folder, suffix, source.read_checkpoint)
    refuse_same_file(origin, path)
    branch = branch_of(checkpoint.models, head, origin, checkpoint.model_params)
    check_head(branch, head)
    target.freeze(checkpoint, path, branch, hessian=hessian, precision=precision)
    for line in checkpoint.models[branch].warnings():
        log.warning(line)
    log.info("Saved frozen model to %s", path)
    return path


def target_backend(output: str, preferred: str | None, source: Backend) -> Backend:
    """Return the backend that writes ``output``: as asked, by suffix, or that of the checkpoint."""
    if preferred is not None:
        return choose_backend(preferred)[0]()
    for backend in Backend.get_backends().values():
        if output.lower().endswith(backend.suffixes):
            return backend_of(output)
    return source


def checkpoint_backend(given: str | os.PathLike[str], preferred: str | None = None) -> Backend:
    """Return the backend that wrote a checkpoint: by suffix, or by what there is.

    Parameters
    ----------
    given : str or path
        What the user named: a file, a prefix or a folder.
    preferred : str, optional
        Name of the backend that is tried first where ``given`` does not tell.
    """
    given = os.fspath(given)
    backends = [b for b in Backend.get_backends().values() if "read_checkpoint" in b.hooks]
    for backend in backends:
        if backend.checkpoint_suffix and given.endswith(backend.checkpoint_suffix):
            return backend()
    first = choose_backend(preferred)[0]
    for backend in [first, *backends]:
        try:
            if backend.checkpoint_suffix and find_checkpoints(given, backend.checkpoint_suffix):
                return backend()
        except InputError:
            continue
    return first()
