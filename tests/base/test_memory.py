# SPDX-License-Identifier: LGPL-3.0-or-later
"""Freed memory stays in the process."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource
import threading
from deepmd.base.memory import keep_freed_memory
assert keep_freed_memory() and keep_freed_memory()

def many():
    for _ in range(10):
        bytearray(1 << 27)  # more than the heap of a thread's own arena

bytearray(1 << 27)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
many()
thread = threading.Thread(target=many)
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a setting of glibc")
def test_memory_is_used_again():
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    if "AssertionError" in out.stderr:
        pytest.skip("another C library")
    assert int(out.stdout) < 1000, out.stderr  # twenty times 32768 pages otherwise
