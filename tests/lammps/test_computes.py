# SPDX-License-Identifier: LGPL-3.0-or-later
"""The computes, and what is said about neighbours beyond sel; with small random models."""

import numpy as np
import pytest

START = """
units metal
atom_style atomic
atom_modify map yes
neighbor 1.0 bin
read_data water.data
"""


def write(path, *, fitting, sel):
    """Write a small model with random weights as .pth; return its path."""
    from deepmd.dpmodel.model import build_model
    from deepmd.dpmodel.training.checkpoint import Checkpoint
    from deepmd.entrypoints.convert_backend import convert_backend
    from deepmd.io import save_model
    from deepmd.schema import normalize

    descriptor = {"type": "se_e2_a", "sel": sel, "rcut": 4.0, "rcut_smth": 1.0, "neuron": [4, 8]}
    model = {
        "type_map": ["O", "H"],
        "descriptor": {**descriptor, "axis_neuron": 4, "seed": 1},
        "fitting_net": {"neuron": [8, 8], "seed": 2, **fitting},
    }
    data = {
        "model": model,
        "learning_rate": {"start_lr": 1e-3},
        "training": {"training_data": {"systems": ["none"]}, "numb_steps": 1},
    }
    if fitting.get("type", "ener") != "ener":
        data["loss"] = {"type": "tensor", "pref": 1.0, "pref_atomic": 1.0}
    params = normalize(data)["model"]
    built = build_model(params)
    checkpoint = Checkpoint(models={"Default": built}, model_params=params, min_nbor_dist=0.9)
    save_model(path.with_suffix(".dp"), checkpoint.model_data())
    convert_backend(INPUT=str(path.with_suffix(".dp")), OUTPUT=str(path.with_suffix(".pth")))
    return str(path.with_suffix(".pth"))


def test_deeptensor(lammps, tmp_path):
    """Dipoles of atoms are those of DeepDipole; atoms without a value have zeros."""
    from deepmd.infer.deep_dipole import DeepDipole

    path = write(tmp_path / "dipole", fitting={"type": "dipole", "sel_type": [0]}, sel=[40, 80])
    text = START + f"pair_style zero 4.0\npair_coeff * *\ncompute mu all deeptensor/atom {path}\n"
    text += "dump 1 all custom 1 mu.dump id type x y z c_mu[*]\n"
    text += "dump_modify 1 sort id format float %.15g\nrun 0\n"
    dump = lammps(text).dump("mu.dump")[0]
    types = dump[:, 1].astype(int) - 1
    box = 12.4446611404 * np.eye(3)
    value = DeepDipole(path).eval(dump[None, :, 2:5], box.reshape(1, 9), types)[0]
    assert value.shape == (len(types), 3) and np.abs(value[types == 0]).min() > 0.0
    np.testing.assert_allclose(dump[:, 5:], value, rtol=0, atol=1e-12)
    two = lammps(text, ranks=2).dump("mu.dump")[0]
    np.testing.assert_allclose(two, dump, rtol=0, atol=1e-12)


def test_derivative_by_fparam_and_overflow(lammps, tmp_path):
    """dE/df as the difference of two runs; at the end LAMMPS tells how often sel was too small."""
    path = write(tmp_path / "fparam", fitting={"numb_fparam": 1}, sel=[8, 12])

    def style(value):
        return f"pair_style deepmd {path} fparam {value:.10f}\npair_coeff * * O H\n"

    output = "thermo_style custom step pe {}\nthermo_modify format float %.15g\nrun 0\n"
    delta = 1e-4
    text = START + style(0.3) + "variable f equal 0.3\n"
    text += "compute d all deepmd/fparam/dedn v_f 1e-4\n" + output.format("c_d")
    for value in (0.3 - delta, 0.3 + delta):
        text += "clear\n" + START + style(value) + output.format("")
    run = lammps(text)
    found = run.thermo(0)["c_d"][0]
    low, high = (run.thermo(k)["PotEng"][0] for k in (1, 2))
    assert abs(found) > 1e-6
    assert found == pytest.approx((high - low) / (2.0 * delta), rel=1e-6)
    assert "more neighbours within the cutoff than the model's sel" in run.text
