# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp doc-train-input``: describe the training input."""

import argparse
import json
import sys
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument(
        "--out-type",
        choices=["rst", "json", "json_schema"],
        default="rst",
        help="text, tree of arguments, or JSON schema for editors (rst)",
    )
    parser.add_argument("--multi-task", action="store_true", help="describe multi-task inputs")


def doc_train_input(*, out_type: str = "rst", multi_task: bool = False, **_: Any) -> None:
    """Print the description of the training input.

    Parameters
    ----------
    out_type : {"rst", "json", "json_schema"}
        Form of the output.
    multi_task : bool
        Whether to describe inputs of several tasks.
    """
    from dargs import Argument, ArgumentEncoder
    from dargs.json_schema import generate_json_schema

    from deepmd.schema import gen_args

    sections = gen_args(multi_task=multi_task)
    if out_type == "json":
        text = json.dumps(sections, cls=ArgumentEncoder, indent=2)
    elif out_type == "json_schema":
        schema = generate_json_schema(Argument("DeePMD-kit", dict, sections))
        text = json.dumps(schema, indent=2)
    else:
        text = "\n\n".join(s.gen_doc(make_anchor=True, make_link=True) for s in sections)
    sys.stdout.write(text + "\n")
