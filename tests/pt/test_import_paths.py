# SPDX-License-Identifier: LGPL-3.0-or-later
"""Import paths that users of the PyTorch backend know."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.pt.model.descriptor import DescrptSeA  # noqa: E402
from deepmd.pt.model.model import get_model, get_standard_model  # noqa: E402
from deepmd.pt.model.task import EnergyFittingNet  # noqa: E402
from deepmd.pt.utils.env import DEVICE, GLOBAL_PT_ENER_FLOAT_PRECISION  # noqa: E402
from deepmd.pt.utils.utils import to_numpy_array, to_torch_tensor  # noqa: E402
from tests.pt.models import section  # noqa: E402


def test_models_are_made_of_the_named_classes():
    given = section()
    model = get_standard_model(given)
    assert isinstance(model, torch.nn.Module)
    assert isinstance(model.atomic_model.descriptor, DescrptSeA)
    assert isinstance(model.atomic_model.fitting, EnergyFittingNet)
    assert given == section()
    np.testing.assert_equal(get_model(given).serialize(), model.serialize())


def test_conversion():
    assert to_numpy_array(None) is None
    assert to_torch_tensor(None) is None
    tensor = to_torch_tensor(np.arange(3.0))
    assert tensor.device.type == DEVICE.type
    assert tensor.dtype == GLOBAL_PT_ENER_FLOAT_PRECISION
    np.testing.assert_array_equal(to_numpy_array(tensor), np.arange(3.0))
