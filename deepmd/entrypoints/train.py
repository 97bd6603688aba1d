# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp train``: train a model."""

import logging
from typing import Any

from deepmd.backend.backend import choose_backend
from deepmd.schema import load_input, normalize
from deepmd.utils.banner import banner
from deepmd.utils.errors import NotAvailableError

log = logging.getLogger(__name__)


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

    The options are those of ``dp train``; without ``backend`` the first that can be used trains.
    """
    if finetune is not None or use_pretrain_script or model_branch:
        raise NotAvailableError("known but not built yet", where="fine-tuning")
    normalize(load_input(INPUT), file=INPUT)
    chosen, why = choose_backend(backend)
    for line in banner(chosen.packages):
        log.info("%s", line)
    log.info("Backend: %s (%s)", chosen.name, why)

    from deepmd.train.entry import train as run  # the lines above come first: this takes long

    run(INPUT=INPUT, backend=chosen(), **options)
