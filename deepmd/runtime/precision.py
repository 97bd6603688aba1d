# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models whose networks are in another precision; vectors, statistics and sums stay float64."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.dpmodel.model import Model
from deepmd.dpmodel.model.info import METADATA
from deepmd.io.tree import VARIABLES
from deepmd.runtime.evaluator import Evaluator
from deepmd.runtime.probes import make_probes, probe_errors

log = logging.getLogger(__name__)

#: Choices of ``--precision``.
PRECISIONS = ("float64", "float32")
#: Units of what probes hold.
_UNITS = {"energy": "eV", "force": "eV/Å", "virial": "eV"}
#: Nodes that name a precision and hold statistics, not parameters of networks.
_STATISTICS = ("Descriptor", "Fitting")


def in_precision(data: Mapping[str, Any], precision: str) -> dict[str, Any]:
    """Return the dictionary of a model file with all networks in a precision.

    The probes in it are those of the new model.

    Parameters
    ----------
    data : dict
        Of a single model.
    precision : str
        One of :data:`PRECISIONS`.
    """
    model = Model.deserialize(_nodes(data["model"], precision))
    probes = make_probes(model)
    return {
        **data,
        "model": model.serialize(),
        "model_def_script": _section(data.get("model_def_script") or {}, precision),
        "probes": probes,
        METADATA: model.info(probes=len(probes["frames"])).to_dict(),
    }


def log_errors(data: Mapping[str, Any], original: Model, what: str) -> None:
    """Log by how much the results of a model file on its probes differ from another model's.

    Parameters
    ----------
    data : dict
        With the probes of the new model.
    original : Model
    what : str
        What the differences are to, for the message.
    """
    errors = probe_errors(Evaluator(original), data["probes"])
    names = [name for name in errors if not name.startswith("atom_")]
    parts = [f"{name} {errors[name]:.1e} {_UNITS.get(name, '')}".rstrip() for name in names]
    log.info("largest difference from %s on small frames: %s", what, ", ".join(parts))


def _nodes(node: Any, precision: str) -> Any:
    """Change the names of the precision, and the arrays of the nodes that have one."""
    if isinstance(node, (list, tuple)):
        return [_nodes(part, precision) for part in node]
    if not isinstance(node, Mapping):
        return node
    out = {key: _nodes(value, precision) for key, value in node.items()}
    if "precision" in node:
        out["precision"] = precision
        if VARIABLES in node and node.get("@class") not in _STATISTICS:
            out[VARIABLES] = _arrays(node[VARIABLES], precision)
    return out


def _arrays(value: Any, precision: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _arrays(part, precision) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_arrays(part, precision) for part in value]
    is_real = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(precision) if is_real else value


def _section(node: Any, precision: str, key: str = "") -> Any:
    """Change the precision in a model section, and name it where it was left to its default."""
    if isinstance(node, (list, tuple)):
        return [_section(part, precision, key) for part in node]
    if not isinstance(node, Mapping):
        return node
    out = {k: _section(value, precision, k) for k, value in node.items()}
    # Settings of these have one, unless they are lists of others or have no networks.
    has_one = key in ("descriptor", "fitting_net", "list", "type_embedding") and "neuron" in node
    if "precision" in node or has_one:
        out["precision"] = precision
    return out
