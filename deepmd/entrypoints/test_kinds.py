# SPDX-License-Identifier: LGPL-3.0-or-later
"""What ``dp test`` compares, for every kind of model."""

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import Label
from deepmd.utils.errors import NotAvailableError

#: Name of an error -> value, and the number of values it was taken over.
Metrics = dict[str, tuple[float, float]]


@dataclasses.dataclass
class Compared:
    """Labels and predictions of frames; a quantity without label is absent.

    Attributes
    ----------
    data, pred : dict of str to array
        (n_frames, size) for a quantity of frames, (n_atoms, size) for one of atoms.
    natoms : (n_frames,) int64
        Of tensors: atoms of the types that are predicted.
    volume : (n_frames,) float64 [Å³]
        0 for open systems.
    weight : (n_atoms, 1) or None
        Weights of force components, of ``atom_pref.npy``.
    """

    data: dict[str, np.ndarray]
    pred: dict[str, np.ndarray]
    natoms: np.ndarray
    volume: np.ndarray
    weight: np.ndarray | None = None

    def error(self, name: str) -> np.ndarray:
        """Prediction minus label."""
        return self.pred[name] - self.data[name]


class Kind(ABC):
    """One kind of model: which labels it is compared with, and how errors are reported.

    Parameters
    ----------
    predictor : DeepEval
        The opened model.
    atomic : bool
        Whether atomic values are compared, too.
    """

    def __init__(self, predictor: Any, *, atomic: bool) -> None:
        self.predictor, self.atomic = predictor, atomic
        self.type_map: list[str] = list(predictor.get_type_map())

    @abstractmethod
    def labels(self) -> list[Label]:
        """What is read beside positions, cells and types."""

    @abstractmethod
    def compare(self, batch: Batch) -> Compared:
        """Evaluate frames."""

    @abstractmethod
    def metrics(self, result: Compared) -> Metrics:
        """Errors of one system."""

    @abstractmethod
    def lines(self, metrics: Metrics, *, average: bool = False) -> Iterator[str]:
        """How errors are reported."""

    @abstractmethod
    def write_details(self, result: Compared, prefix: str, system: str, *, group: int) -> None:
        """Write all values; ``group`` is the number of the system."""

    @staticmethod
    def join(parts: Sequence[Compared]) -> Compared:
        """Put chunks of one system together."""
        first = parts[0]
        return Compared(
            {k: np.concatenate([p.data[k] for p in parts]) for k in first.data},
            {k: np.concatenate([p.pred[k] for p in parts]) for k in first.pred},
            np.concatenate([p.natoms for p in parts]),
            np.concatenate([p.volume for p in parts]),
            None
            if first.weight is None
            else np.concatenate([p.weight for p in parts if p.weight is not None]),
        )

    def parameter_labels(self) -> list[Label]:
        """Frame and atomic parameters of the model."""
        return parameter_labels(self.predictor)

    def evaluate(self, batch: Batch, **options: Any) -> tuple[list[np.ndarray], np.ndarray]:
        """Evaluate frames of any sizes.

        Returns
        -------
        list of array, array
            What ``eval`` returned, for padded frames, and which atoms are real, (n_frames, n).
        """
        given, real = padded(batch)
        out = self.predictor.eval(**given, **options)
        out = (out,) if isinstance(out, np.ndarray) else out
        return [np.asarray(v) for v in out], real


def parameter_labels(predictor: Any) -> list[Label]:
    """Frame and atomic parameters of a model, read with its data."""
    found = []
    nf, na = predictor.get_dim_fparam(), predictor.get_dim_aparam()
    if nf:
        has_default = bool(getattr(predictor, "has_default_fparam", lambda: False)())
        found.append(Label("fparam", nf, atomic=False, required=not has_default))
    if na:
        found.append(Label("aparam", na, atomic=True, required=True))
    return found


def padded(batch: Batch) -> tuple[dict[str, Any], np.ndarray]:
    """Arguments of ``eval`` for frames of any sizes.

    Returns
    -------
    dict, array
        The arguments, smaller frames filled up with virtual atoms, and which atoms are real,
        (n_frames, n).
    """
    nf, width = batch.n_frames, int(batch.natoms.max())
    real = np.arange(width) < batch.natoms[:, None]
    coord, atype = np.zeros((nf, width, 3)), np.full((nf, width), -1, dtype=np.int64)
    coord[real], atype[real] = batch.coord, batch.atype
    mixed = bool((atype != atype[0]).any())
    aparam = None
    if batch.aparam is not None:
        aparam = np.zeros((nf, width, batch.aparam.shape[1]))
        aparam[real] = batch.aparam
    given = {
        "coords": coord,
        "cells": batch.cell.reshape(nf, 9) if batch.periodic.any() else None,
        "atom_types": atype if mixed else atype[0],
        "mixed_type": mixed,
        "fparam": batch.fparam if batch.find.get("fparam") else None,
        "aparam": aparam,
    }
    return given, real


def mae(error: np.ndarray) -> float:
    """Mean of absolute values."""
    return float(np.abs(error).mean())


def rmse(error: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.square(error).mean()))


class EnergyKind(Kind):
    """Energy, force, virial; atomic energies and Hessian if asked for or there."""

    def labels(self) -> list[Label]:
        """What is read beside positions, cells and types."""
        more = [Label("atom_ener", 1, atomic=True)] if self.atomic else []
        if getattr(self.predictor, "has_hessian", False):
            more.append(Label("hessian", 1, atomic=False, pairwise=True))
        return [
            Label("energy", 1, atomic=False, high_precision=True),
            Label("force", 3, atomic=True),
            Label("virial", 9, atomic=False),
            Label("atom_pref", 1, atomic=True),
            *more,
            *self.parameter_labels(),
        ]

    def compare(self, batch: Batch) -> Compared:
        """Evaluate frames."""
        out, real = self.evaluate(batch, atomic=self.atomic)
        pred = {"energy": out[0].reshape(-1, 1), "force": out[1].reshape(*real.shape, 3)[real]}
        if batch.periodic.all():
            pred["virial"] = out[2].reshape(-1, 9)
        if self.atomic:
            pred["atom_ener"] = out[3].reshape(*real.shape, 1)[real]
        if "hessian" in batch.labels:
            pred["hessian"] = out[-1].reshape(batch.n_frames, -1)
        names = [n for n in pred if batch.find.get(n)]
        return Compared(
            {n: batch.labels[n].reshape(pred[n].shape) for n in names},
            {n: pred[n] for n in names},
            batch.natoms,
            np.abs(np.linalg.det(batch.cell)),
            batch.labels["atom_pref"] if batch.find.get("atom_pref") else None,
        )

    def metrics(self, result: Compared) -> Metrics:
        """Errors of one system."""
        natoms = result.natoms[:, None]
        errors = {n: result.error(n) for n in result.data}
        if "energy" in errors:
            errors["energy_per_atom"] = errors["energy"] / natoms
        if "virial" in errors:
            errors["virial_per_atom"] = errors["virial"] / natoms
            errors["stress"] = errors["virial"] / result.volume[:, None]
        metrics: Metrics = {}
        for name, error in errors.items():
            metrics[f"mae_{name}"] = mae(error), error.size
            metrics[f"rmse_{name}"] = rmse(error), error.size
        if "force" in errors and result.weight is not None and result.weight.sum() > 0:
            weight = np.broadcast_to(result.weight, errors["force"].shape)
            total = float(weight.sum())
            metrics["mae_weighted"] = float((np.abs(errors["force"]) * weight).sum() / total), total
            square = float((np.square(errors["force"]) * weight).sum() / total)
            metrics["rmse_weighted"] = square**0.5, total
        return metrics

    def lines(self, metrics: Metrics, *, average: bool = False) -> Iterator[str]:
        """How errors are reported."""
        for text, name, unit in _ENERGY_LINES:
            for kind in ("MAE", "RMSE"):
                key = f"{kind.lower()}_{name}"
                if key in metrics and not (average and name == "atom_ener"):
                    yield f"{text.replace('?', kind):<19}: {metrics[key][0]:e} {unit}"

    def write_details(self, result: Compared, prefix: str, system: str, *, group: int) -> None:
        """Write all values; ``group`` is the number of the system."""
        natoms, append = result.natoms[:, None], group > 0
        for name, suffix, columns in _ENERGY_FILES:
            if name not in result.data:
                continue
            pair = result.data[name], result.pred[name]
            if name == "hessian":
                pair = pair[0].reshape(-1, 1), pair[1].reshape(-1, 1)
            write_columns(prefix, suffix, system, columns, pair, append=append)
            if name in ("energy", "virial"):
                per_atom = pair[0] / natoms, pair[1] / natoms
                file = suffix.replace(".out", "_peratom.out")
                write_columns(prefix, file, system, columns, per_atom, append=append)
            if name == "virial":
                volume = -result.volume[:, None]
                stress = pair[0] / volume, pair[1] / volume
                names = [c.replace("v", "s", 1) for c in columns]
                write_columns(prefix, ".s.out", system, names, stress, append=append, unit="eV/Å³")


_ENERGY_LINES = (
    ("Energy ?", "energy", "eV"),
    ("Energy ?/Natoms", "energy_per_atom", "eV"),
    ("Force  ?", "force", "eV/Å"),
    ("Force weighted ?", "weighted", "eV/Å"),
    ("Virial ?", "virial", "eV"),
    ("Virial ?/Natoms", "virial_per_atom", "eV"),
    ("Stress ?", "stress", "eV/Å³"),
    ("Atomic ener ?", "atom_ener", "eV"),
    ("Hessian ?", "hessian", "eV/Å^2"),
)
_TENSOR = ("vxx", "vxy", "vxz", "vyx", "vyy", "vyz", "vzx", "vzy", "vzz")
#: Quantity, suffix of its file, columns.
_ENERGY_FILES: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("energy", ".e.out", ("e",)),
    ("force", ".f.out", ("fx", "fy", "fz")),
    ("virial", ".v.out", _TENSOR),
    ("hessian", ".h.out", ("h",)),
)


def write_columns(
    prefix: str,
    suffix: str,
    system: str,
    columns: Sequence[str],
    pair: tuple[np.ndarray, np.ndarray],
    *,
    append: bool,
    unit: str = "",
) -> None:
    """Write labels and predictions side by side, one row per frame or atom."""
    path = Path(prefix).with_suffix(suffix)
    names = " ".join([f"data_{c}" for c in columns] + [f"pred_{c}" for c in columns])
    header = f"{system}: {names}" + (f" ({unit})" if unit else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a" if append else "w", encoding="utf-8") as handle:
        np.savetxt(handle, np.hstack(pair), header=header)


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


_COMPONENTS: dict[int, Sequence[str]] = {3: ("x", "y", "z"), 9: [v[1:] for v in _TENSOR]}


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


def open_kind(path: str | os.PathLike[str], *, head: str | None, atomic: bool) -> Kind:
    """Open a model and return what it is compared with."""
    from deepmd.infer import DeepDOS, DeepEval, DeepPot, DeepProperty
    from deepmd.infer.deep_tensor import DeepTensor

    predictor = DeepEval(path, head=head)
    kinds: tuple[tuple[type, type[Kind]], ...] = (
        (DeepPot, EnergyKind),
        (DeepTensor, TensorKind),
        (DeepDOS, DOSKind),
        (DeepProperty, PropertyKind),
    )
    for known, kind in kinds:
        if isinstance(predictor, known):
            return kind(predictor, atomic=atomic)
    raise NotAvailableError(
        f"it predicts {', '.join(predictor.model.kinds())}, which cannot be compared here",
        where=path,
    )
