# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp diff``: how two trainings or models differ."""

import logging
from typing import Any

from deepmd.insight.comparison import differences

log = logging.getLogger(__name__)


def diff(*, FIRST: str, SECOND: str, **_: Any) -> None:
    """Log what differs; status 1 if anything does."""
    found = differences(FIRST, SECOND)
    for line in found or ["no difference"]:
        log.info("%s", line)
    if found:
        raise SystemExit(1)
