# SPDX-License-Identifier: LGPL-3.0-or-later
"""The descriptor of the how-to is what the how-to says: complete and correct."""

import importlib.util
from importlib import metadata
from pathlib import Path

import pytest

from deepmd.base import plugin
from deepmd.dpmodel.descriptor import Descriptor
from deepmd.schema.registry import descriptor_args
from deepmd.schema.tree import load_components
from deepmd.testing import DescriptorTests

FILE = Path(__file__).resolve().parents[2] / "docs" / "development" / "radial.py"


@pytest.fixture(scope="module", autouse=True)
def _radial():
    """Import the file as a plugin would be, and take it out again."""
    spec = importlib.util.spec_from_file_location("radial_of_the_docs", FILE)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    yield
    Descriptor.registry._by_name.pop("radial")
    descriptor_args._factories.pop("radial")


class TestRadial(DescriptorTests):
    descriptor = "radial"
    cases = {"plain": {"rcut": 4.0, "rcut_smth": 1.0, "sel": [30, 60], "bins": 6}}
    backends = ("numpy", "torch", "tensorflow")


def test_the_page_shows_the_file():
    page = (FILE.parent / "adding_a_component.md").read_text()
    assert "literalinclude} radial.py" in page


def test_entry_point_is_loaded(monkeypatch):
    """An installed plugin registers before inputs are checked."""
    asked = []
    monkeypatch.setattr(metadata, "entry_points", lambda group: asked.append(group) or [])
    monkeypatch.setattr(plugin, "_loaded", set())
    load_components()
    assert asked == ["deepmd.dpmodel"]
