# SPDX-License-Identifier: LGPL-3.0-or-later
"""Result of a check: what was found, the number it rests on, what to do."""

import dataclasses
from collections.abc import Iterable
from typing import Any

#: From the worst to the most harmless.
LEVELS = ("error", "warning", "note")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    level : {"error", "warning", "note"}
        Whether a training on it must go wrong, may go wrong, or this is for information.
    code : str
        Its kind, a word for programs.
    text : str
        One line, with the number.
    value : float, optional
        The number that it rests on.
    where : str
        File, system, frame or key of the input.
    fix : str
        How to mend it.
    """

    level: str
    code: str
    text: str
    value: float | None = None
    where: str = ""
    fix: str = ""

    def line(self) -> str:
        """Return the finding on one line."""
        where = f"{self.where}: " if self.where else ""
        fix = f"; {self.fix}" if self.fix else ""
        return f"{self.level}: {where}{self.text}{fix}"

    def as_dict(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return dataclasses.asdict(self)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings, the worst first."""
    return sorted(findings, key=lambda f: LEVELS.index(f.level))
