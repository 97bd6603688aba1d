# SPDX-License-Identifier: LGPL-3.0-or-later
"""How two trainings or two models differ."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepmd.backend.detect import backend_of, existing_model
from deepmd.dpmodel.uncertainty import SECTION
from deepmd.insight.run import Run, read_run

#: Lines of one subject, at most.
_MOST = 15


def differences(one: str | os.PathLike[str], two: str | os.PathLike[str]) -> list[str]:
    """Return a line for everything that differs; nothing for equal ones.

    Parameters
    ----------
    one, two : path
        Folders of trainings, or model files and checkpoints.
    """
    runs = [
        read_run(p) if Path(p).is_dir() and (Path(p) / "out.json").is_file() else None
        for p in (one, two)
    ]
    out: list[str] = []
    paths: list[Path | None] = [Path(one), Path(two)]
    if runs[0] is not None and runs[1] is not None:
        out += _runs(runs[0], runs[1])
    for k, run in enumerate(runs):
        if run is not None:
            paths[k] = run.model
    if paths[0] is not None and paths[1] is not None:
        out += _models(paths[0], paths[1])
    return out


def _runs(one: Run, two: Run) -> Iterator[str]:
    yield from _first(_trees(one.config, two.config, "input"))
    for key in ("backend", "versions", "machine", "seed", "start", "step"):
        yield from _trees(one.record.get(key), two.record.get(key), key)
    yield from _first(_trees(_data(one), _data(two), "data"))
    if one.columns != two.columns or not np.array_equal(one.curve, two.curve, equal_nan=True):
        if one.columns == two.columns and len(one.curve) and len(two.curve):
            for name, a, b in zip(one.columns, one.curve[-1], two.curve[-1], strict=True):
                if a != b and not (np.isnan(a) and np.isnan(b)):
                    yield f"learning curve, last row: {name}: {a:g} against {b:g}"
        else:
            yield "the learning curves have other columns or no rows"


def _data(run: Run) -> Any:
    """Digests of the data; paths may differ."""
    return {
        name: {k: [d["digest"] for d in v] for k, v in kinds.items()}
        for name, kinds in (run.record.get("data") or {}).items()
    }


def _first(lines: Iterator[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == _MOST:
            yield "…"
            return
        yield line


def _trees(one: Any, two: Any, path: str) -> Iterator[str]:
    """Leaves that differ."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in dict.fromkeys([*one, *two]):
            yield from _trees(one.get(key), two.get(key), f"{path}/{key}")
    elif one != two:
        yield f"{path}: {one!r} against {two!r}"


def _models(one: Path, two: Path) -> Iterator[str]:
    trees = [backend_of(p).serialize_hook(existing_model(p)) for p in (one, two)]
    flat = [
        dict(arrays(tree.get("model", tree))) | dict(arrays(tree.get(SECTION, {}), SECTION))
        for tree in trees
    ]
    only = [sorted(set(a) - set(b)) for a, b in (flat, flat[::-1])]
    for names, path in zip(only, (one, two), strict=True):
        if names:
            yield f"model: {len(names)} arrays only in {path.name}, such as {names[0]}"
    worst: list[tuple[float, str]] = []
    for name in flat[0].keys() & flat[1].keys():
        a, b = flat[0][name], flat[1][name]
        if a.shape != b.shape:
            yield f"model: {name}: {a.shape} against {b.shape}"
        elif a.size and not np.array_equal(a, b, equal_nan=a.dtype.kind == "f"):
            worst.append((float(np.abs(a.astype(float) - b.astype(float)).max()), name))
    if worst:
        far, name = max(worst)
        yield f"model: {len(worst)} of {len(flat[0])} arrays differ, by up to {far:.3g} ({name})"


def arrays(tree: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Iterate over the arrays of numbers of a dictionary, with their paths."""
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from arrays(value, f"{path}/{key}" if path else str(key))
    elif isinstance(tree, np.ndarray) and tree.dtype.kind in "fiu":
        yield path, tree
