# SPDX-License-Identifier: LGPL-3.0-or-later
"""Stored cases on their way through every kind of model file."""

import itertools

import pytest
from golden.cases import path, select
from golden.test_all_members import check_joined

from deepmd.entrypoints.convert_backend import convert_backend
from deepmd.infer import DeepEval
from deepmd.io import load_model
from deepmd.io.tree import difference

PROGRAMS = ("pth", "pb", "hlo")
FOLDERS = ("savedmodel", "savedmodeltf")  # ten seconds each
QUICK = ("se_e2_a_oneside",)
CASES = [
    pytest.param(c, (*PROGRAMS, *FOLDERS), id=c["name"], marks=pytest.mark.exhaustive)
    for c in select()
]
CASES += [
    pytest.param(c, PROGRAMS, id=f"{c['name']}-files") for c in select() if c["name"] in QUICK
]


@pytest.mark.parametrize(("case", "kinds"), CASES)
def test_ring(case, kinds, tmp_path, quick_programs):
    """.dp, all compiled files, .yaml and back: they give the numbers, and all the dictionary."""
    for framework in ("torch", "jax", "flatbuffers", "tensorflow"):
        pytest.importorskip(framework)
    files = [
        path(case, "dp"),
        *(tmp_path / f"model.{s}" for s in (*kinds, "yaml", "dp")),
    ]
    for before, after in itertools.pairwise(files):
        convert_backend(INPUT=str(before), OUTPUT=str(after))
    assert difference(load_model(files[0])["model"], load_model(files[-1])["model"]) is None
    for file in files[1:-2]:
        check_joined(case, DeepEval(file))
