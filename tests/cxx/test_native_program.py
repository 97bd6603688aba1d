# SPDX-License-Identifier: LGPL-3.0-or-later
"""Programs of the native engine in files of other kinds than .dp and .pth."""

import numpy as np
import pytest
from cxx import c_api
from cxx.test_native import LIBRARY, OURS, frame

pytestmark = pytest.mark.skipif(
    LIBRARY is None or not LIBRARY.with_name("libdeepmd_backend_native.so").is_file(),
    reason="libdeepmd_c and libdeepmd_backend_native are not built, or DEEPMD_TEST_LIB not set",
)


@pytest.mark.parametrize(("name", "suffix"), [("loc_frame", ".hlo"), ("loc_frame", ".savedmodel")])
def test_program_in_compiled_files(name, suffix, converted):
    """The program beside the compiled one is evaluated: no framework is needed."""
    if suffix == ".savedmodel":
        pytest.importorskip("tensorflow")
    pytest.importorskip("jax")
    pytest.importorskip("torch")  # which writes the program
    library, source = c_api.load(LIBRARY), OURS / f"{name}.dp"
    neutral = c_api.Handle(library, "DeepPot", converted(source, ".dp"), engine="native")
    found = c_api.Handle(library, "DeepPot", converted(source, suffix), engine="native")
    given = frame(neutral)
    want = neutral.compute(**given)
    for key, value in found.compute(**given).items():
        np.testing.assert_allclose(value, want[key], rtol=0.0, atol=1e-14)
    assert found.engine().startswith("native")
    neutral.close()
    found.close()
