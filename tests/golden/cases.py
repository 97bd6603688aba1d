# SPDX-License-Identifier: LGPL-3.0-or-later
"""Access to the golden cases: models, inputs and outputs of DeePMD-kit."""

import copy
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COMPACT, REFERENCE

from deepmd.dpmodel.batch import join
from deepmd.dpmodel.neighbors import batch_edges
from deepmd.infer.frames import Frames, make_frames


@functools.cache
def manifest() -> dict[str, Any]:
    """Return the list of everything there is."""
    found = json.loads((REFERENCE / "manifest.json").read_text())
    for case in extra_cases():
        tied = TIED.get(case["name"], set())
        sets = {name: info for name, info in case["sets"].items() if name not in tied}
        if sets:
            found["cases"].append({**case, "sets": sets})
    return found


#: Sets in which several neighbors at the same distance compete for the last place of ``sel``: see
#: test_spin_ties.py, where they are compared.
TIED = {"spin_dpa3_few_edges": {"pbc", "nopbc"}, "spin_dpa3_few_angles": {"pbc"}}


@functools.cache
def extra_cases() -> list[dict[str, Any]]:
    """Return the cases of the extra manifest with all of their sets."""
    extra = None if REFERENCE is None else REFERENCE / "extra" / "manifest.json"
    if extra is None or not extra.is_file():
        return []
    return [_completed(case) for case in json.loads(extra.read_text())]


def _completed(case: dict[str, Any]) -> dict[str, Any]:
    """Add what an entry of the extra manifest leaves to its config, and the folder to its paths."""
    config, spin = case["config"], case["kind"] == "spin"
    descriptor = config["descriptor"]["type"]
    parts = config["descriptor"].get("list", [config["descriptor"]])
    messages = any(part["type"] in ("dpa2", "dpa3") for part in parts)
    full = {
        **case,
        "group": "model/spin" if spin else f"descriptor/{descriptor}",
        "model": "spin" if spin else "standard",
        "descriptor": descriptor,
        "fitting": config["fitting_net"]["type"],
        "type_map": config["type_map"],
        "crowded": spin,  # more neighbors than sel everywhere: nothing is smooth
        "files": {kind: f"extra/{file}" for kind, file in case["files"].items()},
        "npz": f"extra/{case['npz']}",
        "sets": {},
    }
    for name, info in case["sets"].items():
        shape = _arrays(full["npz"])[f"{name}/coord"].shape
        full["sets"][name] = {
            **info,
            "nframes": shape[0],
            "natoms": shape[1] // 3,
            "pbc": "box" in info["inputs"],
            "exceeds_sel": spin or name == "dense",
            "not_unique": ["atom_virial"] if messages else [],
        }
    return full


def select(**wanted: str) -> list[dict[str, Any]]:
    """Return the cases with the given values: ``select(descriptor="se_e2_a", kind="ener")``."""
    return [c for c in manifest()["cases"] if all(c.get(k) == v for k, v in wanted.items())]


def named(name: str) -> dict[str, Any]:
    """Return a case; the test is skipped where only the full set has it."""
    found = select(name=name)
    if not found and REFERENCE == COMPACT:
        pytest.skip(f"{name} is in the full reference data only (../shared/reference)")
    (case,) = found
    return case


def path(case: dict[str, Any], kind: str) -> Path:
    """Return the file of a case in one format; the test is skipped where only the full set has it."""
    if kind not in case["files"] and REFERENCE == COMPACT:
        pytest.skip(
            f"{case['name']}.{kind} is in the full reference data only (../shared/reference)"
        )
    return REFERENCE / case["files"][kind]


@functools.lru_cache(maxsize=8)
def _arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(REFERENCE / name) as stored:
        return dict(stored)


def inputs(case: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the arguments of ``eval`` for one set of inputs."""
    stored = _arrays(case["npz"])
    given = {k: stored[f"{name}/{k}"] for k in case["sets"][name]["inputs"]}
    return {
        "coords": given.pop("coord"),
        "cells": given.pop("box", None),
        "mixed_type": given["atype"].ndim == 2,
        "atom_types": given.pop("atype"),
        **given,
    }


def evaluate_joined(
    potential: Any, case: dict[str, Any], derivatives: tuple[str, ...], extra: tuple[str, ...]
) -> dict[str, dict[str, np.ndarray]]:
    """Evaluate all sets of a case as one batch; return the results of each, as ``evaluate`` has it.

    A backend that compiles a program per shape compiles once.
    """
    frames: dict[str, Frames] = {}
    for name in case["sets"]:
        given = inputs(case, name)
        positional = [given.pop(k) for k in ("coords", "cells", "atom_types")]
        frames[name] = make_frames(potential.model, *positional, **given)
    batches = [f.batch(slice(None)) for f in frames.values()]
    for batch in batches:
        batch.edges = batch_edges(batch, potential.model.rcut)
    raw = potential.evaluator.evaluate(join(batches), derivatives=derivatives, extra=extra)
    out: dict[str, dict[str, np.ndarray]] = {}
    first_frame = first_atom = 0
    for (name, f), batch in zip(frames.items(), batches, strict=True):
        out[name] = {}
        for key, value in raw.items():
            if potential.is_per_atom(key):
                part = np.zeros((f.n_frames, f.n_atoms, *value.shape[1:]))
                part[f.real] = value[first_atom : first_atom + batch.n_atoms]
            else:
                part = value[first_frame : first_frame + f.n_frames]
            out[name][key] = part
        first_frame, first_atom = first_frame + f.n_frames, first_atom + batch.n_atoms
    return out


def compare(case: dict[str, Any], name: str, results: dict[str, np.ndarray]) -> dict[str, float]:
    """Compare results with the stored ones; return {output: deviation / allowed}.

    Every stored output that is unique must be among the results, in the stored shape.
    """
    info, stored, worst = case["sets"][name], _arrays(case["npz"]), {}
    for key in info["outputs"]:
        if key in info.get("not_unique", ()):
            continue
        want, got = stored[f"{name}/out/{key}"], results[key]
        assert got.shape == want.shape, (case["name"], name, key, got.shape, want.shape)
        allowed = case["tolerance"] * max(float(np.abs(want).max(initial=0.0)), 0.01)
        worst[key] = float(np.abs(got - want).max(initial=0.0)) / allowed
    return worst


def evaluate(potential: Any, given: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return all outputs of a potential, through its public methods."""
    names = ("energy", "force", "virial", "atom_energy", "atom_virial")
    out = dict(zip(names, potential.eval(**given, atomic=True), strict=True))
    out["descriptor"] = potential.eval_descriptor(**given)
    out["fitting_last_layer"] = potential.eval_fitting_last_layer(**given)
    return out


def check(potential: Any, case: dict[str, Any]) -> None:
    """Evaluate all sets of a case and compare."""
    for name in case["sets"]:
        worst = compare(case, name, evaluate(potential, inputs(case, name)))
        assert worst, (case["name"], name)
        wrong = {k: v for k, v in worst.items() if not v <= 1.0}
        assert not wrong, (case["name"], name, wrong)


def in_precision(data: Any, precision: str) -> Any:
    """Return a model dictionary of a precision, the networks' arrays rounded to float32.

    Statistics and biases, which are those of descriptors and fittings, stay in double precision.
    """
    if isinstance(data, dict):
        out = {k: in_precision(v, precision) for k, v in data.items()}
        if "precision" in out:
            out["precision"] = precision
            if "type" not in out and "@variables" in out:
                out["@variables"] = _rounded(out["@variables"], precision)
        return out
    if isinstance(data, list):
        return [in_precision(v, precision) for v in data]
    return copy.copy(data)


def _rounded(node: Any, precision: str) -> Any:
    """Return arrays rounded to float32, in another type."""
    if isinstance(node, dict):
        return {k: _rounded(v, precision) for k, v in node.items()}
    if isinstance(node, list):
        return [_rounded(v, precision) for v in node]
    return None if node is None else node.astype(np.float32).astype(precision)
