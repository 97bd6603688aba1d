# SPDX-License-Identifier: LGPL-3.0-or-later
"""What happens before any work: nothing third-party is loaded, and it is quick."""

import os
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


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_start_takes_less_than_a_tenth_of_a_second(argument):
    best = min(cpu_seconds(argument) for _ in range(5))
    assert best < 0.1


def cpu_seconds(argument: str) -> float:
    """CPU time of one run of ``dp``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "deepmd", argument], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime
