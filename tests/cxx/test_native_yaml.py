# SPDX-License-Identifier: LGPL-3.0-or-later
"""Models as YAML text in the native engine: every style of the text, damage, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from cxx import backend_abi, c_api
from fuzz import sources
from fuzz.rows import check, run
from golden import cases

from deepmd.io.digest import DIGEST_LINE, digest_of_lines

LIBRARY = backend_abi.find_library("libdeepmd_c.so")
pytestmark = pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.with_name("libdeepmd_backend_native.so").is_file(),
    reason="libdeepmd_c and libdeepmd_backend_native are not built, or DEEPMD_TEST_LIB not set",
)

OURS = Path(__file__).parents[1] / "golden" / "ours" / "v2" / "models"
#: Ways to write the same tree.
STYLES = {
    "blocks": {"default_flow_style": False},
    "brackets": {"default_flow_style": True},
    "narrow": {"default_flow_style": None, "width": 20},
    "narrow_brackets": {"default_flow_style": True, "width": 30},
    "single_quotes": {"default_flow_style": False, "width": 30},
    "indented": {"default_flow_style": False, "indent": 8},
    "marked": {"explicit_start": True, "sort_keys": True},
}


@pytest.fixture(scope="module")
def library():
    return c_api.load(LIBRARY)


def results(library, path):
    """Energy, forces and virial of a small frame."""
    rng = np.random.default_rng(3)
    coords, types = rng.uniform(0.0, 5.0, (1, 30)), np.array([0, 1] * 5)
    pot = c_api.Handle(library, "DeepPot", path, engine="native")
    found = pot.compute(coords, 5.0 * np.eye(3).reshape(1, 9), types)
    assert pot.engine().startswith("native")
    pot.close()
    return found


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key])


@pytest.mark.parametrize("name", ["hybrid", "linear_ener", "se_atten", "se_e2_a", "zbl"])
def test_files(library, name):
    """A text gives the numbers of the .dp file, to the bit."""
    assert_same(results(library, OURS / f"{name}.yaml"), results(library, OURS / f"{name}.dp"))


@pytest.mark.parametrize("name", ["se_e2_r_twoside", "se_e3_basic", "dpa1_l0_concat"])
def test_files_of_deepmd_kit(library, name):
    """Texts in blocks, every number on a line of its own."""
    case = cases.named(name)
    if "yaml" not in case["files"]:
        pytest.skip("the case has no .yaml file")
    found, expected = (results(library, cases.path(case, kind)) for kind in ("yaml", "dp"))
    assert_same(found, expected)


@pytest.fixture(scope="module")
def tree():
    """The dictionary of a model, with arrays as they stand in the text."""
    found = yaml.safe_load((OURS / "se_e2_a.yaml").read_text())
    return found


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_styles(library, tree, tmp_path, style, end):
    text = yaml.safe_dump(tree, **STYLES[style])
    text += f"{DIGEST_LINE}{digest_of_lines(text)}\n"
    path = tmp_path / "styled.yaml"
    path.write_bytes(text.replace("\n", end).encode())
    assert_same(results(library, path), results(library, OURS / "se_e2_a.dp"))


TEXTS = [
    "some words " * 3, "one\n two\n\nthree", "a: b", "a # b", "a\tb\r", "1e5", "yes", "null", "0x1",
    "1.5", "- a", "", "{", "it's", '"', "\\n", "#", "é", "中", "\U0001f600", "&a", "!", "~", ":", "-",
]  # fmt: skip
WIDTHS = [{"width": 8}, {"width": 8, "default_style": '"'}, {"width": 8, "default_style": "'"}]


@pytest.mark.parametrize("style", WIDTHS, ids=["plain", "double", "single"])
@pytest.mark.parametrize("flow", [False, True])
def test_texts(library, tree, tmp_path, style, flow):
    """Texts are read as they were written; messages show them where numbers belong."""
    path = tmp_path / "text.yaml"
    for text in TEXTS:
        array = yaml.safe_dump([text], **style, default_flow_style=flow)
        # The text of an array, in place of that of the whole model.
        path.write_text(
            "'@variables':\n  x:\n    '@class': np.ndarray\n    dtype: float64\n    value:\n"
            + "".join(f"      {line}\n" if line else "\n" for line in array.splitlines())
        )
        with pytest.raises(c_api.CError) as caught:
            results(library, path)
        assert f" {json.dumps(text)[:40]} in the place" in str(caught.value)


def test_values(library, tmp_path):
    """Numbers in every form; those that are none are texts, as in Python."""
    path = tmp_path / "value.yaml"
    for text, words in {"1e5": '"1e5"', "1.0e5": '"1.0e5"', "~": "null", "a b": '"a b"'}.items():
        path.write_text(f"x: {{'@class': np.ndarray, dtype: float64, value: [{text}]}}\n")
        with pytest.raises(c_api.CError, match=f"has {words} in the place"):
            results(library, path)
    whole = (OURS / "se_e2_a.yaml").read_text().rpartition(DIGEST_LINE)[0]
    expected = results(library, OURS / "se_e2_a.dp")
    for rcut, smth in (("4.", ".5"), ("+4.0", "+5.0e-01"), ("0.4e+1", "0.50"), ("4", "5.e-1")):
        assert yaml.safe_load(f"[{rcut}, {smth}]") == [4.0, 0.5]
        text = whole.replace("rcut: 4.0", f"rcut: {rcut}").replace("smth: 0.5", f"smth: {smth}")
        assert text != whole
        path.write_text(text)
        assert_same(results(library, path), expected)


def test_suffixes_and_contents(library, tmp_path):
    path = tmp_path / "model.yml"
    shutil.copy(OURS / "se_e2_a.yaml", path)
    assert_same(results(library, path), results(library, OURS / "se_e2_a.dp"))


REFUSED = {
    "anchor": ("a: &x 1\nb: *x\n", 'line 1: "&" has a meaning'),
    "tag": ("a: !!python/object:os 1\n", 'line 1: "!" has a meaning'),
    "block scalar": ("a: |\n  text\n", "has a meaning"),
    "tab": ("a:\n\tb: 1\n", "line 2: a tab"),
    "two documents": ("a: 1\n---\nb: 1\n", "has a meaning"),
    "open bracket": ("a: [1, 2\n", "a bracket is not closed|ends in the middle"),
    "open quote": ("a: 'text\n", "a quote is not closed"),
    "more behind": ("a: [1] 2\n", "more behind a value"),
    "a mapping behind a colon": ("a: b: 1\n", "more behind a value"),
    "no key": ("a: 1\nword\n", "a key without a colon"),
    "indentation": ("a: 1\n  b: 2\n", "line 2|more"),
    "base": ("a: 0x10\n", "0x10 is in a form"),
    "times": ("a: 1:30\n", "1:30 is in a form"),
    "list": ("- 1\n", "holds no dictionary"),
    "nothing": ("", "holds no dictionary"),
    "no model": ("a: 1\n", "holds no model"),
    "deep": ("a: " + "[" * 100, "nested too deeply"),
    "deep blocks": ("- " * 100 + "1\n", "nested too deeply"),
    "escape": ('a: "\\q"\n', "a backslash"),
    "zero": ("a: b\0c\n", "control character"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(library, tmp_path, kind):
    text, words = REFUSED[kind]
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(c_api.CError, match=rf"bad\.yaml: .*({words})") as caught:
        results(library, path)
    assert "\n" not in str(caught.value)


ARRAYS = {
    "rows": (lambda a: a["value"].append([1.0]), "not equally long"),
    "text": (lambda a: a.update(value=["x"]), "in the place of a number"),
    "type": (lambda a: a.update(dtype="complex128"), "complex128"),
    "shape": (lambda a: a.update(value=[], shape=[-1, 0]), "does not fit its numbers"),
    "missing": (lambda a: a.pop("value"), 'no "value"'),
    "range": (lambda a: a.update(dtype="int32", value=[2**40]), "in the place of a number"),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(library, tree, tmp_path, kind):
    """Arrays whose numbers do not fit what is said about them."""
    change, words = ARRAYS[kind]
    found = yaml.safe_load(yaml.safe_dump(tree))
    change(found["model"]["descriptor"]["@variables"]["davg"])
    path = tmp_path / "array.yaml"
    path.write_text(yaml.safe_dump(found))
    with pytest.raises(c_api.CError, match=rf"array\.yaml: .*{words}"):
        results(library, path)


def test_checksum(library, tmp_path):
    text = (OURS / "se_e2_a.yaml").read_text()
    path = tmp_path / "edited.yaml"
    path.write_text(text.replace("rcut: 4.0", "rcut: 4.5", 1))
    with pytest.raises(c_api.CError, match=r"edited\.yaml: .*checksum differs"):
        results(library, path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return sources.write(tmp_path_factory.mktemp("yaml") / "model.yaml")


def test_mutants(small):
    """Damaged texts are refused in a line, or hold the same."""
    rows = run("../cxx/open_mutants.py", 0, 100, [LIBRARY, small])
    assert len(rows) == 100
    check(rows)
    assert sum(row.outcome == "refused" for row in rows) > 30
