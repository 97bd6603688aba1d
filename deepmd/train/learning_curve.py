# SPDX-License-Identifier: LGPL-3.0-or-later
"""``lcurve.out``: a row of errors every few steps, readable while the training goes on."""

import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from deepmd.base.files import append_text, write_text
from deepmd.train.metrics import Figures

log = logging.getLogger(__name__)

_NOTE = "# If there is no available reference data, rmse_*_{val,trn} will print nan\n"


class LearningCurve:
    """A text file with one header and one row per shown step.

    Parameters
    ----------
    path : str, path or None
        None: nothing is written, since another process writes it.
    names : dict of str to list of str
        Figures of each task, in the order of the columns.
    validated : collection of str
        Tasks with validation data; they have two columns per figure.
    step : int
        Steps already taken. 0 begins a new file; otherwise the rows up to this step are kept and
        later ones, of a run that was continued from an earlier checkpoint, are removed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        names: Mapping[str, list[str]],
        *,
        validated: Collection[str] = (),
        step: int = 0,
    ) -> None:
        self.path = None if path is None else Path(path)
        self.names, self.validated = dict(names), set(validated)
        if self.path is None:
            return
        kept = self._rows_up_to(self.path, step) if step and self.path.is_file() else []
        write_text(self.path, self.header() + "".join(kept))

    def header(self) -> str:
        """Return the first two lines."""
        line = "# step "
        for task, name in self._figures():
            branch = f"_{task}" if len(self.names) > 1 else ""
            valid = f"{f'{name}_val{branch}':>11} " if task in self.validated else ""
            line += f"   {valid}{f'{name}_trn{branch}':>11}"
        return f"{line}   {'lr':<8}\n{_NOTE}"

    def _figures(self) -> list[tuple[str, str]]:
        return [(task, name) for task, names in self.names.items() for name in names]

    def _rows_up_to(self, path: Path, step: int) -> list[str]:
        header = self.header()
        text = path.read_text(encoding="utf-8", errors="replace")
        if not text.startswith(header):
            # Other columns: rows of two kinds in one file could not be read by anything.
            aside = path.with_name(f"{path.name}.before-step-{step}")
            write_text(aside, text)
            log.warning("%s has other columns than before; it was kept as %s", path, aside)
            return []
        width = len(header.splitlines()[0].split()) - 1
        kept = []
        for line in text.removeprefix(header).splitlines(keepends=True):
            words = line.split()
            # A row cut off by a crash lacks its end.
            if not line.endswith("\n") or len(words) != width or not words[0].isdecimal():
                continue
            if int(words[0]) <= step:
                kept.append(line)
        return kept

    def write(
        self, step: int, trained: Mapping[str, Figures], valid: Mapping[str, Figures], lr: float
    ) -> None:
        """Append a row; whoever reads the file sees it at once."""
        if self.path is None:
            return
        line = f"{step:7d}"
        for task, name in self._figures():
            first = f"{valid[task][name]:11.2e} " if task in self.validated else ""
            line += f"   {first}{trained[task][name]:11.2e}"
        append_text(self.path, f"{line}   {lr:8.1e}\n")
