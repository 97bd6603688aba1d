# SPDX-License-Identifier: LGPL-3.0-or-later
"""A small alloy and open clusters with energies of pairs, and trainings of them."""

import json
import logging
import os

import numpy as np

from deepmd.base.log import clear_logging
from deepmd.data.frames import Frame, Frames
from deepmd.data.writers import write_frames
from deepmd.dpmodel.label import Label
from deepmd.dpmodel.neighbors import find_edges
from deepmd.main import main

LABELS = {
    "energy": Label("energy", 1, False),
    "force": Label("force", 3, True),
    "virial": Label("virial", 9, False),
}


def morse(frame, depth=0.4, r0=2.6, width=1.3, rcut=4.0):
    """Give a frame energy, forces and virial [eV] of pairs that end smoothly at the cutoff."""
    edges = find_edges(frame.coord, frame.cell, rcut)
    d = frame.coord[edges.j] - frame.coord[edges.i]
    if frame.cell is not None:
        d = d + edges.shift @ frame.cell
    r = np.linalg.norm(d, axis=1)
    x = np.exp(-width * (r - r0))
    depth = depth * (1.0 + 0.3 * (frame.types[edges.i] + frame.types[edges.j]))
    u = (1.0 - r / rcut) ** 2
    du = -2.0 * (1.0 - r / rcut) / rcut
    energy = 0.5 * (depth * (x**2 - 2 * x) * u).sum()
    slope = depth * (width * (-2 * x**2 + 2 * x) * u + (x**2 - 2 * x) * du)
    g = (0.5 * slope / r)[:, None] * d
    force = np.zeros_like(frame.coord)
    np.add.at(force, edges.i, g)
    np.add.at(force, edges.j, -g)
    virial = -np.einsum("ea,eb->ab", g, d).reshape(-1)
    frame.labels = {"energy": np.array([energy]), "force": force.reshape(-1), "virial": virial}
    return frame


#: Of the small cell.
TYPES = (0, 1, 0, 1, 0, 0, 1, 0)


def alloy(count=24, *, seed=0, rattle=0.12, strain=0.01, repeats=(2, 1, 1), types=TYPES, rcut=4.0):
    """Make frames of a strained, rattled fcc cell, repeated along its axes."""
    rng = np.random.default_rng(seed)
    corners = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    shifts = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), axis=-1).reshape(-1, 3)
    places = (corners[None] + shifts[:, None]).reshape(-1, 3) / repeats
    out = []
    for k in range(count):
        noise = rng.normal(size=(3, 3))
        cell = 3.7 * np.diag(repeats) @ (np.eye(3) + strain * 0.5 * (noise + noise.T))
        coord = places @ cell + rattle * rng.normal(size=places.shape)
        out.append(morse(Frame(np.array(types), coord, cell, {}, k, "alloy"), rcut=rcut))
    return Frames(["Cu", "Au"], dict(LABELS), out)


def clusters(count=40, *, seed=0, rattle=0.25):
    """Make frames of open clusters of five to seven atoms, of two compositions, without virial."""
    rng = np.random.default_rng(seed)
    corners = 2.5 * np.array(
        [
            [0, 0, 0],
            [1, 0, 0],
            [0, 1, 0],
            [0, 0, 1],
            [0.7, 0.7, 0.7],
            [-0.7, -0.6, 0],
            [0, -0.7, -0.7],
        ]
    )
    out = []
    for k in range(count):
        n = 5 + k % 3
        types = np.arange(n) % 2 if k % 2 else np.zeros(n, dtype=np.int64)
        coord = corners[:n] + rattle * rng.normal(size=(n, 3))
        out.append(morse(Frame(types, coord, None, {}, k, "clusters"), depth=0.8, r0=2.4))
    for frame in out:
        del frame.labels["virial"]
    labels = {name: LABELS[name] for name in ("energy", "force")}
    return Frames(["Ni", "Al"], labels, out)


CONFIG = {
    "model": {
        "type_map": ["Cu", "Au"],
        "descriptor": {
            "type": "se_e2_a", "sel": [24, 24], "rcut": 4.0, "rcut_smth": 1.0, "neuron": [4, 8],
            "axis_neuron": 3, "seed": 1,
        },
        "fitting_net": {"neuron": [12, 12], "seed": 1},
    },
    "learning_rate": {"type": "exp", "start_lr": 5e-3, "stop_lr": 1e-4},
    "loss": {
        "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1,
        "start_pref_v": 0.02, "limit_pref_v": 1,
    },
    "training": {
        "training_data": {"systems": ["train"], "batch_size": 2},
        "validation_data": {"systems": ["valid"], "batch_size": 4},
        "numb_steps": 4, "seed": 1, "disp_freq": 2, "save_freq": 1000,
    },
}  # fmt: skip


def train(folder, config, train_frames, valid_frames, backend="--dp"):
    """Train in a folder."""
    folder.mkdir()
    write_frames(train_frames, folder / "train")
    write_frames(valid_frames, folder / "valid")
    (folder / "input.json").write_text(json.dumps(config))
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert main([backend, "train", "input.json", "--log-level", "ERROR"]) == 0
    finally:
        os.chdir(before)
        clear_logging()
        logging.getLogger("deepmd").setLevel(logging.NOTSET)
    return folder
