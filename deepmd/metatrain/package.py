# SPDX-License-Identifier: LGPL-3.0-or-later
"""Folder of the architecture that metatrain finds: ``python -m deepmd.metatrain``.

metatrain looks for architectures in folders of its own package. The folder is written there; its
files import this package.
"""

from importlib.util import find_spec
from pathlib import Path

from deepmd.base.errors import InputError
from deepmd.metatrain import ARCHITECTURE, hypers

_DOCUMENTATION = '''"""
DeePMD
======

Models of energies of DeePMD-kit, as :mod:`deepmd.metatrain` has them.
"""

from deepmd.metatrain.hypers import ModelHypers, TrainerHypers

__all__ = ["ModelHypers", "TrainerHypers"]
'''
_INIT = '''"""Models of energies of DeePMD-kit; written by ``python -m deepmd.metatrain``."""

from .model import DeepMD
from .trainer import Trainer

__model__ = DeepMD
__trainer__ = Trainer
__authors__ = [("The developers of DeePMD-kit <deepmd-kit>", "@deepmodeling")]
__maintainers__ = __authors__
'''
_IMPORT = '"""See deepmd.metatrain.{module}."""\n\nfrom deepmd.metatrain.{module} import {name}\n\n__all__ = ["{name}"]\n'


def write_package(folder: Path) -> list[Path]:
    """Write the files of the architecture into a folder; return them."""
    texts = {
        "__init__.py": _INIT,
        "documentation.py": _DOCUMENTATION,
        "model.py": _IMPORT.format(module="model", name="DeepMD"),
        "trainer.py": _IMPORT.format(module="trainer", name="Trainer"),
        "default-hypers.yaml": hypers.default_yaml(),
        "schema-hypers.json": hypers.schema_json(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


def installed_folder() -> Path:
    """Return the folder of the architecture in the installed metatrain.

    Raises
    ------
    InputError
        If metatrain is not installed.
    """
    spec = find_spec("metatrain")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "metatrain is not installed", where="metatrain", fix="pip install metatrain"
        )
    return Path(spec.submodule_search_locations[0], *ARCHITECTURE.split("."))
