# SPDX-License-Identifier: LGPL-3.0-or-later
"""Descriptions of the training input: text, arguments and schema."""

import json
from typing import Any

from dargs import Argument, ArgumentEncoder
from dargs.json_schema import generate_json_schema

from deepmd.schema.tree import gen_args


def gen_doc(
    *, make_anchor: bool = True, make_link: bool = True, multi_task: bool = False, **options: Any
) -> str:
    """Return the description of the input as reStructuredText."""
    options |= {"make_anchor": make_anchor, "make_link": make_link}
    return "\n\n".join(s.gen_doc(**options) for s in gen_args(multi_task=multi_task))


def gen_json(multi_task: bool = False, **_: Any) -> str:
    """Return the arguments of the input as JSON."""
    return json.dumps(gen_args(multi_task=multi_task), cls=ArgumentEncoder, indent=2)


def gen_json_schema(multi_task: bool = False) -> str:
    """Return the JSON schema of the input."""
    whole = Argument("DeePMD-kit", dict, gen_args(multi_task=multi_task))
    return json.dumps(generate_json_schema(whole), indent=2)
