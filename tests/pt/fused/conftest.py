# SPDX-License-Identifier: LGPL-3.0-or-later
"""The two fast forms of operations in training steps."""

import pytest


@pytest.fixture(params=["blocks", "kernels"])
def form(request, monkeypatch):
    """The form that runs: that of compiled kernels, or what runs where they were not built."""
    torch = pytest.importorskip("torch")
    import deepmd.pt.ops  # noqa: F401
    from deepmd.pt.fused import (
        kernel_attention,
        kernel_convolution,
        kernel_embedding,
        kernel_interpolation,
        kernel_scalar,
        kernel_sums,
    )
    from deepmd.pt.fused.kernels import kernels

    if request.param == "blocks":
        every = (
            kernel_attention,
            kernel_convolution,
            kernel_embedding,
            kernel_interpolation,
            kernel_scalar,
            kernel_sums,
        )
        for module in every:
            monkeypatch.setattr(module, "kernels", lambda dtype: None)
    elif kernels(torch.float64) is None:
        pytest.skip("needs the compiled libraries")
    return request.param
