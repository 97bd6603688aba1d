# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp diagnose``: what is wrong with a training."""

import json
import logging
import sys
from typing import Any

from deepmd.base.errors import InputError
from deepmd.base.files import write_text
from deepmd.insight.diagnosis import as_lines
from deepmd.insight.diagnosis import diagnose as find
from deepmd.insight.run import read_run

log = logging.getLogger(__name__)


def diagnose(
    *,
    RUN: str,
    numb_test: int = 200,
    json_file: str | None = None,
    head: str | None = None,
    **_: Any,
) -> None:
    """Log what is wrong with the training in a folder; options are those of the command."""
    if numb_test < 1:
        raise InputError(f"{numb_test} frames", where="--numb-test", fix="give at least 1")
    run = read_run(RUN)
    if head is not None:
        run = run.branch(head)
    if run.model is None:
        log.warning("%s: no checkpoint; only data and input are looked at", RUN)
    found = find(run, numb_test)
    text = json.dumps([f.as_dict() for f in found], indent=2, ensure_ascii=False) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
        return
    for line in as_lines(found, run.config):
        log.info("%s", line)
    if json_file is not None:
        write_text(json_file, text)
