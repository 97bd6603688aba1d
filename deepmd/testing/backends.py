# SPDX-License-Identifier: LGPL-3.0-or-later
"""The evaluators of all backends, by name, for tests."""

import pytest

from deepmd.dpmodel.model import Model
from deepmd.runtime.evaluator import Evaluator

#: Name of a backend and where its evaluator of neutral models is.
EVALUATORS = {
    "numpy": ("deepmd.np.evaluator", "NumPyEvaluator"),
    "torch": ("deepmd.pt.evaluator", "TorchEvaluator"),
    "jax": ("deepmd.jax.evaluator", "JaxEvaluator"),
    "tensorflow": ("deepmd.tf.evaluator", "TfEvaluator"),
}


def evaluator(backend: str, model: Model) -> Evaluator:
    """Return an evaluator of a neutral model; skip the test where the backend is missing."""
    module, name = EVALUATORS[backend]
    found = pytest.importorskip(module, reason=f"{backend} is not installed or not built")
    return getattr(found, name)(model)
