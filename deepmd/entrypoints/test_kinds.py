# SPDX-License-Identifier: LGPL-3.0-or-later
"""What ``dp test`` compares, for every kind of model."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.dpmodel.batch import Batch
from deepmd.dpmodel.label import Label, parameter_labels

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
        return parameter_labels(self.predictor.model)

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
    given: dict[str, Any] = {
        "coords": coord,
        "cells": batch.cell.reshape(nf, 9) if batch.periodic.any() else None,
        "atom_types": atype if mixed else atype[0],
        "mixed_type": mixed,
    }
    for name in ("fparam", "charge_spin"):
        if batch.find.get(name):
            given[name] = getattr(batch, name)
    for name, values in (("aparam", batch.aparam), ("spin", batch.spin)):
        if values is not None:
            given[name] = np.zeros((nf, width, values.shape[1]))
            given[name][real] = values
    return given, real


def mae(error: np.ndarray) -> float:
    """Mean of absolute values."""
    return float(np.abs(error).mean())


def rmse(error: np.ndarray) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.square(error).mean()))


#: Names of the components of a tensor.
TENSOR = ("vxx", "vxy", "vxz", "vyx", "vyy", "vyz", "vzx", "vzy", "vzz")


class EnergyKind(Kind):
    """Energy, force, virial; atomic energies and Hessian if asked for or there."""

    #: Line, name of the error, unit.
    report: tuple[tuple[str, str, str], ...] = (
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
    #: Quantity, suffix of its file, columns.
    files: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("energy", ".e.out", ("e",)),
        ("force", ".f.out", ("fx", "fy", "fz")),
        ("virial", ".v.out", TENSOR),
        ("hessian", ".h.out", ("h",)),
    )

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
        pred = self.quantities(*self.evaluate(batch, atomic=self.atomic), batch)
        names = [n for n in pred if batch.find.get(n)]
        return Compared(
            {n: batch.labels[n].reshape(pred[n].shape) for n in names},
            {n: pred[n] for n in names},
            batch.natoms,
            np.abs(np.linalg.det(batch.cell)),
            batch.labels["atom_pref"] if batch.find.get("atom_pref") else None,
        )

    def quantities(self, out: list[np.ndarray], real: np.ndarray, batch: Batch) -> dict[str, Any]:
        """Predictions by the name of their label."""
        pred = {"energy": out[0].reshape(-1, 1), "force": out[1].reshape(*real.shape, 3)[real]}
        if batch.periodic.all():
            pred["virial"] = out[2].reshape(-1, 9)
        if self.atomic:
            pred["atom_ener"] = out[3].reshape(*real.shape, 1)[real]
        if "hessian" in batch.labels:
            pred["hessian"] = out[-1].reshape(batch.labels["hessian"].shape)
        return pred

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
        for text, name, unit in self.report:
            for kind in ("MAE", "RMSE"):
                key = f"{kind.lower()}_{name}"
                if key in metrics and not (average and name == "atom_ener"):
                    yield f"{text.replace('?', kind):<19}: {metrics[key][0]:e} {unit}"

    def write_details(self, result: Compared, prefix: str, system: str, *, group: int) -> None:
        """Write all values; ``group`` is the number of the system."""
        natoms, append = result.natoms[:, None], group > 0
        for name, suffix, columns in self.files:
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


class SpinKind(EnergyKind):
    """An energy that depends on spins: forces on atoms, and magnetic forces where there is a spin."""

    report = tuple(
        line
        for first in EnergyKind.report
        for line in (
            [("Force atom ?", "force", "eV/Å"), ("Force spin ?", "force_mag", "eV/uB")]
            if first[1] == "force"
            else [first]
        )
    )
    files = (
        EnergyKind.files[0],
        ("force", ".fr.out", ("fx", "fy", "fz")),
        ("force_mag", ".fm.out", ("fmx", "fmy", "fmz")),
        *EnergyKind.files[2:],
    )

    def labels(self) -> list[Label]:
        """What is read beside positions, cells and types."""
        return [*super().labels(), Label("force_mag", 3, atomic=True)]

    def quantities(self, out: list[np.ndarray], real: np.ndarray, batch: Batch) -> dict[str, Any]:
        """Predictions by the name of their label."""
        pred = super().quantities(out, real, batch)
        return {**pred, "force_mag": out[-2].reshape(*real.shape, 3)[real]}

    def compare(self, batch: Batch) -> Compared:
        """Evaluate frames; atoms without spin have no magnetic force to compare."""
        result = super().compare(batch)
        if "force_mag" in result.data:
            has_spin = np.asarray(self.predictor.model.get_use_spin())[batch.atype]
            for values in (result.data, result.pred):
                values["force_mag"] = values["force_mag"][has_spin]
        return result
