# SPDX-License-Identifier: LGPL-3.0-or-later
"""SavedModels of DeePMD-kit: evaluated by their functions; they hold no arrays of the model."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from deepmd.base.errors import ModelFileError, NotAvailableError
from deepmd.dpmodel.input_def import InputDef
from deepmd.dpmodel.model import Model
from deepmd.dpmodel.output_def import FittingOutputDef, Level, OutputVariableDef
from deepmd.io.guard import opening
from deepmd.io.saved_model import program_bytes
from deepmd.tf.saved.evaluator import FunctionEvaluator
from deepmd.tf.saved.functions import ENTRIES
from deepmd.tf.saved.graph import Functions

#: Outputs that are means over atoms, by their flag in the input; others are sums.
_KNOWN = ("energy", "dipole", "polar", "dos", "wfc")


class DescribedModel(Model):
    """Model of which the description is known, and nothing else.

    Parameters
    ----------
    facts : dict
        Answers of the functions of a SavedModel by their names, and ``outputs``.
    """

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._facts = dict(facts)

    @property
    def atomic_model(self) -> Any:  # type: ignore[override]
        """The atomic model, which there is none of."""
        return self._missing("parameters")

    def _missing(self, what: str) -> NoReturn:
        raise NotAvailableError(
            f"the file holds a program of DeePMD-kit, and no {what} of the model",
            fix="convert the .dp, .pt or .jax it was made from",
        )

    @property
    def type_map(self) -> list[str]:
        """Names of the types."""
        return list(self._facts["type_map"])

    @property
    def rcut(self) -> float:
        """Cutoff [Å]."""
        return float(self._facts["rcut"])

    def get_sel(self) -> list[int]:
        return [int(n) for n in self._facts["sel"]]

    def inputs(self) -> tuple[InputDef, ...]:
        return self._facts["inputs"]

    def output_def(self) -> FittingOutputDef:
        return self._facts["outputs"]

    def kinds(self) -> list[str]:
        return [n if n in _KNOWN else "property" for n in self.output_def().get_data()]

    def get_sel_type(self) -> list[int]:
        selected = [int(t) for t in self._facts["sel_type"]]
        return [] if len(selected) == len(self.type_map) else selected

    def mixed_types(self) -> bool:
        return bool(self._facts["mixed_types"])

    def message_passing(self) -> bool:
        return bool(self._facts["message_passing"])

    def serialize(self) -> dict:
        return self._missing("parameters")

    def warnings(self) -> list[str]:
        return []


def open_foreign(path: str | os.PathLike[str]) -> FunctionEvaluator:
    """Open a SavedModel of DeePMD-kit for evaluation.

    Raises
    ------
    ModelFileError
        If it is damaged, does more than compute, or does not have DeePMD-kit's functions.
    """
    with opening(path):
        functions = Functions(program_bytes(Path(path)))
        entry = ENTRIES["call_lower_atomic_virial"]
        shapes = functions.outputs(entry)
        script = json.loads(functions.answer("get_model_def_script") or b"{}")
        if not isinstance(script, dict):
            raise ModelFileError("its model section is no dictionary")
        model = DescribedModel(_facts(functions, shapes, script))
        distance = functions.answer("get_min_nbor_dist")
    known = None if distance is None or not distance > 0 else float(distance)
    return FunctionEvaluator(model, functions, path, model_def_script=script, min_nbor_dist=known)


def _facts(
    functions: Functions, shapes: Mapping[str, list[int | None]], script: Mapping[str, Any]
) -> dict[str, Any]:
    """Description of a model out of the answers of its functions."""

    def answer(name: str) -> Any:
        value = functions.answer(name)
        if value is None:
            raise ModelFileError(f"holds no function {name}; no model of DeePMD-kit")
        return value

    return {
        "type_map": [name.decode() for name in answer("get_type_map")],
        "rcut": float(answer("get_rcut")),
        "sel": np.atleast_1d(answer("get_sel")).tolist(),
        "sel_type": answer("get_sel_type").tolist(),
        "mixed_types": bool(answer("mixed_types")),
        "message_passing": bool(answer("has_message_passing")),
        "inputs": tuple(_inputs(functions)),
        "outputs": _outputs(shapes, script),
    }


def _inputs(functions: Functions) -> list[InputDef]:
    """Inputs that the model takes."""
    found = []
    for name, dim, default, level in (
        ("fparam", "get_dim_fparam", "get_default_fparam", Level.FRAME),
        ("aparam", "get_dim_aparam", None, Level.ATOM),
        ("charge_spin", "get_dim_chg_spin", "get_default_chg_spin", Level.FRAME),
    ):
        size = int(functions.answer(dim) or 0)
        if size:
            value = None if default is None else functions.answer(default)
            filled = None if value is None or len(value) != size else tuple(map(float, value))
            found.append(InputDef(name, level, size, filled))
    return found


def _outputs(shapes: Mapping[str, list[int | None]], script: Mapping[str, Any]) -> FittingOutputDef:
    """Outputs, by the names of the results: ``x``, ``x_redu``, and ``x_derv_r``."""
    section = script.get("fitting_net") or {}
    found = []
    for name in [n.removesuffix("_redu") for n in shapes if n.endswith("_redu")]:
        if name not in shapes or name.endswith("_derv_c"):
            continue
        sizes: Sequence[int | None] = shapes[name][2:]
        forces = f"{name}_derv_r" in shapes
        if any(n is None for n in sizes):
            raise ModelFileError(f"does not say how many components {name} has")
        found.append(
            OutputVariableDef(
                name,
                [int(n or 0) for n in sizes],
                reducible=True,
                r_differentiable=forces,
                c_differentiable=forces,
                intensive=bool(section.get("intensive", False)),
            )
        )
    if not found:
        raise ModelFileError("predicts nothing; no model of DeePMD-kit")
    return FittingOutputDef(found)
