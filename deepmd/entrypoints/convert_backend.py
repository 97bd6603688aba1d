# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp convert-backend``: convert a model file into another kind."""

import argparse
import logging
from typing import Any

from deepmd.utils.errors import InputError

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument("INPUT", help="model file to read")
    parser.add_argument("OUTPUT", help="model file to write; its suffix says the kind")
    parser.add_argument(
        "--atomic-virial",
        action="store_true",
        help="accepted for compatibility; every kind of file can give atomic virials",
    )


def convert_backend(*, INPUT: str, OUTPUT: str, **_: Any) -> None:
    """Convert a model file; the suffixes say from which kind into which.

    Parameters
    ----------
    INPUT, OUTPUT : str
        File to read and file to write.
    """
    from deepmd.backend.detect import backend_of, existing_model

    target, source = backend_of(OUTPUT), backend_of(INPUT)
    if not OUTPUT.lower().endswith(target.suffixes):
        raise InputError(
            "training checkpoints cannot be written by a conversion",
            where=OUTPUT,
            fix=f"use one of {', '.join(target.suffixes)}",
        )
    data = source.serialize_hook(existing_model(INPUT))
    target.deserialize_hook(OUTPUT, data)
    log.info("%s converted to %s", INPUT, OUTPUT)
