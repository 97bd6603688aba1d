# SPDX-License-Identifier: LGPL-3.0-or-later
"""TorchScript programs as bytes that depend on nothing but the program.

What ``torch.jit.save`` writes depends on the name of the file, on the programs this process
compiled before, and, in the records of sources for error messages, on where this package lies.
"""

import contextlib
import io
import warnings
import zipfile
from collections.abc import Iterator, Mapping

import torch
from torch.jit import _recursive, _state

#: Tensors begin at multiples of it, as in the archives of ``torch.jit.save``.
_ALIGNMENT = 64
#: Bytes before the name of a file in an archive.
_HEADER = 30
#: Identifier of the extra field that fills the space before, "FB".
_FILLING = b"FB"


@contextlib.contextmanager
def named_anew() -> Iterator[None]:
    """Let the classes of programs have the names they have in a process of its own.

    TorchScript numbers classes of one name by all that were compiled before.
    """
    before = _state._python_cu, _recursive.concrete_type_store
    # Both: a type of a unit that is gone must not be found again.
    _state._python_cu = torch._C.CompilationUnit()
    _recursive.concrete_type_store = _recursive.ConcreteTypeStore()
    try:
        yield
    finally:
        _state._python_cu, _recursive.concrete_type_store = before


def archive_of(program: torch.jit.ScriptModule, extra: Mapping[str, str | bytes]) -> bytes:
    """Return the ``.pth`` file of a program.

    Parameters
    ----------
    program : ScriptModule
        Compiled in :func:`named_anew`.
    extra : dict of str to str or bytes
        Further files, ``extra/<name>`` in the archive.
    """
    made, packed = io.BytesIO(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(program, made, _extra_files=extra)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(packed, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith((".debug_pkl", ".data/serialization_id")):
                _store(target, entry.filename, source.read(entry), entry.compress_type)
    return packed.getvalue()


def _store(archive: zipfile.ZipFile, name: str, data: bytes, kind: int) -> None:
    """Add a file that begins at a multiple of the alignment, unless it is compressed."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = kind
    if kind == zipfile.ZIP_STORED and archive.fp is not None:
        begin = archive.fp.tell() + _HEADER + len(name.encode()) + len(_filling(0))
        entry.extra = _filling(-begin % _ALIGNMENT)
    archive.writestr(entry, data)


def _filling(size: int) -> bytes:
    return _FILLING + size.to_bytes(2, "little") + b"Z" * size
