# SPDX-License-Identifier: LGPL-3.0-or-later
"""Make the golden trainings: ``/path/to/python make.py``, with DeePMD-kit 3.2.0 installed.

A first training of one step gives statistics and parameters to start from. The second starts from
them with ``--init-model`` and takes four steps. Beside this file go the parameters and statistics of
both, by their names in the checkpoints, without the second names of networks.
"""

import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from cases import CASES, HERE, config, write_data

from deepmd.main import main


def arrays(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a checkpoint by name."""
    state = torch.load(path, weights_only=True, map_location="cpu")["model"]
    return {
        name: x.double().numpy()
        for name, x in state.items()
        if hasattr(x, "numpy") and x.numel() and "._networks." not in name
    }


for case in CASES:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        write_data(Path("data"), case)
        for steps, more in ((1, []), (4, ["--init-model", "model.ckpt-1.pt"])):
            Path("input.json").write_text(json.dumps(config(case, steps)))
            main(["--pt", "train", "input.json", "--skip-neighbor-stat", *more])
        start, end = arrays(Path("model.ckpt-1.pt")), arrays(Path("model.ckpt-4.pt"))
        both = {f"start/{k}": v for k, v in start.items()} | {f"end/{k}": v for k, v in end.items()}
        np.savez_compressed(HERE / f"{case}.npz", **both)
        Path("lcurve.out").replace(HERE / f"{case}.out")
