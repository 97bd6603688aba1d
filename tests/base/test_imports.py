# SPDX-License-Identifier: LGPL-3.0-or-later
"""Packages are hidden from one import only."""

import importlib
import sys

import pytest

from deepmd.base.imports import hidden


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Name of a package that was not imported yet, and forgotten afterwards."""
    (tmp_path / "a_package_to_hide.py").write_text("value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield "a_package_to_hide"
    sys.modules.pop("a_package_to_hide", None)


def test_a_hidden_package_is_not_installed_and_is_afterwards(package):
    with hidden(package), pytest.raises(ImportError):
        importlib.import_module(package)
    assert importlib.import_module(package).value == 1


def test_a_failing_import_leaves_nothing_behind(package):
    with pytest.raises(RuntimeError), hidden(package):
        raise RuntimeError
    assert importlib.import_module(package).value == 1


def test_an_imported_package_stays(package):
    there = importlib.import_module(package)
    with hidden(package):
        assert importlib.import_module(package) is there
    assert sys.modules[package] is there
