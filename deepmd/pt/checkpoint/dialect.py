# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models of DeePMD-kit's PyTorch backend from their sections and arrays by name.

Releases differ in which arrays they store. What is known of that is in the tables here; a name that
is in none of them is an error that names it.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from deepmd.base.errors import ModelFileError
from deepmd.dpmodel.model import Model, build_model
from deepmd.pt.checkpoint.names import Path, array_names, at, fill, with_tables

#: Arrays that follow from settings or others, by the end of their name.
DERIVED = re.compile(
    r"""(^|\.)(
        (emask|atom_excl|pair_excl)\.type_mask      # excluded types
        | mapping_list(\.\d+)? | rcuts | nsels      # members of linear models
        | zbl_weight                                # of the last evaluation
        | sec | nlist_cut_idx                       # neighbors by type, members of hybrids
        | default_fparam_tensor
        | bias_dos                                  # the same as bias_atom_e
        | spin_mask | virtual_scale_mask
        | min_nbor_dist
        | (compress_info|compress_data)\.\d+ | type_embd_data
        | econf_tebd                                # electronic configurations
    )$""",
    re.VERBOSE,
)
#: Arrays that some files do not have, with what then holds: the initial values, 0 and 1, of the
#: first previews, and of polarizabilities in checkpoints what the section says.
ABSENT = ("out_bias", "out_std", "bias_atom_e", "scale", "constant_matrix")
#: Settings that a descriptor has there whatever its section says.
FIXED_SETTINGS = {"se_e2_r": {"type_one_side": True}, "se_r": {"type_one_side": True}}


def as_built(section: Any) -> Any:
    """Return a model section with the settings that the models really have."""
    if isinstance(section, list):
        return [as_built(part) for part in section]
    if not isinstance(section, Mapping):
        return section
    out = {key: as_built(value) for key, value in section.items()}
    return out | FIXED_SETTINGS.get(str(out.get("type")), {})


def model_of_state(section: Mapping[str, Any], state: Mapping[str, Any], prefix: str = "") -> Model:
    """Return the model of a section with the arrays of a state dictionary.

    Parameters
    ----------
    section : mapping
        The ``model`` section of the input it was trained with, see :func:`as_built`.
    state : mapping of str to Tensor
    prefix : str
        What the names of the model begin with.

    Raises
    ------
    ModelFileError
        If an array is missing, of another shape, or of no known name.
    """
    data = build_model(with_tables(section, state, prefix)).serialize()
    used = fill(data, state, prefix, absent=ABSENT)
    _check_names(state, prefix, used)
    _add_tables(data, state, prefix)
    return Model.deserialize(data)


def _check_names(state: Mapping[str, Any], prefix: str, used: set[str]) -> None:
    """Raise ModelFileError if a state has arrays that the model does not."""
    unknown = [
        name
        for name in state
        if name.startswith(prefix)
        and name not in used
        and name != "_extra_state"
        and not DERIVED.search(name)
        and not (name.endswith("bias_atom_e") and not np.any(_numpy(state[name])))
    ]
    if unknown:
        more = f" and {len(unknown) - 3} more" if len(unknown) > 3 else ""
        raise ModelFileError(
            f"holds arrays that its model does not have: {', '.join(unknown[:3])}{more}",
            fix="it is of a release that is not known here: report the names, or convert its .dp",
        )


# -- tables of compressed models ------------------------------------------------------------------


def _add_tables(data: dict[str, Any], state: Mapping[str, Any], prefix: str) -> None:
    """Put the tables of embedding networks into the dictionaries of their descriptors."""
    for place, names in array_names(data).items():
        if place[-1] == "davg":
            node, inside = at(data, place[:-2]), prefix + names[0].removesuffix("mean")
            found = _tables(state, inside)
            if found:
                node["compress"] = found
                _raise_version(data, place)


def _tables(state: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the dictionary of the tables of one descriptor; empty without any."""
    values: list[np.ndarray] = []
    infos: list[np.ndarray] = []
    while f"{prefix}compress_data.{len(values)}" in state:
        number = len(values)
        value = _numpy(state[f"{prefix}compress_data.{number}"])
        values.append(value if value.size else np.zeros((0, 0)))
        infos.append(_numpy(state[f"{prefix}compress_info.{number}"]).astype(np.float64))
    types = state.get(f"{prefix}type_embd_data")
    mixed = types is not None
    arrays: dict[str, Any] = {}
    if any(v.size for v in values):
        arrays = {"compress_data": values, "compress_info": infos}
    if types is not None and types.numel():
        arrays["type_embd_data"] = _numpy(types)
    if not arrays:
        return {}
    flagged = mixed and not prefix.endswith("se_ttebd.")
    flag = {"geo_compress": "compress_data" in arrays} if flagged else {}
    return {"@variables": arrays, **flag}


def _raise_version(data: dict[str, Any], place: Path) -> None:
    """Let a dictionary say that it has tables; that of a part is in the one around it."""
    for end in range(len(place) - 2, 0, -1):
        node = at(data, place[:end])
        if isinstance(node, dict) and node.get("@class") == "Descriptor":
            node["@version"] += 1
            return


def _numpy(tensor: Any) -> np.ndarray:
    return np.array(tensor.detach().cpu().numpy())
