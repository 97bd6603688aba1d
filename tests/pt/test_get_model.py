# SPDX-License-Identifier: LGPL-3.0-or-later
"""``get_model()`` of an opened file is what evaluates it."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.infer import DeepPot  # noqa: E402
from deepmd.io import save_model  # noqa: E402
from deepmd.pt.torchscript.export import write_pth  # noqa: E402
from deepmd.runtime.probes import model_file_dict  # noqa: E402
from tests.pt.models import model, section  # noqa: E402


def test_module_of_the_backend(tmp_path):
    data = model_file_dict(model(), section(), 0.5, "PyTorch")
    write_pth(tmp_path / "m.pth", data)
    program = DeepPot(tmp_path / "m.pth").get_model()
    assert isinstance(program, torch.jit.ScriptModule)
    coord = torch.tensor(np.random.default_rng(0).uniform(0, 4, (1, 3, 3)))
    types = torch.tensor([[0, 1, 1]])
    out = program(coord, types, None)
    want = DeepPot(tmp_path / "m.pth").eval(coord.numpy(), None, [0, 1, 1])
    np.testing.assert_allclose(out["energy"].detach().numpy(), want[0], rtol=1e-12)


def test_neutral_model_of_a_portable_file(tmp_path):
    save_model(tmp_path / "m.dp", model_file_dict(model(), section(), 0.5, "PyTorch"))
    opened = DeepPot(tmp_path / "m.dp")
    assert opened.get_model() is opened.model
