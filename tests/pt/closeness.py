# SPDX-License-Identifier: LGPL-3.0-or-later
"""Comparison of results of an operation with those of its reference."""


def assert_close(found, expected, tolerance):
    """Compare tensors one by one: types, and values by the largest one or 1."""
    for got, want in zip(found, expected, strict=True):
        assert got.dtype == want.dtype
        scale = max(float(want.abs().max()), 1.0)
        assert float((got - want).abs().max()) <= tolerance * scale
