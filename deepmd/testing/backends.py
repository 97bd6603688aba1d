# SPDX-License-Identifier: LGPL-3.0-or-later
"""The evaluators of all backends, by name, for tests."""

import pytest

from deepmd.backend.backend import Backend
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


#: Name of a backend, and the suffix of the model files that it writes.
SUFFIXES = {"numpy": ".dp", "torch": ".pth", "jax": ".hlo", "tensorflow": ".pb"}
_KEYS = {"numpy": "dpmodel", "torch": "pytorch"}


def open_backend(backend: str) -> Backend:
    """Return a backend by the name it has here; skip the test where it is missing."""
    found = Backend.get_backend(_KEYS.get(backend, backend))()
    reason = found.why_not()
    if reason is not None:
        pytest.skip(reason)
    return found
