# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp convert-backend``: convert a model file into another kind."""

import logging
from typing import Any

from deepmd.backend.detect import backend_of, existing_model, refuse_same_file
from deepmd.base.errors import InputError
from deepmd.dpmodel.model import Model
from deepmd.io.files import branch_tree
from deepmd.runtime.precision import in_precision, log_errors

log = logging.getLogger(__name__)


def convert_backend(
    *, INPUT: str, OUTPUT: str, head: str | None = None, precision: str | None = None, **_: Any
) -> None:
    """Convert the model file ``INPUT`` into ``OUTPUT``; the suffixes say which kinds they are.

    Of a checkpoint with several branches, ``head`` names the one that is meant. ``precision`` is
    that of the networks.
    """
    OUTPUT = str(OUTPUT).rstrip("/")  # of folders
    target, source = backend_of(OUTPUT), backend_of(INPUT)
    if not OUTPUT.lower().endswith(target.suffixes):
        raise InputError(
            "training checkpoints cannot be written by a conversion",
            where=OUTPUT,
            fix=f"use one of {', '.join(target.suffixes)}",
        )
    refuse_same_file(existing_model(INPUT), OUTPUT)
    data = branch_tree(source.serialize_hook(INPUT), head, INPUT)
    original = data["model"]
    if precision is not None:
        data = in_precision(data, precision)
    target.deserialize_hook(OUTPUT, data)
    if precision is not None:
        log_errors(data, Model.deserialize(original), "the original")
    log.info("%s converted to %s", INPUT, OUTPUT)
