# SPDX-License-Identifier: LGPL-3.0-or-later
"""Short trainings that DeePMD-kit 3.2.0 has taken, and the data they read."""

from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
TYPES = [0, 1, 0, 1, 1, 0, 1, 0]
N = len(TYPES)
ENERGY = {"start_pref_e": 5.0, "limit_pref_e": 1.0, "start_pref_v": 2.0, "limit_pref_v": 3.0}
FORCE = {"start_pref_f": 20.0, "limit_pref_f": 2.0}
ENER = {"type": "ener", **ENERGY, **FORCE}
ATOMS = {"start_pref_ae": 3.0, "limit_pref_ae": 2.0}
CUMULATIVE = {"start_pref_cdf": 1.0, "limit_pref_cdf": 2.0}
DOS = {"type": "dos", "start_pref_dos": 2.0, "limit_pref_dos": 1.0, **CUMULATIVE}
SPIN = {"type": "ener_spin", **ENERGY, "start_pref_fr": 20.0, "start_pref_fm": 10.0}
GAP = {"type": "property", "property_name": "gap", "task_dim": 2}
WITHOUT = {"atom_exclude_types": [1]}
CHANGE = {"change_bias_after_training": True}


def case(
    loss: dict[str, Any],
    model: dict[str, Any] | None = None,
    fitting: dict[str, Any] | None = None,
    frames: int = 3,
    **training: Any,
) -> dict[str, Any]:
    """Return the differences of a training from :func:`config`."""
    return {
        "loss": loss,
        "model": model or {},
        "fitting": fitting or {},
        "frames": frames,
        "training": training,
    }


#: Trainings by name: with excluded types, excluded pairs, and a last change of the bias.
CASES = {
    "excluded": case({**ENER, **ATOMS}, WITHOUT),
    "excluded_mae": case({**ENER, **ATOMS, "loss_func": "mae", "f_use_norm": True}, WITHOUT),
    "excluded_huber": case({**ENER, "use_huber": True, "huber_delta": 0.1}, WITHOUT),
    "excluded_intensive": case({**ENER, "intensive_ener_virial": True}, WITHOUT),
    "excluded_generalized": case(
        {**ENER, "start_pref_gf": 2.0, "limit_pref_gf": 1.0, "numb_generalized_coord": 2},
        WITHOUT,
        frames=1,
    ),
    "excluded_spin": case(SPIN, {**WITHOUT, "spin": {"use_spin": [0], "virtual_scale": [0.3]}}),
    "excluded_dos": case({**DOS, "start_pref_ados": 2.0}, WITHOUT, {"type": "dos", "numb_dos": 3}),
    "excluded_property": case(
        {"type": "property", "loss_func": "mse"}, WITHOUT, {**GAP, "intensive": False}
    ),
    "excluded_gap": case(
        {"type": "property", "loss_func": "mse"}, WITHOUT, {**GAP, "intensive": True}
    ),
    "apart": case(ENER, {"pair_exclude_types": [[0, 1]]}),
    "changed_energy": case(ENER, **CHANGE),
    "changed_dos": case(
        {**DOS, "start_pref_ados": 2.0}, None, {"type": "dos", "numb_dos": 3}, **CHANGE
    ),
    "changed_property": case(
        {"type": "property", "loss_func": "mse"}, None, {**GAP, "intensive": True}, **CHANGE
    ),
    "polar": case({"type": "tensor", "pref": 1.0, "pref_atomic": 2.0}, None, {"type": "polar"}),
}


def config(name: str, steps: int) -> dict[str, Any]:
    """Return the input of a training."""
    given = CASES[name]
    descriptor = {
        "type": "se_e2_a", "sel": [30, 30], "rcut": 3.5, "rcut_smth": 1.0, "neuron": [2, 4],
        "axis_neuron": 2, "seed": 1, "precision": "float64",
    }  # fmt: skip
    fitting = {"neuron": [4, 4], "seed": 1, "precision": "float64", **given["fitting"]}
    model = {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": fitting}
    return {
        "model": {**model, "data_stat_nbatch": 1, **given["model"]},
        "learning_rate": {"type": "exp", "start_lr": 0.01, "stop_lr": 1e-3, "decay_steps": 2},
        "loss": given["loss"],
        "training": {
            "training_data": {"systems": ["data"], "batch_size": given["frames"]},
            "numb_steps": steps,
            "seed": 3,
            "disp_freq": 1,
            "save_freq": 100,
            **(given["training"] if steps > 1 else {}),
        },
    }


def write_data(folder: Path, name: str) -> None:
    """Write frames of eight atoms with random labels of every kind."""
    rng, nf = np.random.default_rng(sum(map(ord, name))), CASES[name]["frames"]
    (folder / "set.000").mkdir(parents=True)
    np.savetxt(folder / "type.raw", TYPES, fmt="%d")
    (folder / "type_map.raw").write_text("O\nH\n")
    grid = 2.2 * np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    magnetic = np.asarray(TYPES)[None, :, None] == 0
    arrays = {
        "coord": grid.reshape(1, -1) + rng.normal(0, 0.2, (nf, 3 * N)),
        "box": np.tile(np.diag([6.0, 6.2, 5.9]).ravel(), (nf, 1)),
        "energy": -5.0 * N + rng.normal(size=(nf, 1)),
        "force": rng.normal(size=(nf, 3 * N)),
        "virial": rng.normal(size=(nf, 9)),
        "atom_ener": rng.normal(-5.0, 1.0, (nf, N)),
        "atom_pref": rng.uniform(0.2, 2.0, (nf, N)),
        "drdq": rng.normal(size=(nf, 6 * N)),
        "spin": (rng.normal(size=(nf, N, 3)) * magnetic).reshape(nf, -1),
        "force_mag": (rng.normal(size=(nf, N, 3)) * magnetic).reshape(nf, -1),
        "dos": rng.normal(size=(nf, 3)),
        "atom_dos": rng.normal(size=(nf, 3 * N)),
        "gap": rng.normal(1.0, 2.0, (nf, 2)),
        "polarizability": rng.normal(size=(nf, 9)),
        "atomic_polarizability": rng.normal(size=(nf, 9 * N)),
    }
    for label, array in arrays.items():
        np.save(folder / f"set.000/{label}.npy", array)
