# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp doc-train-input``: describe the training input."""

import json
import sys
from typing import Any

from dargs import Argument, ArgumentEncoder
from dargs.json_schema import generate_json_schema

from deepmd.entrypoints.commands import check_choices
from deepmd.schema import gen_args


def doc_train_input(*, out_type: str = "rst", multi_task: bool = False, **_: Any) -> None:
    """Print the description of the training input; the options are those of the command."""
    check_choices("doc-train-input", out_type=out_type)
    sections = gen_args(multi_task=multi_task)
    if out_type == "json":
        text = json.dumps(sections, cls=ArgumentEncoder, indent=2)
    elif out_type == "json_schema":
        schema = generate_json_schema(Argument("DeePMD-kit", dict, sections))
        text = json.dumps(schema, indent=2)
    else:
        text = "\n\n".join(s.gen_doc(make_anchor=True, make_link=True) for s in sections)
    sys.stdout.write(text + "\n")
