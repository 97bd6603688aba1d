# SPDX-License-Identifier: LGPL-3.0-or-later
"""Running ``dp`` inside this process, in a folder of its own."""

import dataclasses
import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepmd.base.log import clear_logging
from deepmd.main import main
from deepmd.testing.systems import save_system

LOG_LINE = re.compile(r"(\[\d+\] )?\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] DEEPMD [A-Z]+ +\S")


@dataclasses.dataclass
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def log(self) -> str:
        """The log lines, without time and level."""
        lines = [x for x in self.err.splitlines() if LOG_LINE.match(x)]
        return "\n".join(x.split(" DEEPMD ", 1)[1][8:] for x in lines)

    @property
    def errors(self) -> list[str]:
        """What is on stderr beside log lines."""
        return [x for x in self.err.splitlines() if not LOG_LINE.match(x)]


@pytest.fixture
def dp(tmp_path, monkeypatch, capsys):
    """Run ``dp`` with arguments in a temporary folder, without settings of the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("DP_BACKEND", "DP_INTERFACE_PREC", "DP_TEST_CHUNK_ATOMS", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def run(*args: str) -> Result:
        capsys.readouterr()
        try:
            code = main([str(a) for a in args])
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    yield run
    clear_logging()
    logging.getLogger("deepmd").setLevel(logging.NOTSET)


@pytest.fixture
def fails(dp, tmp_path):
    """Run ``dp``, which must fail with one line on stderr and leave nothing behind."""

    def run(*args: str, code: int = 1) -> str:
        before = contents(tmp_path)
        result = dp(*args)
        assert result.code == code, result.err
        assert contents(tmp_path) == before
        if code == 2:  # argparse: usage, then the line
            assert result.errors[0].startswith("usage: dp")
            return result.errors[-1]
        assert len(result.errors) == 1, result.err
        assert result.errors[0].startswith("dp: ")
        return result.errors[0]

    return run


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


@pytest.fixture(name="write_system")
def _write_system():
    return write_system


def write_system(path: Path, *, nframes: int = 8, seed: int = 0, virial: bool = True) -> Path:
    """Write a periodic system of six atoms with random labels."""
    rng = np.random.default_rng(seed)
    grid = np.array([[x, y, z] for x in (0, 2) for y in (0, 2) for z in (0, 2)][:6], dtype=float)
    arrays = {
        "coord": (grid + rng.uniform(0, 1.4, (nframes, 6, 3))).reshape(nframes, 18),
        "box": np.tile(5.0 * np.eye(3).ravel(), (nframes, 1)),
        "energy": rng.normal(size=nframes),
        "force": rng.normal(size=(nframes, 18)),
    }
    if virial:
        arrays["virial"] = rng.normal(size=(nframes, 9))
    return save_system(path, [0, 1, 1, 0, 1, 1], ["O", "H"], arrays)


def small_input(systems: list[str], **training: Any) -> dict[str, Any]:
    """Return an input that trains in no time."""
    return {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": {
                "type": "se_e2_a",
                "sel": [8, 16],
                "rcut": 3.0,
                "rcut_smth": 0.5,
                "neuron": [2, 4],
                "axis_neuron": 2,
                "seed": 1,
            },
            "fitting_net": {"neuron": [4, 4], "seed": 1},
        },
        "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5},
        "training": {
            "training_data": {"systems": systems, "batch_size": 1},
            "numb_steps": 2,
            "seed": 1,
            "disp_freq": 1,
            "save_freq": 2,
            **training,
        },
    }


@pytest.fixture
def good(tmp_path):
    """Return an input that is right, with its system on disk."""
    write_system(tmp_path / "data")
    return small_input(["data"])


@pytest.fixture
def write(tmp_path):
    """Write a file of the folder ``dp`` runs in; objects become JSON."""

    def write(name: str, content: Any) -> str:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write
