# SPDX-License-Identifier: LGPL-3.0-or-later
"""Every input file among the examples is accepted, and its data are there."""

from pathlib import Path

import pytest

from deepmd.schema import load_input, normalize
from deepmd.train.plan import branches

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
INPUTS = sorted(p.relative_to(EXAMPLES).as_posix() for p in EXAMPLES.rglob("input*.json"))


def test_there_are_examples():
    assert "water/se_e2_a/input.json" in INPUTS


@pytest.mark.parametrize("name", INPUTS)
def test_input_is_accepted(name):
    data = normalize(load_input(EXAMPLES / name), file=name)
    # Normalizing is idempotent: what training writes to out.json is an input again.
    assert normalize(data) == data


@pytest.mark.parametrize("name", INPUTS)
def test_data_are_there(name):
    data = normalize(load_input(EXAMPLES / name), file=name)
    tasks = [branch.data for branch in branches(data)]
    sections = [data.get(kind) for data in tasks for kind in ("training_data", "validation_data")]
    for section in filter(None, sections):
        for system in section["systems"]:
            folder = (EXAMPLES / name).parent / system
            assert (folder / "type.raw").is_file(), folder
            assert list(folder.glob("set.*/coord.npy")), folder


@pytest.mark.parametrize("name", INPUTS)
def test_example_is_mentioned(name):
    text = (EXAMPLES / "README.md").read_text() + (EXAMPLES / "water" / "README.md").read_text()
    assert f"`{Path(name).parent.name}`" in text or name in text
