# SPDX-License-Identifier: LGPL-3.0-or-later
"""Outcome of ``dp test`` for programs and for the eye: JSON, HDF5, parity plots."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.base.errors import InputError, NotAvailableError
from deepmd.base.files import hdf5_bytes, replacing, write_text
from deepmd.entrypoints.compared_quantities import Kind, Rows

#: What was compared in one system, by the names of labels.
Found = Mapping[str, Rows]
#: Endings of plots, and points that one shows at most.
PLOT_SUFFIXES = (".png", ".pdf", ".svg")
_MOST = 20_000


class Outcome:
    """Collects what the options ask for, and writes it at the end.

    Parameters
    ----------
    model : str
    kind : Kind
    json_file, detail_hdf5, plot : str or None
        Files.
    """

    def __init__(
        self,
        model: str,
        kind: Kind,
        json_file: str | None,
        detail_hdf5: str | None,
        plot: str | None,
    ) -> None:
        self.model, self.kind = model, kind
        self.json_file, self.detail_hdf5, self.plot = json_file, detail_hdf5, plot
        #: Errors compared with their expected sizes, if that was asked for.
        self.uncertainty: Mapping[str, Any] | None = None
        self._metrics: list[tuple[str, int, Mapping[str, tuple[float, float]]]] = []
        self._found: list[tuple[str, Found]] = []

    def add(
        self, system: str, frames: int, metrics: Mapping[str, tuple[float, float]], found: Found
    ) -> None:
        """Take the outcome of one system; values are kept only if they will be written."""
        self._metrics.append((system, frames, metrics))
        if self.detail_hdf5 is not None or self.plot is not None:
            self._found.append((system, found))

    def write(self, average: Mapping[str, tuple[float, float]]) -> None:
        """Write the files."""
        if self.json_file is not None:
            write_json(self.json_file, self.model, self._metrics, average, self.uncertainty)
        if self.detail_hdf5 is not None:
            write_hdf5(self.detail_hdf5, self.kind, self._found)
        if self.plot is not None:
            draw(self.plot, self.kind, self._found)


def check_plot(path: str | None) -> None:
    """Raise InputError unless a plot of this name can be drawn here."""
    if path is None:
        return
    if Path(path).suffix not in PLOT_SUFFIXES:
        raise InputError(
            f'"{path}" is no plot', where="--plot", fix=f"end it with {', '.join(PLOT_SUFFIXES)}"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise NotAvailableError(
            "the package matplotlib is not installed",
            where="--plot",
            fix='pip install "deepmd-kit[plot]"',
        ) from None


def write_json(
    path: str,
    model: str,
    systems: Sequence[tuple[str, int, Mapping[str, tuple[float, float]]]],
    average: Mapping[str, tuple[float, float]],
    uncertainty: Mapping[str, Any] | None = None,
) -> None:
    """Write errors of every system, and their average.

    Parameters
    ----------
    path, model : str
    systems : sequence of (path, frames, metrics)
    average : dict
        Metrics: name -> (value, number of values).
    uncertainty : dict, optional
        Written as it is.
    """
    out: dict[str, Any] = {
        "model": str(model),
        "systems": [{"system": p, "frames": n, "errors": _values(m)} for p, n, m in systems],
        "average": _values(average),
    }
    if uncertainty is not None:
        out["uncertainty"] = dict(uncertainty)
    write_text(path, json.dumps(out, indent=2, ensure_ascii=False) + "\n")


def _values(metrics: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    return {name: value for name, (value, _) in metrics.items()}


def write_hdf5(path: str, kind: Kind, parts: Sequence[tuple[str, Found]]) -> None:
    """Write all values: a group per system with its path, in it one per quantity.

    A quantity has ``data`` and ``pred`` (n_rows, size), and ``frame`` and ``natoms`` (n_rows,).
    """

    def fill(handle: Any) -> None:
        for number, (system, found) in enumerate(parts):
            group = handle.create_group(f"system.{number:03d}")
            group.attrs["path"] = system
            for quantity in kind.quantities:
                rows = found.get(quantity.label.name)
                if rows is None:
                    continue
                inner = group.create_group(quantity.label.name)
                inner.attrs["unit"] = quantity.forms[0].unit
                for name, values in (
                    ("data", rows.data),
                    ("pred", rows.pred),
                    ("frame", rows.frame),
                ):
                    inner.create_dataset(name, data=values, compression="gzip", shuffle=True)
                inner.create_dataset("natoms", data=rows.natoms[:, 0].astype(np.int64))

    data = hdf5_bytes(fill)
    with replacing(path) as file:
        file.write(data)


def draw(path: str, kind: Kind, parts: Sequence[tuple[str, Found]]) -> None:
    """Draw predictions against labels, a panel per quantity."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = [q for q in kind.quantities if any(q.label.name in found for _, found in parts)]
    figure = Figure(figsize=(4.2 * len(panels), 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, quantity in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        form = next((f for f in quantity.forms if f.name.endswith("per_atom")), quantity.forms[0])
        pairs = [
            (form.of(rows.data, rows).ravel(), form.of(rows.pred, rows).ravel())
            for _, found in parts
            if (rows := found.get(quantity.label.name)) is not None
        ]
        data, pred = (np.concatenate(side) for side in zip(*pairs, strict=True))
        rmse = float(np.sqrt(np.mean(np.square(pred - data))))
        chosen = np.random.default_rng(0).permutation(len(data))[:_MOST]
        low, high = min(data.min(), pred.min()), max(data.max(), pred.max())
        axes.plot([low, high], [low, high], color="0.6", linewidth=1, zorder=0)
        axes.scatter(data[chosen], pred[chosen], s=4, alpha=0.5, linewidths=0, rasterized=True)
        unit = f" [{form.unit}]" if form.unit else ""
        axes.set(xlabel=f"label{unit}", ylabel=f"prediction{unit}", aspect="equal")
        title = form.title.replace("?", "").strip().strip("/").strip()
        axes.set_title(f"{title}: RMSE {rmse:.3g}{unit}", fontsize=10)
    memory = io.BytesIO()
    figure.savefig(memory, format=Path(path).suffix[1:], dpi=150)
    with replacing(path) as file:
        file.write(memory.getvalue())
