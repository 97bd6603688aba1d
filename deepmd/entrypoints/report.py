# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp report``: a training as one HTML file."""

import logging
from typing import Any

from deepmd.base.errors import InputError
from deepmd.base.files import write_text
from deepmd.insight.page import make_report
from deepmd.insight.printing import printer, write_pdf
from deepmd.insight.run import read_run

log = logging.getLogger(__name__)


def report(
    *,
    RUN: str,
    output: str = "report.html",
    pdf: str | None = None,
    numb_test: int = 300,
    head: str | None = None,
    **_: Any,
) -> None:
    """Write the report of the folder of a training; options are those of the command."""
    if numb_test < 1:
        raise InputError(f"{numb_test} frames", where="--numb-test", fix="give at least 1")
    make = None if pdf is None else printer()  # before anything is evaluated
    run = read_run(RUN).branch(head)
    if run.model is None:
        log.warning("%s: no checkpoint; the report has no errors of predictions", RUN)
    text = make_report(run, numb_test)
    write_text(output, text)
    log.info("wrote %s (%.0f kB)", output, len(text) / 1000)
    if pdf is not None and make is not None:
        log.info("wrote %s (%.0f kB)", pdf, write_pdf(pdf, text, make) / 1000)
