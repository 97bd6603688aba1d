# SPDX-License-Identifier: LGPL-3.0-or-later
"""Versions of the checkpoints of the architecture, and the steps from each to the next."""

from collections.abc import Callable, Mapping
from typing import Any

MODEL_VERSION = 1
TRAINER_VERSION = 1

#: By the version they start from: functions that change a checkpoint in place into the next one.
MODEL_UPGRADES: Mapping[int, Callable[[dict[str, Any]], None]] = {}
TRAINER_UPGRADES: Mapping[int, Callable[[dict[str, Any]], None]] = {}


def upgrade(
    checkpoint: dict[str, Any],
    key: str,
    current: int,
    steps: Mapping[int, Callable[[dict[str, Any]], None]],
) -> dict[str, Any]:
    """Return a checkpoint of the current version.

    Parameters
    ----------
    checkpoint : dict
    key : str
        Where its version is: ``model_ckpt_version`` or ``trainer_ckpt_version``.
    current : int
    steps : mapping
        See :data:`MODEL_UPGRADES`.

    Raises
    ------
    RuntimeError
        If there is no way from its version to the current one.
    """
    while checkpoint[key] in steps:
        version = checkpoint[key]
        steps[version](checkpoint)
        checkpoint[key] = version + 1
    if checkpoint[key] != current:
        kind = key.split("_", 1)[0]
        raise RuntimeError(
            f"Unable to upgrade the checkpoint: the checkpoint is using {kind} version "
            f"{checkpoint[key]}, while the current {kind} version is {current}."
        )
    return checkpoint
