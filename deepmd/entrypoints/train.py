# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp train``: train a model."""

import argparse
import logging
from typing import Any

from deepmd.utils.errors import NotAvailableError

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of this command."""
    parser.add_argument("INPUT", help="input file, JSON or YAML")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "-i", "--init-model", metavar="PREFIX", help="start with the parameters of a checkpoint"
    )
    start.add_argument("-r", "--restart", metavar="PREFIX", help="continue from a checkpoint")
    start.add_argument(
        "-f", "--init-frz-model", metavar="FILE", help="start with the parameters of a model file"
    )
    start.add_argument(
        "-t", "--finetune", metavar="FILE", help="fine-tune a pre-trained model (not built yet)"
    )
    parser.add_argument(
        "--use-pretrain-script",
        action="store_true",
        help="take the model section from the pre-trained model",
    )
    parser.add_argument(
        "--model-branch",
        default="",
        metavar="NAME",
        help="branch of the pre-trained model that is fine-tuned",
    )
    parser.add_argument("--force-load", action="store_true", help="tolerate missing parameters")
    parser.add_argument(
        "-o", "--output", default="out.json", help="complete input, defaults filled in (out.json)"
    )
    parser.add_argument(
        "--skip-neighbor-stat",
        action="store_true",
        help='do not count neighbours first; sel must be numbers, not "auto"',
    )
    parser.add_argument(
        "-m",
        "--mpi-log",
        choices=["master", "collect", "workers"],
        default="master",
        help="which processes write log lines (master)",
    )


def train(
    *,
    INPUT: str,
    backend: str | None = None,
    finetune: str | None = None,
    use_pretrain_script: bool = False,
    model_branch: str = "",
    **options: Any,
) -> None:
    """Train a model as an input file says.

    The whole input is checked before any file is written.

    Parameters
    ----------
    INPUT : str
        Input file.
    backend : str, optional
        Name of the backend; None takes the first that can be used.
    finetune, use_pretrain_script, model_branch
        Fine-tuning, not built yet.
    **options
        Passed on to :func:`deepmd.train.entry.train`.
    """
    from deepmd.backend.backend import choose_backend
    from deepmd.schema import load_input, normalize
    from deepmd.utils.banner import banner

    if finetune is not None or use_pretrain_script or model_branch:
        raise NotAvailableError("known but not built yet", where="fine-tuning")
    normalize(load_input(INPUT), file=INPUT)
    chosen, why = choose_backend(backend)
    for line in banner(chosen.packages):
        log.info("%s", line)
    log.info("Backend: %s (%s)", chosen.name, why)

    from deepmd.train.entry import train as run

    run(INPUT=INPUT, backend=chosen(), **options)
