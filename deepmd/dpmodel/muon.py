# SPDX-License-Identifier: LGPL-3.0-or-later
"""Choices of optimizers that orthogonalize the momentum of matrices, and take Adam for the rest.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); Si et al., "AdaMuon:
adaptive Muon optimizer", arXiv:2507.11005 (2025). The steps are those of DeePMD-kit 3.2.0.
"""

from collections.abc import Mapping
from typing import Any

from deepmd.schema.common import BELOW_ONE, NOT_NEGATIVE, one_of
from deepmd.schema.registry import optimizer_args
from deepmd.schema.settings import Settings, setting


class Muon(Settings):
    """Settings that both optimizers have."""

    momentum: float = setting(
        0.95, "Decay of the momentum of matrices.", alias=["muon_momentum"], rule=BELOW_ONE
    )
    adam_beta1: float = setting(0.9, "Decay of Adam's first moment.", rule=BELOW_ONE)
    adam_beta2: float = setting(0.95, "Decay of second moments.", rule=BELOW_ONE)
    weight_decay: float = setting(
        0.001, "Shrinks matrices, apart from the momentum.", rule=NOT_NEGATIVE
    )
    lr_adjust: float = setting(
        0.0,
        "0 or less: steps are as large as those of Adam, lr_adjust_coeff × √max(rows, columns); "
        "else the factor is √max(1, rows / columns) and the rate of Adam is lr / lr_adjust.",
    )
    lr_adjust_coeff: float = setting(0.2, "See lr_adjust.", rule=NOT_NEGATIVE)


class AdaMuon(Muon):
    """Orthogonalized sign of the momentum, divided by the root of its second moment."""

    lr_adjust: float = setting(10.0)


class HybridMuon(Muon):
    """Orthogonalized momentum; matrices with one row or column belong to Adam."""

    lr_adjust_coeff: float = setting(0.18)
    muon_mode: str = setting(
        "slice",
        "How arrays with more than two axes become matrices; components here have none.",
        rule=one_of("2d", "flat", "slice"),
    )
    enable_gram: bool = setting(
        True, "Iterate with the smaller square matrix where rows and columns differ in number."
    )
    flash_muon: bool = setting(True, "Kernels of DeePMD-kit; changes no number.")
    magma_muon: bool = setting(
        True, "Shrink steps of matrices whose gradient and momentum point in different directions."
    )


MUONS: dict[str, type[Muon]] = {"AdaMuon": AdaMuon, "HybridMuon": HybridMuon}
for _name, _kind in MUONS.items():
    optimizer_args.add(_kind, _name)


def muon_of(section: Mapping[str, Any]) -> Muon | None:
    """Return the choices of a checked ``optimizer`` section, or None for one of another kind."""
    kind = MUONS.get(section.get("type", "Adam"))
    return None if kind is None else kind(**{k: v for k, v in section.items() if k != "type"})
