# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp doc-train-input``: describe the training input."""

import sys
from collections.abc import Callable
from typing import Any

from deepmd.entrypoints.commands import check_choices
from deepmd.schema.describe import gen_doc, gen_json, gen_json_schema

_WRITERS: dict[str, Callable[..., str]] = {
    "rst": gen_doc,
    "json": gen_json,
    "json_schema": gen_json_schema,
}


def doc_train_input(*, out_type: str = "rst", multi_task: bool = False, **_: Any) -> None:
    """Print the description of the training input; the options are those of the command."""
    check_choices("doc-train-input", out_type=out_type)
    sys.stdout.write(_WRITERS[out_type](multi_task=multi_task) + "\n")
