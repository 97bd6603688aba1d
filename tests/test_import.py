# SPDX-License-Identifier: LGPL-3.0-or-later
"""What happens before any work: nothing third-party is loaded, and little of our own."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
REPORT = """
import sys
def work():
    {code}
try:
    work()
except SystemExit:
    pass
sys.stderr.write("\\nMODULES " + " ".join(
    f"{{n}}={{getattr(m, '__file__', None) or ''}}" for n, m in list(sys.modules.items())))
"""


def modules(code: str) -> dict[str, str]:
    """Names and files of the modules that are loaded after some code ran in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(code=code)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    line = done.stderr.rsplit("MODULES ", 1)[1]
    return dict(pair.split("=", 1) for pair in line.split(" ") if "=" in pair)


CODES = {
    "import": "import deepmd",
    "help": "from deepmd.main import main; main(['--help'])",
    "train help": "from deepmd.main import main; main(['train', '--help'])",
    "version": "from deepmd.main import main; main(['--version'])",
}


@pytest.mark.parametrize("code", CODES.values(), ids=CODES.keys())
def test_nothing_third_party_is_loaded(code):
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    own = ROOT / "deepmd"
    # What .pth files of the environment load is there without us, too.
    before = modules("pass")
    foreign = {}
    for name, file in modules(code).items():
        if not file or name in before:
            continue
        path = Path(file).resolve()
        standard = path.is_relative_to(stdlib) and "site-packages" not in path.parts
        if not standard and not path.is_relative_to(own):
            foreign[name] = file
    assert not foreign


def test_numpy_would_be_noticed():
    assert "numpy" in modules("import numpy")


#: What a command line that does no work consists of.
START = {
    "deepmd",
    "deepmd.main",
    "deepmd.entrypoints",
    "deepmd.entrypoints.commands",
    "deepmd.entrypoints.main",
    "deepmd.entrypoints.options",
    "deepmd.base",
    "deepmd.base.errors",
    "deepmd.base.files",
    "deepmd.base.launcher",
    "deepmd.base.log",
}
#: Parts of the standard library that take long to load.
SLOW = {"asyncio", "dataclasses", "importlib.metadata", "inspect", "multiprocessing", "subprocess"}


@pytest.mark.parametrize("code", ["help", "train help", "version"])
def test_little_is_loaded(code):
    # These two, which every command line needs, load others in newer versions of Python.
    before, after = modules("import argparse, logging"), modules(CODES[code])
    own = {name for name in after if name.partition(".")[0] == "deepmd"}
    assert "deepmd.main" in own
    assert own <= START
    assert not SLOW & (set(after) - set(before))


def test_import_loads_one_module():
    assert {n for n in modules(CODES["import"]) if n.startswith("deepmd")} == {"deepmd"}
