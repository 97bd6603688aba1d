# SPDX-License-Identifier: LGPL-3.0-or-later
"""Recorded graphs hold for arrays of every size; what cannot be recorded is refused."""

import pytest

torch = pytest.importorskip("torch")

from deepmd.dpmodel.model import build_model  # noqa: E402
from deepmd.pt.torchscript import export  # noqa: E402
from deepmd.pt.torchscript.recording import NotRecordedError, is_recording, record  # noqa: E402
from tests.members import MEMBERS, section  # noqa: E402

SIZES = ((3, 5, 4), (7, 4, 6), (5, 11, 9), (8, 6, 13))
WEIGHT = torch.arange(1.0, 4.0, dtype=torch.float64)


def arrays(n, m, k):
    """Arrays (n, k, 3), (m, k, 3) and an index (n,)."""
    rng = torch.Generator().manual_seed(n + m + k)
    real = [torch.rand(size, k, 3, generator=rng, dtype=torch.float64) for size in (n, m)]
    return [*real, torch.arange(n) % m]


def recorded(function):
    return record(function, [arrays(*sizes) for sizes in SIZES])


def joined(a, b, index):
    """Sizes: sums, products, multiples, and those in the derivative."""
    a = a.requires_grad_(True)
    rows = torch.cat([a + b[index], b]).reshape(-1, 3) * WEIGHT
    spread = rows.new_zeros((2 * len(rows) + 1,)).index_add(0, torch.arange(len(rows)), rows[:, 0])
    total = (spread**2).sum() * (a.shape[1] - 2) + a.clamp(min=0.5).amax(1).sum()
    (gradient,) = torch.autograd.grad(total, a)
    return {"total": total.detach(), "gradient": gradient, "rows": rows}


@pytest.mark.parametrize("sizes", [(3, 5, 4), (1, 1, 1), (20, 3, 2), (2, 30, 17)])
def test_a_graph_holds_for_other_sizes(sizes):
    graph = recorded(joined)
    found, want = graph(*arrays(*sizes)), joined(*arrays(*sizes))
    assert set(found) == set(want)
    for name, value in want.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-14, atol=1e-14)


def half(a, b, index):
    return {"half": a[: len(a) // 2]}


def by_values(a, b, index):
    return {"some": a[a > 0.5]}


def changed_input(a, b, index):
    return {"twice": a.mul_(2.0)}


def changed_view(a, b, index):
    out = a + 1.0
    out[0] = 0.0
    return {"out": out}


def by_size(a, b, index):
    return {"out": a + 1.0 if len(a) > 4 else a}


def number_of_size(a, b, index):
    return {"out": a * (1.0 / len(a))}


@pytest.mark.parametrize(
    "function", [half, by_values, changed_input, changed_view, by_size, number_of_size]
)
def test_others_are_refused(function):
    with pytest.raises(NotRecordedError):
        recorded(function)
    assert not is_recording()


# The padding of se_e3 counts (sel - K)² slots, a polynomial: it takes symbolic shapes.
@pytest.mark.parametrize("name", [name for name in MEMBERS if name != "se_e3"])
def test_every_component_is_recorded(name, tmp_path, monkeypatch):
    """Otherwise writing its file would take ten times as long."""

    def never(*_, **__):
        raise AssertionError("symbolic shapes are needed")

    monkeypatch.setattr(export, "make_fx", never)
    export.trace_core(build_model(section(name, tmp_path)))


def test_what_is_not_recorded_is_traced_with_symbolic_shapes(monkeypatch):
    from tests.pt.models import model

    def refused(*_):
        raise NotRecordedError("half of a size")

    want = export.trace_core(model())
    monkeypatch.setattr(export, "record", refused)
    found = export.trace_core(model())
    inputs = export.example_inputs(model().packings(), inputs=export.core_inputs(model()))
    arguments = [*inputs[:5], inputs.frame_inputs, inputs.atom_inputs, list(inputs.slots)]
    for name, value in want(*arguments).items():
        torch.testing.assert_close(found(*arguments)[name], value, rtol=1e-12, atol=1e-12)
