# SPDX-License-Identifier: LGPL-3.0-or-later
"""The documentation names every command and key, and its links lead somewhere."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md")) + sorted((ROOT / "examples").rglob("*.md"))
PAGES = [p for p in PAGES if "_build" not in p.parts] + [ROOT / "README.md"]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
import generated  # noqa: E402


def test_every_command_has_a_section():
    from deepmd.main import COMMANDS

    text = generated.commands()
    assert [name for name in COMMANDS if f"## dp {name}\n" not in text] == []


def test_every_option_is_listed():
    text = generated.commands()
    for option in ("--restart", "--detail-file", "--checkpoint-folder", "--pt"):
        assert f"`{option}`" in text


def test_every_key_of_a_component_is_listed():
    from deepmd.dpmodel.descriptor import DescrptSeA

    part = generated.training_input().split("type se_e2_a\n")[1].split("\n##")[0]
    assert [a.name for a in DescrptSeA.arguments() if f"`{a.name}`" not in part] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_between_files(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_page_keeps_machines_out(page):
    text = page.read_text().replace("/tmp/ipi_HOST", "")  # where i-PI has its sockets
    assert not re.search(r"(^|[\s\"'`])/(work|tmp|home|root)/", text)


def test_every_component_is_described():
    """Each registered descriptor, fitting and loss is named on a page of docs/components."""
    from deepmd.dpmodel.descriptor import Descriptor
    from deepmd.dpmodel.fitting import Fitting
    from deepmd.dpmodel.loss import Loss

    text = "".join(p.read_text() for p in (ROOT / "docs" / "components").glob("*.md"))
    names = {*Descriptor.registry, *Fitting.registry, *Loss.registry}
    assert sorted(n for n in names if f"`{n}`" not in text) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_examples_that_are_named_exist(page):
    for name in re.findall(r"`(examples/[\w./-]+)`", page.read_text()):
        assert (ROOT / name).exists(), name


def test_every_page_of_a_component_ends_with_a_citation():
    pages = [p for p in PAGES if p.parent.name == "components"]
    assert pages
    assert [p.name for p in pages if "\n## Citation" not in p.read_text()] == []
