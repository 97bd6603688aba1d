# SPDX-License-Identifier: LGPL-3.0-or-later
"""Checkpoints on disk: names, how many are kept, which one a restart takes."""

import contextlib
import logging
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from deepmd.base.errors import InputError, ModelFileError, OutputError, did_you_mean
from deepmd.base.files import link_or_copy, remove_fragments, write_text
from deepmd.runtime.checkpoint import Checkpoint

log = logging.getLogger(__name__)

POINTER = "checkpoint"
#: Keys of such a file of TensorFlow.
_TENSORFLOW = ("model_checkpoint_path", "all_model_checkpoint_paths")


class CheckpointStore:
    """The checkpoints of one training.

    ``<prefix>-<step><suffix>`` are the files, ``<prefix><suffix>`` is a link to the newest one and
    ``checkpoint`` beside it holds its name. Each of the three is replaced by one rename, in this
    order, and old files go last, so at every moment the newest complete file can be found.

    Parameters
    ----------
    prefix : str or path
        ``save_ckpt`` of the input.
    suffix : str
        Of the backend's files, ``.pt``.
    write : function
        ``write(path, checkpoint)`` of the backend; the file appears whole or not at all.
    keep : int
        Number of files that stay.
    folder : str or path, optional
        ``save_dir``: where the files lie when not beside the link.
    parts : sequence of str
        Suffixes of further files of a checkpoint, which is then named without a suffix.
    pointer : bool
        Whether the file ``checkpoint`` names these checkpoints.
    """

    def __init__(
        self,
        prefix: str | os.PathLike[str],
        suffix: str,
        write: Callable[[Path, Checkpoint], None],
        *,
        keep: int = 5,
        folder: str | os.PathLike[str] | None = None,
        parts: Sequence[str] = (),
        pointer: bool = True,
    ) -> None:
        self.pointer = pointer
        self.parts = tuple(parts)
        self.prefix, self.suffix, self.keep = Path(prefix), suffix, keep
        self.write = write
        self.folder = self.prefix.parent if folder is None else Path(folder)

    @property
    def link(self) -> Path:
        """The link to the newest file."""
        return self.prefix.with_name(self.prefix.name + self.suffix)

    def path(self, step: int) -> Path:
        """Return the name of the file of a step."""
        return self.folder / f"{self.prefix.name}-{step}{self.suffix}"

    def files(self, path: Path) -> list[Path]:
        """Return all files of a checkpoint, or links to them; that of ``path`` comes last."""
        stem = path.name.removesuffix(self.suffix)
        return [path.with_name(stem + part) for part in (*self.parts, self.suffix)]

    def steps(self) -> list[int]:
        """Steps of the files that are there, ascending."""
        return list(numbered(self.folder, self.prefix.name, self.suffix))

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, point to it, and remove what is too old."""
        path = self.path(checkpoint.step)
        try:
            self.write(path, checkpoint)
            self.link.parent.mkdir(parents=True, exist_ok=True)
            for source, link in zip(self.files(path), self.files(self.link), strict=True):
                link_or_copy(source, link)
            name = os.path.relpath(path, self.link.parent)
            if self.pointer:
                write_text(self.link.with_name(POINTER), self._pointer(name))
        except OSError as error:
            failed = error if isinstance(error, OutputError) else OutputError.of(error, path)
            fix = "free or repair the disk; the checkpoint before it is complete"
            raise OutputError(failed.what, where=failed.where, fix=fix) from error
        # Files of later steps belong to an earlier run, which is not ours to delete.
        for old in [s for s in self.steps() if s <= checkpoint.step][: -self.keep]:
            for file in reversed(self.files(self.path(old))):
                with contextlib.suppress(FileNotFoundError):
                    file.unlink()
        log.info("Saved model to %s", path)
        return path

    def _pointer(self, name: str) -> str:
        """Return what the file ``checkpoint`` says, as other programs read it."""
        if not self.parts:
            return name  # no line end: it is read as a name
        name = name.removesuffix(self.suffix)
        return "".join(f'{key}: "{name}"\n' for key in _TENSORFLOW)

    def remove_fragments(self) -> None:
        """Remove temporary files that a killed run of the same prefix left."""
        for suffix in (*self.parts, self.suffix):
            stem = rf"{re.escape(self.prefix.name)}-\d+"
            remove_fragments(self.folder, stem, suffix)
        for link in self.files(self.link):
            remove_fragments(self.link.parent, re.escape(link.name), "")
        remove_fragments(self.link.parent, POINTER, "")


def remove_fragments_of(path: str | os.PathLike[str]) -> None:
    """Remove what is left of attempts to write one file."""
    path = Path(path)
    remove_fragments(path.parent, re.escape(path.stem), path.suffix)


def numbered(folder: Path, name: str, suffix: str) -> dict[int, Path]:
    """Files ``<name>-<step><suffix>`` of a folder by step, ascending."""
    pattern = re.compile(rf"{re.escape(name)}-(\d+){re.escape(suffix)}")
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match:
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def find_checkpoints(given: str | os.PathLike[str], suffix: str) -> list[Path]:
    """Find what a user means by a checkpoint; the first one is meant, the others come before it.

    Parameters
    ----------
    given : str or path
        ``model.ckpt``, ``model.ckpt.pt``, ``model.ckpt-100.pt``, ``model.ckpt-100``, or a folder
        with a file ``checkpoint``.
    suffix : str
        Of the backend's checkpoints.

    Returns
    -------
    list of path
        One file where the user named its step; else the newest, then older ones.
    """
    path = Path(given)
    if path.is_dir():
        return _of_folder(path, suffix)
    if path.suffix in _OTHER_SUFFIXES and path.suffix != suffix and path.exists():
        raise _of_another_backend("", path, suffix)
    if not path.name.endswith(suffix):
        path = path.with_name(path.name + suffix)
    stem = path.name.removesuffix(suffix)
    if path.is_symlink():
        return _and_older(path.parent / os.readlink(path), suffix)
    if path.exists():
        return [path]
    files = numbered(path.parent, stem, suffix)
    if files:
        return list(reversed(files.values()))
    raise InputError("there is no such checkpoint", where=given, fix=_what_there_is(path, suffix))


_OTHER_SUFFIXES = {
    ".pt",
    ".meta",
    ".jax",
    ".dp",
    ".pth",
    ".hlo",
    ".pb",
    ".yaml",
    ".yml",
    ".savedmodel",
}


def _of_folder(folder: Path, suffix: str) -> list[Path]:
    pointer = folder / POINTER
    if pointer.is_file():
        name = _pointed(pointer.read_text(encoding="utf-8"))
        if not name.endswith(suffix):
            raise _of_another_backend(f'names "{name}", but ', pointer, suffix)
        return _and_older(folder / name, suffix)
    files = numbered(folder, "model.ckpt", suffix)
    if files:
        return list(reversed(files.values()))
    raise InputError(
        f'no file "{POINTER}" and no model.ckpt-*{suffix} here', where=folder, fix="name the file"
    )


def _pointed(text: str) -> str:
    """Return the file that a pointer names; those of TensorFlow name what its files begin with."""
    match = re.match(r'\s*model_checkpoint_path: "(.*)"', text)
    return text.strip() if match is None else f"{os.path.basename(match[1])}.meta"


def _of_another_backend(found: str, where: Path, suffix: str) -> InputError:
    return InputError(
        f"{found}checkpoints of this backend end in {suffix}",
        where=where,
        fix="choose the backend that wrote it (--tf, --pt, --jax, --dp)",
    )


def _and_older(path: Path, suffix: str) -> list[Path]:
    """Return a file and the files of earlier steps, newest first."""
    match = re.fullmatch(r"(.*)-(\d+)", path.name.removesuffix(suffix))
    if match is None:
        return [path]
    files = numbered(path.parent, match[1], suffix)
    return [path, *(files[s] for s in sorted(files, reverse=True) if s < int(match[2]))]


def _what_there_is(path: Path, suffix: str) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder}"
    names = [p.name for p in folder.iterdir() if p.name.endswith(suffix)]
    names = [n for n in names if not n.startswith(".")]
    return did_you_mean(path.name, names) or f"no file {suffix} is in {folder.resolve()}"


def read_newest(
    given: str | os.PathLike[str], suffix: str, read: Callable[[Path], Checkpoint]
) -> tuple[Checkpoint, Path]:
    """Read the checkpoint a user means; if its file is damaged, the one before.

    Raises
    ------
    InputError
        If there is none, or none that can be read.
    """
    candidates = find_checkpoints(given, suffix)
    first: Exception | None = None
    for path in candidates:
        try:
            checkpoint = read(path)
        except (ModelFileError, OSError) as error:
            log.warning("%s cannot be read (%s)", path, error)
            first = first or error
            continue
        if first is not None:
            log.warning("%s of step %d is used instead", path, checkpoint.step)
        return checkpoint, path
    older = "" if len(candidates) > 1 else "; an older one can be named"
    raise ModelFileError(
        f"the checkpoint is damaged or of another kind ({first})",
        where=candidates[0],
        fix=f"restart from another file{older}",
    )
