# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp convert-from``: frozen TensorFlow models of old versions, and their text form."""

import logging
from typing import Any

from deepmd.backend.detect import existing_model, refuse_same_file
from deepmd.entrypoints.convert_backend import convert_backend
from deepmd.io.graph import graph_message, write_graph

log = logging.getLogger(__name__)

TEXT = ".pbtxt"


def convert_from(
    *,
    FROM: str = "auto",
    input_model: str = "frozen_model.pb",
    output_model: str = "convert_out.pb",
    **_: Any,
) -> None:
    """Convert a frozen model of any version of DeePMD-kit into a model file of today.

    Parameters
    ----------
    FROM : str
        Version that wrote it, which the file tells itself; ``"pbtxt"`` marks the text form.
    input_model, output_model : str
        A graph becomes text, and text a graph, where one of the two ends in ``.pbtxt``. Other
        suffixes are those of model files.
    """
    from_text = FROM == "pbtxt" or input_model.lower().endswith(TEXT)
    to_text = output_model.lower().endswith(TEXT)
    if not from_text and not to_text:
        convert_backend(INPUT=input_model, OUTPUT=output_model)
        return
    refuse_same_file(existing_model(input_model), output_model)
    write_graph(output_model, graph_message(input_model, text=from_text))
    log.info("%s converted to %s", input_model, output_model)
