# SPDX-License-Identifier: LGPL-3.0-or-later
"""Deep-learning interatomic potentials.

``import deepmd`` imports nothing third-party; :class:`DeepPotential` loads on first use.
"""

from typing import Any

__version__ = "3.2.0+r1"
__all__ = ["DeepPotential", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "DeepPotential":
        from deepmd.infer import DeepPotential

        return DeepPotential
    raise AttributeError(f"module 'deepmd' has no attribute '{name}'")
