# SPDX-License-Identifier: LGPL-3.0-or-later
"""TensorBoard events, where a package that writes them is installed."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deepmd.base.errors import NotAvailableError
from deepmd.base.files import errors_name
from deepmd.io.files import SINGLE
from deepmd.train.metrics import Figures

# Package that must be there, module with the class ``SummaryWriter``.
_WRITERS = (("tensorboard", "torch.utils.tensorboard"), ("tensorboardX", "tensorboardX"))


class Events:
    """Figures as scalars of TensorBoard.

    Parameters
    ----------
    folder : str
        ``tensorboard_log_dir``.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        with errors_name(self.folder):
            self._writer = _writer(folder)

    def write(self, step: int, figures: Mapping[str, Figures], lr: float) -> None:
        """Write the figures of a step."""
        with errors_name(self.folder):
            for task, row in figures.items():
                branch = f"{task}/" if task != SINGLE else ""
                for name, value in row.items():
                    self._writer.add_scalar(f"{branch}{name}", value, step)
            self._writer.add_scalar("lr", lr, step)

    def close(self) -> None:
        """Flush and close the files."""
        with errors_name(self.folder):
            self._writer.close()


def _writer(folder: str) -> Any:
    for package, module in _WRITERS:
        try:
            importlib.import_module(package)
            return importlib.import_module(module).SummaryWriter(folder)
        except ImportError:
            continue
    raise NotAvailableError(
        "needs the package tensorboard (with torch) or tensorboardX, which is not installed",
        where="training/tensorboard",
        fix="install one of them, or set tensorboard to false",
    )
