# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp transfer``."""

import numpy as np
import pytest

from deepmd.base.errors import InputError
from deepmd.dpmodel.model import Model, build_model
from deepmd.dpmodel.module import split
from deepmd.entrypoints.transfer import transfer
from deepmd.io import load_model
from deepmd.runtime.probes import model_file_dict
from deepmd.schema.check import normalize_model
from deepmd.testing.backends import open_backend
from deepmd.testing.systems import randomize


def written(path, seed, precision="float64", type_map=("O", "H"), neuron=6):
    descriptor = {
        "type": "se_e2_a", "rcut": 4.0, "sel": [6, 6], "neuron": [4], "axis_neuron": 2,
        "precision": precision,
    }  # fmt: skip
    section = {
        "type_map": list(type_map),
        "descriptor": descriptor,
        "fitting_net": {"neuron": [neuron], "precision": precision},
    }
    model = randomize(build_model(normalize_model(section)), seed)
    backend = open_backend("numpy")
    backend.deserialize_hook(path, model_file_dict(model, section, None, backend.name))
    return str(path), model


def test_parameters_of_one_model_and_precision_of_another(tmp_path):
    raw, _ = written(tmp_path / "raw.dp", 1, "float32")
    old, source = written(tmp_path / "old.dp", 2)
    transfer(raw_model=raw, old_model=old, output=str(tmp_path / "new.dp"))
    made = Model.deserialize(load_model(tmp_path / "new.dp")["model"])
    assert made.atomic_model.descriptor.precision == "float32"
    for found, wanted in zip(split(made), split(source), strict=True):
        assert set(found) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_array_equal(found[name], np.asarray(value).astype(found[name].dtype))


@pytest.mark.parametrize("other", [{"neuron": 5}, {"type_map": ("H", "O")}])
def test_models_that_differ_are_refused(tmp_path, other):
    raw, _ = written(tmp_path / "raw.dp", 1)
    old, _ = written(tmp_path / "old.dp", 2, **other)
    with pytest.raises(InputError, match=r"old.dp"):
        transfer(raw_model=raw, old_model=old, output=str(tmp_path / "new.dp"))
    assert not (tmp_path / "new.dp").exists()
