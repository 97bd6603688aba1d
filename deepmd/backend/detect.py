# SPDX-License-Identifier: LGPL-3.0-or-later
"""Names of model files: which backend opens one, and the suffix a backend gives it."""

import os
from pathlib import Path

from deepmd.backend.backend import Backend, choose_backend
from deepmd.utils.errors import InputError, ModelFileError


def backend_of(path: str | os.PathLike[str]) -> Backend:
    """Return the backend that opens a file, by its suffix, if it can be used here."""
    if not has_known_suffix(path):
        refuse_other(Path(path))
    backend = Backend.detect_backend_by_model(path)()
    backend.require()
    return backend


def existing_model(path: str | os.PathLike[str]) -> Path:
    """Return the path of a model file the user named, if it is there."""
    path = Path(path)
    if path.is_dir():
        raise _a_folder(path)
    if not path.exists():
        beside = sorted(p.name for p in path.parent.glob(f"{path.stem}.*")) if path.stem else []
        fix = f"in that folder: {', '.join(beside[:5])}" if beside else None
        raise ModelFileError("model file not found", where=path, fix=fix)
    return path


def refuse_other(path: Path) -> None:
    """Refuse a folder, and a file that is there but of no known kind.

    Raises
    ------
    ModelFileError
        Naming model files beside or inside.
    """
    if path.is_dir():
        raise _a_folder(path)
    if path.exists():
        kinds = [s for b in Backend.get_backends().values() for s in b.file_suffixes()]
        raise ModelFileError(
            "is no model file: no backend opens files of this name",
            where=path,
            fix=f"known suffixes: {', '.join(sorted(set(kinds)))}",
        )


def _a_folder(path: Path) -> ModelFileError:
    inside = sorted(p.name for p in path.iterdir() if p.is_file() and has_known_suffix(p))
    files = [n for n in inside if not n.startswith(".") and not n.endswith((".yaml", ".yml"))]
    named = f": {', '.join(files[:5])}{', …' * (len(files) > 5)}" if files else ""
    fix = f"name the file{named}" if files else "name a model file or checkpoint"
    return ModelFileError("is a folder, a model file was expected", where=path, fix=fix)


def has_known_suffix(path: str | os.PathLike[str]) -> bool:
    """Whether some backend opens files of this name."""
    try:
        Backend.detect_backend_by_model(path)
    except InputError:
        return False
    return True


def resolve_model(name: str | os.PathLike[str], preferred: str | None = None) -> Path:
    """Return the model file a user means; a name without a suffix gets that of a backend.

    Parameters
    ----------
    name : path
        As the user gave it: ``frozen_model`` or ``frozen_model.pth``.
    preferred : str, optional
        Name of the backend whose suffixes are tried first; by default the one that would train.
    """
    path = Path(name)
    if has_known_suffix(path) or not path.name:
        return existing_model(path)
    first = choose_backend(None)[0] if preferred is None else Backend.get_backend(preferred)
    tried = [
        path.with_name(path.name + suffix)
        for backend in [first, *Backend.get_backends().values()]
        for suffix in backend.file_suffixes()
    ]
    found = next((p for p in tried if p.exists()), None)
    if found is None:
        refuse_other(path)
    return existing_model(found or tried[0])


def with_suffix_of(path: str | os.PathLike[str], backend: type[Backend]) -> Path:
    """Put the first suffix of ``backend`` in the place of any other known one."""
    path = Path(path)
    if path.name.lower().endswith(backend.suffixes):
        return path
    stem = path.with_suffix("") if has_known_suffix(path) else path
    return stem.with_name(stem.name + backend.suffixes[0])
