# SPDX-License-Identifier: LGPL-3.0-or-later
"""``dp data check``: faults of data before a model is trained on them."""

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from deepmd.base.errors import InputError
from deepmd.base.files import write_text
from deepmd.data.checks.report import check_data, lines
from deepmd.data.neighbor_stat import model_selections
from deepmd.data.search import open_systems
from deepmd.data.structure_file import parse_keys
from deepmd.entrypoints.data import data_paths
from deepmd.schema import load_input, normalize

log = logging.getLogger(__name__)


def data_check(
    *,
    INPUT: Sequence[str],
    valid: Sequence[str] | None = None,
    rcut: float | None = None,
    sel: Sequence[int] | None = None,
    json_file: str | None = None,
    keys: Sequence[str] | None = None,
    type_map: Sequence[str] | None = None,
    **_: Any,
) -> None:
    """Check data sets, or those of an input file; a training that must go wrong gives status 1.

    The options are those of the command.
    """
    if rcut is not None and not 0.0 < rcut < float("inf"):
        raise InputError(f"found {rcut:g}, expected a positive length", where="--rcut")
    settings = _settings(INPUT, valid)
    names = type_map or settings.get("type_map")
    declared = parse_keys(keys) or settings.get("keys")

    def opened(paths: Sequence[str]) -> list[Any]:
        systems = open_systems(
            paths, type_map=names, patterns=settings.get("patterns"), keys=declared
        )
        nameless = next((s for s in systems if s.type_map is None), None)
        if nameless is not None:
            fix = "name the types with --type-map"
            raise InputError("the types have no names", where=nameless.path, fix=fix)
        return systems

    report = check_data(
        opened(settings["train"]),
        opened(settings["valid"]) if settings["valid"] else None,
        rcut=rcut or settings.get("rcut") or 6.0,
        sel=list(sel) if sel else settings.get("sel"),
        type_map=names,
    )
    if json_file == "-":
        sys.stdout.write(json.dumps(report.as_dict(), indent=2) + "\n")
    else:
        for line in lines(report):
            log.info("%s", line)
        if json_file is not None:
            write_text(json_file, json.dumps(report.as_dict(), indent=2) + "\n")
    if not report.passed:
        raise SystemExit(1)


def _settings(paths: Sequence[str], valid: Sequence[str] | None) -> dict[str, Any]:
    """Return data sets, and what an input file says about the model."""
    if len(paths) != 1 or not paths[0].endswith((".json", ".yaml", ".yml")):
        return {"train": list(paths), "valid": list(valid or ())}
    if valid:
        raise InputError(
            "an input file names its validation data", where="--valid", fix="leave it out"
        )
    config = normalize(load_input(paths[0]), file=paths[0])
    if "model_dict" in config["model"]:
        raise InputError(
            "has several branches", where=paths[0], fix="check their data sets one by one"
        )
    found = data_paths(".", None, train_data=paths[0])
    held = config["training"].get("validation_data")
    out: dict[str, Any] = {
        "train": found.paths,
        "valid": data_paths(".", None, valid_data=paths[0]).paths if held else [],
        "patterns": found.patterns,
        "keys": found.keys,
        "type_map": config["model"].get("type_map"),
    }
    for one in model_selections(config["model"]):
        out |= {"rcut": one.rcut} | ({} if isinstance(one.value, str) else {"sel": one.value})
        break
    return out
