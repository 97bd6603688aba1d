# SPDX-License-Identifier: LGPL-3.0-or-later
"""Stored programs against the models that they were made of."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from deepmd.dpmodel.model import build_model, prepare  # noqa: E402
from deepmd.dpmodel.neighbors import batch_edges  # noqa: E402
from deepmd.pt.torchscript.builder import Builder, NoProgramError, Size  # noqa: E402
from deepmd.pt.torchscript.lowering import lower  # noqa: E402
from deepmd.pt.torchscript.operations import operations_of  # noqa: E402
from deepmd.runtime.operations import is_by_hand, with_program  # noqa: E402
from tests.members import section  # noqa: E402
from tests.pt.models import batch  # noqa: E402
from tests.pt.torchscript import programs  # noqa: E402

DOCS = Path(__file__).parents[3] / "docs" / "development" / "programs.md"


@pytest.fixture(scope="module", params=["dpa2", "dpa3", "loc_frame", "hybrid"])
def member(request, tmp_path_factory):
    """Model, its dictionary and its program."""
    built = build_model(section(request.param, tmp_path_factory.mktemp("member")))
    tree = built.serialize()
    return built, tree, operations_of(built, tree)


def test_results_are_those_of_the_model(member):
    """Other sizes than those it was recorded with, and a weight of every output."""
    model, tree, program = member
    made = batch((9, 4), periodic=(True, False))
    inputs = prepare(
        dataclasses.replace(made, edges=batch_edges(made, model.rcut)), model.packings()
    )
    (output,) = model.output_def().get_data().values()
    weight = np.random.default_rng(0).normal(size=(13, output.size))
    found = programs.run(program, tree, [*inputs.flat(), weight])
    want = model.forward_edges(inputs, cotangent={output.name: weight})
    assert set(found) == {output.name, "gradient"}
    for name, other in ((output.name, output.name), ("gradient", "vjp")):
        scale = max(1.0, np.abs(want[other]).max())
        np.testing.assert_allclose(found[name], want[other], rtol=0, atol=1e-13 * scale)


def test_arrays_of_the_model_are_not_stored_again(member):
    """A program refers to them by their places, and has its own, small ones."""
    _, tree, program = member
    places = [c["path"] for c in program["constants"]]
    assert max(a.size for a in program["@variables"].values()) < 1000
    for path in places:
        node = program["@variables"] if len(path) == 1 else tree
        for key in path:
            node = node[key]
        assert isinstance(node, np.ndarray)
    assert any(len(path) > 1 for path in places)


def test_all_operations_are_documented(member):
    """The list in the documentation, the reference and what is written agree."""
    text = DOCS.read_text().partition("## Operations")[2].partition("<!-- end")[0]
    table, _, functions = text.partition("<!-- functions -->")
    listed = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    listed |= set(re.findall(r"`(\w+)`", functions))
    assert listed == set(programs.operations())
    assert {node["op"] for node in member[2]["nodes"]} <= listed


def test_files_have_programs_where_they_are_needed(member):
    _, tree, program = member
    by_hand = tree["descriptor"]["type"] == "hybrid"
    assert is_by_hand(tree) == by_hand
    data = with_program({"model": tree, "operations": "of another model"})
    if by_hand:
        assert "operations" not in data
    else:
        assert data["operations"]["nodes"] == program["nodes"]


def test_sizes():
    n, k = Size.of("n"), Size.of("k")
    assert (n + 1) * (k - 1) == n * k - n + k - 1
    assert ((n + 2) * 3).stored() == [[6], [3, "n"]]
    assert (n * 1).stored() == "n" and (n - n).stored() == 0
    assert (n * k * 6).over(k * 3) == n * 2
    with pytest.raises(NoProgramError):
        (n + 1).over(k)


def test_what_has_no_program():
    """Operations without a rule are named."""
    b = Builder()
    x = b.input("x", ("n",), "float64")
    with pytest.raises(NoProgramError, match="lgamma"):
        lower(b, torch.ops.aten.lgamma.default, (x,), {})
    with pytest.raises(NoProgramError, match="another number of elements"):
        lower(b, torch.ops.aten.view.default, (x, [7]), {})
