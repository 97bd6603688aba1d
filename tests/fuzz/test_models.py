# SPDX-License-Identifier: LGPL-3.0-or-later
"""Damaged and hostile model files and checkpoints open and are right, or are refused in one line."""

import collections
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import REFERENCE

from deepmd.dpmodel.model import build_model
from deepmd.runtime.checkpoint import Checkpoint
from deepmd.runtime.probes import model_file_dict, write_model

#: Nothing that is opened takes longer [s], or more memory [MiB].
SECONDS, MEMORY = 10.0, 1024
KINDS = (
    "model.dp", "model.yaml", "ckpt.dp", "ckpt.pt", "ckpt.jax", "model.pth", "model.hlo", "frozen.pb",
)  # fmt: skip
#: Kinds without a checksum, in which damage to numbers cannot be found.
UNSIGNED = ("frozen.pb",)
#: Mutants of the short run; those of compiled files take longest to open.
SHORT = {
    "model.dp": 140,
    "model.yaml": 70,
    "ckpt.dp": 70,
    "ckpt.pt": 70,
    "ckpt.jax": 21,
    "frozen.pb": 70,
}
FEW = 14
LONG = 10_000


def section() -> dict:
    descriptor = {
        "type": "se_e2_a", "rcut": 4.0, "rcut_smth": 0.5, "sel": [6, 8], "neuron": [3, 6],
        "axis_neuron": 2, "seed": 1,
    }  # fmt: skip
    return {"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": {"neuron": [5]}}


def write(path: Path) -> Path:
    """Write a small file of a kind."""
    if path.suffix == ".pb":  # of DeePMD-kit
        pytest.importorskip("google.protobuf", reason="protobuf is not installed")
        path.write_bytes((REFERENCE / "checkpoints/tf_checkpoint/frozen.pb").read_bytes())
        return path
    model = build_model(section())
    if path.stem == "model":
        data = model_file_dict(model, section(), 0.9, "NumPy")
        if path.suffix == ".pth":
            pytest.importorskip("torch", reason="torch is not installed")
            from deepmd.pt.torchscript.export import write_pth as write_kind
        elif path.suffix == ".hlo":
            pytest.importorskip("jax", reason="jax is not installed")
            from deepmd.jax.export import write_hlo as write_kind
        else:
            write_kind = write_model
        write_kind(path, data)
        return path
    if path.suffix == ".pt":
        pytest.importorskip("torch", reason="torch is not installed")
        from deepmd.pt.checkpoint.checkpoint import write_checkpoint
    else:
        from deepmd.runtime.checkpoint_file import write_checkpoint
    if path.suffix == ".jax":
        pytest.importorskip("jax", reason="jax is not installed")
    moments = {f"Default/{k}.w": np.ones((2, 3)) for k in ("first", "second")}
    state = {"seed": 3, "data.Default.cursor": np.arange(4)}
    write_checkpoint(path, Checkpoint({"Default": model}, section(), 17, moments, state, 0.9))
    return path


def run(source: Path, first: int, last: int, folder: Path) -> list[list]:
    """Open mutants in a process of their own; what came of each, also where the process ended."""
    found: list[list] = []
    while first < last:
        command = [sys.executable, str(Path(__file__).with_name("child.py")), str(source)]
        done = subprocess.run(
            [*command, str(first), str(last), str(folder)],
            capture_output=True,
            text=True,
            timeout=3600,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        found += [line for line in lines if isinstance(line, list)]
        begun = [line["begins"] for line in lines if isinstance(line, dict)]
        assert begun, done.stderr[-2000:]
        first = begun[-1] + 1
        if len(begun) > len(lines) - len(begun):
            end = f"exit {done.returncode}: {done.stderr[-500:]}"
            found.append([begun[-1], "?", "crashed", end, 0.0, 0])
    return found


def check(found: list[list], name: str = "") -> None:
    """Every mutant is right or refused, quickly and without much memory."""
    fine = ("right", "refused", "edited", *(("wrong",) if name in UNSIGNED else ()))
    bad = [x for x in found if x[2] not in fine]
    bad += [x for x in found if x[4] > SECONDS or x[5] > MEMORY]
    table = collections.Counter((x[1], x[2]) for x in found)
    print(json.dumps({f"{a} {b}": n for (a, b), n in sorted(table.items())}))
    assert not bad, "\n".join(map(str, bad[:10]))
    assert any(x[2] == "refused" for x in found)


@pytest.mark.parametrize("name", KINDS)
def test_mutants(tmp_path, name):
    source = write(tmp_path / name)
    check(run(source, 0, SHORT.get(name, FEW), tmp_path), name)


@pytest.mark.slow  # hours: ten thousand files of each kind
@pytest.mark.parametrize("name", KINDS)
def test_many_mutants(tmp_path, name):
    source, found = write(tmp_path / name), []
    for first in range(0, LONG, 500):
        found += run(source, first, first + 500, tmp_path)
    assert len(found) == LONG
    check(found, name)


def test_the_check_can_fail():
    with pytest.raises(AssertionError):
        check([[0, "flip", "wrong", "", 0.1, 0], [1, "flip", "refused", "", 0.1, 0]])
    with pytest.raises(AssertionError):
        check([[0, "flip", "refused", "", 11.0, 0]])
    with pytest.raises(AssertionError):
        check([[0, "flip", "refused", "", 0.1, 2000]])
