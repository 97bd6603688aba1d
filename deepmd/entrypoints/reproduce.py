# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp reproduce``: a training done again, and compared."""

import json
import logging
import os
from typing import Any

from deepmd.backend.backend import Backend
from deepmd.base.errors import InputError
from deepmd.entrypoints.train import train
from deepmd.insight.comparison import differences
from deepmd.insight.reproduction import changes, prepare
from deepmd.insight.run import read_run

log = logging.getLogger(__name__)


def reproduce(*, RUN: str, output: str | None = None, **_: Any) -> None:
    """Train again in a new folder; status 1 if something comes out otherwise.

    Parameters
    ----------
    RUN : str
    output : str, optional
        New folder; by default RUN with ``-again``.
    """
    run = read_run(RUN)
    names = {b.name: key for key, b in Backend.get_backends().items()}
    folder = prepare(run, output or f"{os.path.normpath(RUN)}-again")
    backend = names.get(run.record["backend"])
    if backend is None:
        raise InputError(f'unknown backend "{run.record["backend"]}"', where=f"{RUN}/run.json")
    again = os.path.abspath(folder)
    with run.inside():
        os.chdir(again)
        train(INPUT="input.json", backend=backend)
    new = read_run(again)
    for line in changes(run, new.record["versions"], new.record["machine"]):
        log.warning("%s", line)
    ignored = ("input/training/", "machine/processes")
    found = [f for f in differences(run.folder, again) if not f.startswith(ignored)]
    for line in found:
        log.info("%s", line)
    curve = run.config["training"]["disp_file"]
    same = (run.folder / curve).read_bytes() == (new.folder / curve).read_bytes()
    log.info("learning curve %s; %s", "equal byte for byte" if same else "differs", "model equal to the last bit" if not found else json.dumps(len(found)) + " differences")  # fmt: skip
    if found or not same:
        raise SystemExit(1)
