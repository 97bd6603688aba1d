# SPDX-License-Identifier: LGPL-3.0-or-later
"""Packages of plugins, installed in folders of their own as pip does."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from deepmd.base import plugin
from deepmd.dpmodel.atomic_model import AtomicModel
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.dpmodel.fitting import Fitting
from deepmd.dpmodel.model import Model
from deepmd.schema import registry

HERE = Path(__file__).parent
REGISTRIES = (AtomicModel.registry, Descriptor.registry, Fitting.registry, Model.registry)
#: Folders on the path.
_active: list[str] = []
ARGUMENTS = (registry.descriptor_args, registry.fitting_args, registry.model_args)


def install(source: Path, target: Path) -> Path:
    """Install a package into a folder, without its dependencies; return the folder."""
    if find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed")
    copy = target.with_name(f"{target.name}-source")
    shutil.copytree(source, copy)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--target", str(target), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@contextmanager
def on_path(*sites: Path) -> Iterator[None]:
    """Have packages in folders on the path, with none of their plugins loaded yet."""
    tables = [(r, name) for r in REGISTRIES for name in ("_by_name",)]
    tables += [(r, name) for r in ARGUMENTS for name in ("_factories", "_aliases", "_docs")]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in tables:
            kept = getattr(owner, name).items()
            patch.setattr(owner, name, {k: v for k, v in kept if not _is_of_plugin(v)})
        for name in ("_loaded", "_failed", "_collisions", "_origins"):
            patch.setattr(plugin, name, type(getattr(plugin, name))())
        patch.setattr(sys, "path", [p for p in sys.path if p not in _active])
        for site in sites:
            patch.syspath_prepend(site)
        _active.extend(map(str, sites))
        before = set(sys.modules)
        yield
        if "torch" in sys.modules:  # a training with plugins turns both off
            functions = sys.modules["torch"]._C
            functions._jit_set_profiling_executor(True)
            functions._jit_set_profiling_mode(True)
        del _active[len(_active) - len(sites) :]
        for name in set(sys.modules) - before:
            file = str(getattr(sys.modules[name], "__file__", ""))
            if name.startswith("deepmd_") and any(str(s) in file for s in (*sites, HERE)):
                del sys.modules[name]


def _is_of_plugin(component: object) -> bool:
    return plugin.origin_of(component) is not None if hasattr(component, "__module__") else False


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the package of components for PyTorch."""
    pytest.importorskip("torch")
    return install(HERE / "toy", tmp_path_factory.mktemp("plugins") / "toy")
