# SPDX-License-Identifier: LGPL-3.0-or-later
"""What ``dp test`` compares of models that predict no energy."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import Label
from deepmd.entrypoints.test_kinds import TENSOR, Compared, Kind, Metrics, mae, rmse, write_columns


class TensorKind(Kind):
    """Dipoles and polarizabilities: of frames, or with ``atomic`` of atoms in their place."""

    def __init__(self, predictor: Any, *, atomic: bool) -> None:
        super().__init__(predictor, atomic=atomic)
        (self.variable,) = predictor.model.output_def().get_data().values()
        self.selected = [int(t) for t in predictor.get_sel_type()]

    @property
    def label(self) -> Label:
        """The tensor that is compared."""
        name, size = self.variable.label_name, self.variable.size
        if not self.atomic:
            return Label(name, size, atomic=False)
        return Label(f"atom_{name}", size, atomic=True, sel_type=tuple(self.selected))

    def labels(self) -> list[Label]:
        """What is read beside positions, cells and types."""
        return [self.label, *self.parameter_labels()]

    def compare(self, batch: Batch) -> Compared:
        """Evaluate frames."""
        (value,), real = self.evaluate(batch, atomic=self.atomic)
        chosen = np.isin(batch.atype, self.selected)
        counts = np.bincount(batch.frame[chosen], minlength=batch.n_frames)
        volume = np.zeros(batch.n_frames)
        if not batch.find.get(self.label.name):
            return Compared({}, {}, counts, volume)
        data = batch.labels[self.label.name]
        if self.atomic:
            data, value = data[chosen], value[real][chosen]
        return Compared({"tensor": data}, {"tensor": value}, counts, volume)

    def metrics(self, result: Compared) -> Metrics:
        """Errors of one system."""
        if not result.data:
            return {}
        error = result.error("tensor")
        n = np.maximum(result.natoms, 1).astype(np.float64)
        n = (np.repeat(n, result.natoms) if self.atomic else n)[:, None]
        scaled = {"": error, "_sqrt_n": error / np.sqrt(n), "_per_n": error / n}
        return {f"rmse{name}": (rmse(e), e.size) for name, e in scaled.items()}

    def lines(self, metrics: Metrics, *, average: bool = False) -> Iterator[str]:
        """How errors are reported."""
        title = self.variable.label_name.capitalize()
        for text, key in (
            ("RMSE", "rmse"),
            ("RMSE/sqrtN", "rmse_sqrt_n"),
            ("RMSE/N", "rmse_per_n"),
        ):
            if key in metrics and (key == "rmse" or not average):
                yield f"{title}  {text:<11}: {metrics[key][0]:e}"
        if not average:
            yield "The unit of error is the same as the unit of the labels"

    def write_details(self, result: Compared, prefix: str, system: str, *, group: int) -> None:
        """Write all values; ``group`` is the number of the system."""
        pair = result.data["tensor"], result.pred["tensor"]
        names = _COMPONENTS[self.variable.size]
        write_columns(prefix, ".out", system, names, pair, append=group > 0)


_COMPONENTS: dict[int, Sequence[str]] = {3: ("x", "y", "z"), 9: [v[1:] for v in TENSOR]}


class InvariantKind(Kind):
    """Numbers of frames, and of atoms if asked for: densities of states and properties."""

    #: Names of the detail files; lines, with the width of their first column and the unit.
    files: tuple[str, str]
    titles: tuple[tuple[str, str], ...]
    width: int
    unit: str

    def __init__(self, predictor: Any, *, atomic: bool) -> None:
        super().__init__(predictor, atomic=atomic)
        (self.variable,) = predictor.model.output_def().get_data().values()

    def labels(self) -> list[Label]:
        """What is read beside positions, cells and types."""
        name, size = self.variable.label_name, self.variable.size
        atoms = [Label(f"atom_{name}", size, atomic=True)] if self.atomic else []
        frames = Label(name, size, atomic=False, high_precision=True)
        return [frames, *atoms, *self.parameter_labels()]

    def compare(self, batch: Batch) -> Compared:
        """Evaluate frames."""
        out, real = self.evaluate(batch, atomic=self.atomic)
        pred = {"value": out[0]}
        if self.atomic:
            pred["atomic"] = out[1][real]
        name = self.variable.label_name
        files = {"value": name, "atomic": f"atom_{name}"}
        names = [n for n in pred if batch.find.get(files[n])]
        return Compared(
            {n: batch.labels[files[n]] for n in names},
            {n: pred[n] for n in names},
            batch.natoms,
            np.zeros(batch.n_frames),
        )

    def metrics(self, result: Compared) -> Metrics:
        """Errors of one system."""
        errors = {n: result.error(n) for n in result.data}
        if "value" in errors:
            errors["value_per_atom"] = errors["value"] / result.natoms[:, None]
        metrics: Metrics = {}
        for name, error in errors.items():
            metrics[f"mae_{name}"] = mae(error), error.size
            metrics[f"rmse_{name}"] = rmse(error), error.size
        return metrics

    def lines(self, metrics: Metrics, *, average: bool = False) -> Iterator[str]:
        """How errors are reported."""
        for title, name in self.titles:
            for kind in ("MAE", "RMSE"):
                key = f"{kind.lower()}_{name}"
                if key in metrics and not (average and name == "atomic"):
                    text = title.replace("?", kind)
                    yield f"{text:<{self.width}}: {metrics[key][0]:e} {self.unit}"

    def write_details(self, result: Compared, prefix: str, system: str, *, group: int) -> None:
        """Write one file per frame, of later systems with the number of the system in the name."""
        later = f".{group}" if group else ""
        for name, file in zip(("value", "atomic"), self.files, strict=True):
            if name not in result.data:
                continue
            ends = np.cumsum(result.natoms)[:-1] if name == "atomic" else len(result.natoms)
            parts = (np.array_split(v, ends) for v in (result.data[name], result.pred[name]))
            for frame, (data, pred) in enumerate(zip(*parts, strict=True)):
                pair = data.reshape(-1, 1), pred.reshape(-1, 1)
                suffix = f".{file}.out{later}.{frame}"
                where = f"{system} - {frame}"
                write_columns(prefix, suffix, where, (file,), pair, append=False)


class DOSKind(InvariantKind):
    """Densities of states."""

    files = ("dos", "ados")
    titles = (("DOS ?", "value"), ("DOS ?/Natoms", "value_per_atom"), ("Atomic DOS ?", "atomic"))
    width, unit = 19, "Occupation/eV"


class PropertyKind(InvariantKind):
    """Any properties."""

    files = ("property", "aproperty")
    titles = (("PROPERTY ?", "value"), ("Atomic PROPERTY ?", "atomic"))
    width, unit = 24, "units"
