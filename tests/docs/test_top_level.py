# SPDX-License-Identifier: LGPL-3.0-or-later
"""The pages at the top of the repository: links lead somewhere, the version is the present one."""

import re
from pathlib import Path

import pytest
import yaml

from deepmd import __version__

ROOT = Path(__file__).resolve().parents[2]
#: Keys of the Citation File Format 1.2.0 that are used.
CITATION_KEYS = {
    *("cff-version", "title", "message", "type", "license", "abstract", "keywords", "authors"),
    *("preferred-citation", "references"),
}
WORK_KEYS = {
    *("type", "title", "authors", "journal", "volume", "issue", "start", "year", "doi"),
    "collection-title",
}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links(name):
    targets = re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text())
    local = [t for t in targets if "://" not in t]
    assert local or name == "CHANGELOG.md"
    assert [t for t in local if not (ROOT / t).exists()] == []


def test_changelog_has_this_version_and_a_place_for_the_next():
    headings = re.findall(r"^## \[(.+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[:2] == ["Unreleased", __version__]


def test_citation():
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert content["cff-version"] == "1.2.0"
    assert {"title", "message", "authors"} <= set(content)
    assert content["license"] == "LGPL-3.0-or-later"
    assert set(content) <= CITATION_KEYS
    for work in (content["preferred-citation"], *content["references"]):
        assert {"type", "title", "authors"} <= set(work) <= WORK_KEYS
        assert work["type"] in ("article", "conference-paper")
        assert re.fullmatch(r"10\.\d{4,9}/[\w.;()/:-]+", work.get("doi", "10.1234/a"))
        for author in work["authors"]:  # a person, all of whose names are text
            assert set(author) == {"family-names", "given-names"}
            assert all(isinstance(name, str) for name in author.values())


def test_contributing_names_the_commands():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = re.findall(r"^make ([\w-]+)|`make ([\w-]+)", text, re.M)
    assert {a or b for a, b in named} <= set(targets)
    assert (ROOT / ".ci" / "run").is_file() and ".ci/run" in text
