# SPDX-License-Identifier: LGPL-3.0-or-later
"""Bias and deviation of outputs other than energies."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import reference_path

from deepmd.data.search import open_systems
from deepmd.data.statistics import fit_common_bias
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.model import Model
from deepmd.io import load_model
from deepmd.train.statistics import output_bias


def test_common_bias() -> None:
    """Per atom, unless intensive; deviations of what is averaged."""
    labels, natoms = np.array([[2.0, 4.0], [9.0, 3.0]]), np.array([2, 3])
    bias, std = fit_common_bias(natoms, labels, 3, intensive=False)
    np.testing.assert_allclose(bias, [[2.0, 1.5]] * 3)
    np.testing.assert_allclose(std, [[1.0, 0.5]] * 3)
    bias, std = fit_common_bias(natoms, labels, 2, intensive=True)
    np.testing.assert_allclose(bias, [[5.5, 3.5]] * 2)
    np.testing.assert_allclose(std, [[3.5, 0.5]] * 2)


def _read(reference: Path, kind: str):
    folder = reference_path(f"train/step_{kind}")
    model = Model.deserialize(load_model(folder / "init.dp")["model"])
    (variable,) = model.output_def().get_data().values()
    name, size = variable.label_name, variable.size
    labels = [Label(name, size, False), Label(f"atom_{name}", size, True)]
    section = json.loads((folder / "input.json").read_text())["training"]["training_data"]
    systems = open_systems([str(folder / s) for s in section["systems"]], type_map=model.type_map)
    return model, variable, [s.load(range(s.nframes), labels) for s in systems]


@pytest.mark.parametrize("kind", ["dipole", "polar", "dos", "property"])
def test_reference(kind: str, reference: Path) -> None:
    """Atomic labels (the first three), and labels of frames of an intensive property."""
    model, variable, batches = _read(reference, kind)
    bias, std = output_bias(model, variable, batches)
    np.testing.assert_allclose(bias, model.atomic_model.out_bias[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(std, model.atomic_model.out_std[0], rtol=1e-12, atol=1e-13)


def test_types_are_not_distinguished(reference: Path) -> None:
    model, variable, batches = _read(reference, "property")
    model.atomic_model.fitting.distinguish_types = False
    bias, std = output_bias(model, variable, batches)
    labels = np.concatenate([b.labels["band_prop"] for b in batches])
    np.testing.assert_allclose(bias, np.tile(labels.mean(axis=0), (4, 1)))
    np.testing.assert_allclose(std, np.tile(labels.std(axis=0), (4, 1)))
