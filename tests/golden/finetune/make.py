# SPDX-License-Identifier: LGPL-3.0-or-later
"""Make the golden cases of fine-tuning: ``/path/to/python make.py``, with DeePMD-kit installed.

DeePMD-kit 3.2.0 fine-tunes tiny models with a learning rate of 1e-14; its checkpoint after one step
holds the bias that the fine-tuning began with. Everything is written beside this file.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepmd.main import main
from deepmd.pt import loss as losses

HERE = Path(__file__).parent
DPA1 = {
    "type": "dpa1", "rcut": 4.0, "rcut_smth": 1.0, "sel": 12, "neuron": [4, 8], "axis_neuron": 2,
    "attn_layer": 1, "attn": 6, "seed": 1, "tebd_dim": 3,
}  # fmt: skip
SE_A = {
    "type": "se_e2_a", "rcut": 4.0, "rcut_smth": 1.0, "sel": [8, 8], "neuron": [4, 8],
    "axis_neuron": 2, "seed": 1,
}  # fmt: skip
ENER = {"neuron": [6, 6], "seed": 2}
GAP = {**ENER, "type": "property", "property_name": "gap", "task_dim": 2, "numb_fparam": 2}
GAP["intensive"] = True
LOSS = {"type": "ener", "start_pref_e": 1, "limit_pref_e": 1, "start_pref_f": 100}
LOSS["limit_pref_f"] = 100
ZBL = {"use_srtab": "table.txt", "smin_alpha": 0.1, "sw_rmin": 1.0, "sw_rmax": 2.0}
TYPES = {"oh": "OHHOHH", "oh2": "OHHOH", "oh3": "OOH", "ohc": "OHCOHC", "oc": "OCCOO", "o": "OOO"}
ENERGY = {"oh": (-3.0, -1.0, 0.0)}
NEW = ["oh2", "oh3"]

seen: list[tuple[int, float]] = []


def write_system(name: str, seed: int) -> None:
    """Write four frames of a few atoms with made-up labels."""
    rng, atoms = np.random.default_rng(seed), TYPES[name]
    names = [x for x in "OHC" if x in atoms]
    types = [names.index(x) for x in atoms]
    n, folder = len(types), HERE / name
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / "type.raw", types, fmt="%d")
    (folder / "type_map.raw").write_text("\n".join(names) + "\n")
    grid = 2.2 * np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])[:n]
    energies = ENERGY.get(name, (-5.0, -2.0, 1.0))
    arrays = {
        "coord": grid.reshape(1, -1) + rng.normal(0, 0.2, (4, 3 * n)),
        "box": np.tile(np.diag([6.0, 6.2, 5.9]).ravel(), (4, 1)),
        "energy": sum(energies["OHC".index(x)] for x in atoms) + rng.normal(0, 0.3, (4, 1)),
        "force": rng.normal(0, 0.5, (4, 3 * n)),
        "gap": rng.normal(1, 2, (4, 2)),
        "fparam": rng.normal(1, 2, (4, 2)),
    }
    for key, value in arrays.items():
        np.save(folder / "set.000" / f"{key}.npy", value)


def make_input(model: dict[str, Any], systems: list[str], loss: Any = LOSS) -> dict[str, Any]:
    """Input of one step."""
    return {
        "model": model,
        "learning_rate": {"type": "exp", "start_lr": 1e-14, "stop_lr": 1e-15, "decay_steps": 100},
        "loss": loss,
        "training": {
            "training_data": {"systems": systems, "batch_size": 4},
            "numb_steps": 1, "seed": 10, "disp_freq": 1, "save_freq": 100,
        },
    }  # fmt: skip


def model(descriptor: Any, fitting: Any = ENER, types: str = "OH", **more: Any) -> dict[str, Any]:
    """Model section."""
    return {"type_map": list(types), "descriptor": descriptor, "fitting_net": fitting, **more}


def multi(first: dict[str, Any], names: tuple[str, str]) -> dict[str, Any]:
    """Input of two branches."""
    whole = make_input({}, [])
    whole["model"] = {
        "shared_dict": {"types": ["O", "H"], "dpa1": first},
        "model_dict": {n: model("dpa1") | {"type_map": "types"} for n in names},
    }
    whole["loss_dict"] = dict.fromkeys(names, whole.pop("loss"))
    data = {names[0]: ["oh"], names[1]: NEW}
    whole["training"].pop("training_data")
    whole["training"]["data_dict"] = {
        n: {"training_data": {"systems": s, "batch_size": 4}} for n, s in data.items()
    }
    whole["training"]["model_prob"] = dict.fromkeys(names, 1.0)
    return whole


def run(config: dict[str, Any], *options: str) -> dict[str, Any]:
    """Train in a folder of its own; return the state dictionary."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in (*TYPES, "table.txt"):
            os.symlink(HERE / name, name)
        for path in HERE.glob("*.pt"):
            os.symlink(path, path.name)
        Path("input.json").write_text(json.dumps(config))
        seen.clear()
        main(["--pt", "train", "input.json", "--skip-neighbor-stat", *options])
        state = torch.load("model.ckpt-1.pt", weights_only=True)["model"]
        os.chdir(HERE)
    return state


def observe(kind: type) -> None:
    """Note the number of atoms and the loss of every batch."""
    forward = kind.forward

    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        out = forward(self, *args, **kwargs)
        seen.append((int(args[0]["atype"].shape[1]), float(out[1])))
        return out

    kind.forward = noted


def everything() -> None:
    """Make all files."""
    for seed, name in enumerate(TYPES):
        write_system(name, seed)
    r = np.linspace(0.1, 4.0, 40)
    table = np.stack([r, *(a * (4.0 - r) ** 3 for a in (1, 2, 3))], axis=1)
    np.savetxt(HERE / "table.txt", table, fmt="%.6f")
    for kind in (losses.EnergyStdLoss, losses.PropertyLoss):
        observe(kind)
    gap = {"type": "property"}
    bases = {
        "dpa1": make_input(model(DPA1), ["oh"]),
        "se_a": make_input(model(SE_A), ["oh"]),
        "gap": make_input(model(DPA1, GAP), ["oh"], gap),
        "multi": multi(DPA1, ("A", "B")),
    }
    for name, config in bases.items():
        torch.save({"model": run(config)}, HERE / f"{name}.pt")
    cases = {
        "dpa1": ("dpa1", make_input(model(DPA1), NEW), []),
        "se_a": ("se_a", make_input(model(SE_A), NEW), []),
        "renewed": ("dpa1", make_input(model(DPA1), NEW), ["--model-branch", "RANDOM"]),
        "other order": ("dpa1", make_input(model(DPA1, types="HO"), NEW), []),
        "fewer types": ("dpa1", make_input(model(DPA1, types="O"), ["o"]), []),
        "more types": ("dpa1", make_input(model(DPA1, types="CHO"), ["ohc", "oc"]), []),
        "zbl": ("dpa1", make_input(model(DPA1, **ZBL), NEW), []),
        "gap": ("gap", make_input(model(DPA1, GAP), NEW, gap), []),
        "gap renewed": (
            "gap",
            make_input(model(DPA1, GAP), NEW, gap),
            ["--model-branch", "RANDOM"],
        ),
        "branch": ("multi", make_input(model(DPA1), NEW), ["--model-branch", "B"]),
        "no branch": ("multi", make_input(model(DPA1), NEW), []),
    }
    found = {}
    for name, (base, config, options) in cases.items():
        state = run(config, "--finetune", f"{base}.pt", *options)
        atomic = "model.Default.atomic_model."
        found[name] = {
            "pretrained": f"{base}.pt",
            "input": config,
            "model_branch": options[-1] if options else "",
            "natoms": seen[0][0],
            "loss": seen[0][1],
            **{k: state[f"{atomic}{k}"][0].tolist() for k in ("out_bias", "out_std")},
        }
        if name == "more types":
            prefix = f"{atomic}descriptor."
            layer = "type_embedding.embedding.embedding_net.layers.0.matrix"
            found[name]["type_embedding"] = state[prefix + layer].tolist()
            found[name]["dstd"] = state[f"{prefix}se_atten.stddev"][:, 0].tolist()
        if "fparam" in str(config["model"]["fitting_net"]):
            fitting = f"{atomic}fitting_net."
            found[name]["fparam_avg"] = state[f"{fitting}fparam_avg"].tolist()
    shutil.rmtree(HERE / "oh")  # of the pre-trained models only
    (HERE / "cases.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    everything()
