# SPDX-License-Identifier: LGPL-3.0-or-later
"""Rules by which operations of PyTorch become those of a stored program, by their names."""

from collections.abc import Callable
from typing import Any

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Return a decorator that files the rule of an operation under its names."""

    def decorate(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return decorate
