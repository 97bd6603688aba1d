# SPDX-License-Identifier: LGPL-3.0-or-later
"""Names of model files: which backend opens one, and the suffix a backend gives it."""

import os
import re
from pathlib import Path

from deepmd.backend.backend import Backend, choose_backend
from deepmd.base.errors import InputError, ModelFileError


def backend_of(path: str | os.PathLike[str]) -> Backend:
    """Return the backend that opens a file, by its suffix, if its files can be read here."""
    if not has_known_suffix(path):
        refuse_other(Path(path))
    backend = Backend.detect_backend_by_model(path)()
    backend.require(reading=True)
    return backend


def existing_model(path: str | os.PathLike[str]) -> Path:
    """Return the path of a model file the user named, if it is there."""
    path = Path(path)
    if path.is_dir() and not is_folder_kind(path):
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
    inside = sorted(
        p.name for p in path.iterdir() if (p.is_file() or is_folder_kind(p)) and has_known_suffix(p)
    )
    files = [n for n in inside if not n.startswith(".") and not n.endswith((".yaml", ".yml"))]
    named = f": {', '.join(files[:5])}{', …' * (len(files) > 5)}" if files else ""
    fix = f"name the file{named}" if files else "name a model file or checkpoint"
    return ModelFileError("is a folder, a model file was expected", where=path, fix=fix)


def is_folder_kind(path: str | os.PathLike[str]) -> bool:
    """Whether model files of this name are folders."""
    kinds = tuple(s for b in Backend.get_backends().values() for s in b.folders)
    return Path(path).name.lower().endswith(kinds)


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


def refuse_same_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Raise InputError if a file would take the place of the one it is made from.

    A checkpoint would lose the state of its training.
    """
    source, target = Path(source), Path(target)
    if target.exists() and os.path.samefile(source, target):
        raise InputError("is read and written at once", where=target, fix="name another output")


def output_of(path: str | os.PathLike[str], backend: type[Backend]) -> Path:
    """Return the model file to write for what a user named.

    A name without suffix gets that of ``backend``; so do ``run0.5`` and ``model.ckpt-2``, which
    have none either. A suffix of another backend is replaced, as scripts for DeePMD-kit expect.

    Raises
    ------
    InputError
        For a suffix that no model file has, and where a file that was not named would be replaced.
    """
    path, suffix = Path(path), backend.suffixes[0]
    if path.name.lower().endswith(backend.suffixes):
        return path
    if has_known_suffix(path):
        other = path.with_suffix(suffix)
        if os.path.lexists(other):
            raise InputError(
                f"{backend.name} writes {suffix}, but {other} is there and was not named",
                where=path,
                fix=f"name {other} to replace it, or another file",
            )
        return other
    if re.fullmatch(r"\.[A-Za-z]\w*", path.suffix):
        raise InputError(
            f"no model file ends in {path.suffix}",
            where=path,
            fix=f"{backend.name} writes {path.with_suffix(suffix)}, or {path.name}{suffix}",
        )
    return path.with_name(path.name + suffix)
