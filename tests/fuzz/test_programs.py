# SPDX-License-Identifier: LGPL-3.0-or-later
"""Programs that were edited and got right checksums are right, or are refused in one line."""

import pytest
from fuzz import sources
from fuzz.rows import check, run

from deepmd.np.engine import is_installed

pytestmark = pytest.mark.skipif(not is_installed(), reason="the C++ libraries are not built")


def test_edited_programs(tmp_path):
    pytest.importorskip("torch")
    rows = run("mutants_programs.py", 0, 60, [sources.write(tmp_path / "program.dp")])
    assert len(rows) == 60
    check(rows)
