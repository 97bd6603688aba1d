# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp freeze``: write the model of a checkpoint as a model file."""

import argparse
import logging
from typing import TYPE_CHECKING, Any

from deepmd.entrypoints import options
from deepmd.utils.errors import NotAvailableError

if TYPE_CHECKING:
    from deepmd.backend.backend import Backend

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument(
        "-c",
        "--checkpoint-folder",
        "--checkpoint",
        default=".",
        metavar="PATH",
        help='checkpoint, or folder whose file "checkpoint" names one (.)',
    )
    parser.add_argument(
        "-o",
        "--output",
        default="frozen_model",
        help="model file; the suffix of the backend takes the place of any other (frozen_model)",
    )
    options.add_head(parser)
    for flags, text in (
        (("-n", "--node-names"), "names of nodes (TensorFlow)"),
        (("-w", "--nvnmd-weight"), "weights for hardware (TensorFlow)"),
    ):
        parser.add_argument(*flags, help=text)
    parser.add_argument(
        "--hessian", action="store_true", help="let the model give the Hessian of its energy, too"
    )
    parser.add_argument(
        "--lower-kind",
        choices=["nlist", "graph"],
        default="nlist",
        help="accepted for compatibility",
    )


def freeze(
    *,
    checkpoint_folder: str = ".",
    output: str = "frozen_model",
    head: str | None = None,
    backend: str | None = None,
    hessian: bool = False,
    node_names: str | None = None,
    nvnmd_weight: str | None = None,
    **_: Any,
) -> str:
    """Write the model of a checkpoint as a model file and return its name.

    Parameters
    ----------
    checkpoint_folder : str
        Checkpoint, its prefix, or a folder with a file ``checkpoint``.
    output : str
        Name of the model file; its suffix becomes that of the backend.
    head : str, optional
        Branch of a multi-task model.
    backend : str, optional
        Backend of the model file; by default the one that wrote the checkpoint.
    hessian : bool
        Let the model give second derivatives of its energy by default.
    node_names, nvnmd_weight
        Not built yet.
    """
    from deepmd.backend.backend import choose_backend
    from deepmd.backend.detect import with_suffix_of
    from deepmd.io.files import branch_of
    from deepmd.train.cautions import warn_of_order
    from deepmd.train.checkpoints import read_newest

    asked = {"--node-names": node_names, "--nvnmd-weight": nvnmd_weight}
    for option, value in asked.items():
        if value:
            raise NotAvailableError("known but not built yet", where=f"dp freeze {option}")
    target = choose_backend(backend)[0]() if backend is not None else None
    source = checkpoint_backend(checkpoint_folder, target)
    target = target or source
    path = str(with_suffix_of(output, type(target)))
    source.require()
    suffix = source.checkpoint_suffix or ""
    checkpoint = read_newest(checkpoint_folder, suffix, source.read_checkpoint)[0]
    target.freeze(checkpoint, path, head, hessian=hessian)
    warn_of_order(checkpoint.models[branch_of(checkpoint.models, head, "--head")])
    log.info("Saved frozen model to %s", path)
    return path


def checkpoint_backend(given: str, preferred: "Backend | None" = None) -> "Backend":
    """Return the backend that wrote a checkpoint: by suffix, or by what there is.

    Parameters
    ----------
    given : str
        What the user named: a file, a prefix or a folder.
    preferred : Backend, optional
        Tried first where the name does not tell.
    """
    from deepmd.backend.backend import Backend, choose_backend
    from deepmd.train.checkpoints import find_checkpoints
    from deepmd.utils.errors import InputError

    backends = [b for b in Backend.get_backends().values() if b.features & Backend.Feature.TRAIN]
    for backend in backends:
        if backend.checkpoint_suffix and given.endswith(backend.checkpoint_suffix):
            return backend()
    first = type(preferred) if preferred is not None else choose_backend(None)[0]
    for backend in [first, *backends]:
        try:
            if backend.checkpoint_suffix and find_checkpoints(given, backend.checkpoint_suffix):
                return backend()
        except InputError:
            continue
    return first()
