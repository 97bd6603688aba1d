# SPDX-License-Identifier: LGPL-3.0-or-later
"""Methods of a TorchScript file for other programs: entries, and queries about the model.

TorchScript wants every method spelled out. The entries of files with and without spins differ in
one argument, and answers never change: hence they are made as text.
"""

import json
from collections.abc import Mapping
from typing import Any

from deepmd.dpmodel.model.info import ModelInfo

#: See ``Model.forward_edges``.
_EDGES = """
def forward_edges(self, vec: Tensor, i: Tensor, j: Tensor, atype: Tensor, frame: Tensor,
                  frame_inputs: Dict[str, Tensor], atom_inputs: Dict[str, Tensor],
                  slots: List[Tensor]) -> Dict[str, Tensor]:
    weighted = self.with_cotangents(atom_inputs, atype.shape[0])
    return self.core(vec, i, j, atype, frame, frame_inputs, weighted, slots)
"""
#: By the name of the argument that files with spins have in addition.
_ENTRIES = {
    "spin": """
def forward(self, coord: Tensor, atype: Tensor, {argument}box: Optional[Tensor] = None,
            fparam: Optional[Tensor] = None, aparam: Optional[Tensor] = None,
            do_atomic_virial: bool = False,
            charge_spin: Optional[Tensor] = None) -> Dict[str, Tensor]:
    return self.evaluate_frames(coord, atype, {given}, box, fparam, aparam, do_atomic_virial,
                                charge_spin)
""",
    "extended_spin": """
def forward_lower(self, extended_coord: Tensor, extended_atype: Tensor, {argument}nlist: Tensor,
                  mapping: Optional[Tensor] = None, fparam: Optional[Tensor] = None,
                  aparam: Optional[Tensor] = None, do_atomic_virial: bool = False,
                  comm_dict: Optional[Dict[str, Tensor]] = None,
                  charge_spin: Optional[Tensor] = None,
                  cotangents: Optional[Dict[str, Tensor]] = None) -> Dict[str, Tensor]:
    return self.evaluate_extended(extended_coord, extended_atype, {given}, nlist, mapping, fparam,
                                  aparam, do_atomic_virial, comm_dict, charge_spin, cotangents)
""",
}


def source_of(info: ModelInfo, script: Mapping[str, Any], min_nbor_dist: float | None) -> str:
    """Return the source of these methods, for :class:`deepmd.pt.torchscript.script.Program`.

    Parameters
    ----------
    info : ModelInfo
    script : dict
        The model section of the input.
    min_nbor_dist : float, optional
        Smallest distance of the training data [Å].
    """
    parts = [_EDGES]
    for name, text in _ENTRIES.items():
        argument, given = (f"{name}: Tensor, ", name) if info.use_spin else ("", "None")
        parts.append(text.format(argument=argument, given=given))
    for name, (kind, answer) in _answers(info, script, min_nbor_dist).items():
        parts.append(f"def {name}(self) -> {kind}:\n    return {answer!r}\n")
    return "".join(parts)


def _answers(
    info: ModelInfo, script: Mapping[str, Any], min_nbor_dist: float | None
) -> dict[str, tuple[str, Any]]:
    """Return type and answer by name."""
    type_map, sel = list(info.type_map), list(info.sel)
    default_fparam = info.default_of("fparam") or []
    default_chg_spin = info.default_of("charge_spin") or []
    charges = info.size_of("charge_spin")
    min_dist = min_nbor_dist if min_nbor_dist is not None and min_nbor_dist > 0 else None
    answers: dict[str, tuple[str, Any]] = {
        "get_rcut": ("float", info.rcut),
        "get_type_map": ("List[str]", type_map),
        "get_ntypes": ("int", len(type_map)),
        "get_observed_type_list": (
            "List[str]",
            list(script.get("info", {}).get("observed_type", type_map)),
        ),
        "get_model_def_script": ("str", json.dumps(script)),
        "get_min_nbor_dist": ("Optional[float]", min_dist),
        "get_sel": ("List[int]", sel),
        "get_nnei": ("int", sum(sel)),
        "get_nsel": ("int", sum(sel)),
        "mixed_types": ("bool", info.mixed_types),
        "need_sorted_nlist_for_lower": ("bool", False),
        "has_message_passing": ("bool", info.message_passing),
        "model_output_type": ("List[str]", [v.name for v in info.outputs]),
        "get_sel_type": ("List[int]", list(info.selected_types)),  # empty: all
        "get_dim_fparam": ("int", info.size_of("fparam")),
        "has_default_fparam": ("bool", bool(default_fparam)),
        "get_default_fparam": ("List[float]", default_fparam),
        "get_dim_aparam": ("int", info.size_of("aparam")),
        "is_aparam_nall": ("bool", False),
        "get_dim_chg_spin": ("int", charges),
        "has_chg_spin_ebd": ("bool", charges > 0),
        "has_default_chg_spin": ("bool", bool(default_chg_spin)),
        "get_default_chg_spin": ("List[float]", default_chg_spin),
        "has_spin": ("bool", bool(info.use_spin)),
    }
    if info.use_spin:
        answers["get_use_spin"] = ("List[bool]", list(info.use_spin))
    return answers
