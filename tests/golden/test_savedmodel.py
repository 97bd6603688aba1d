# SPDX-License-Identifier: LGPL-3.0-or-later
"""SavedModels of DeePMD-kit, evaluated by their functions."""

import pytest
from golden.cases import path, select
from golden.test_all_members import check_sets

from deepmd.infer import DeepEval

QUICK = ("se_e2_a_oneside",)
CASES = [
    pytest.param(
        {**c, "sets": dict(list(c["sets"].items())[:1])} if c["name"] in QUICK else c,
        id=c["name"],
        marks=() if c["name"] in QUICK else pytest.mark.slow,  # TensorFlow compiles for each size
    )
    for c in select()
    if "savedmodel" in c["files"]
]


@pytest.mark.parametrize("case", CASES)
def test_files_of_deepmd_kit(case):
    pytest.importorskip("tensorflow")
    check_sets(case, DeepEval(path(case, "savedmodel")), inner=False)
