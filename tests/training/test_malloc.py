from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A process of its own: the C library behaves according to all earlier allocations.
TAKE = """
import ctypes, resource
from gyrus.training.malloc import keep_freed_memory

def page_faults():
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(ctypes.c_size_t(80_000_000))
    ctypes.memset(block, 1, 80_000_000)
    library.free(ctypes.c_void_p(block))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with keep_freed_memory():
    print(page_faults(), page_faults())
with keep_freed_memory(wanted=False):
    print(page_faults(), page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns memory so eagerly")
def test_freed_memory_is_kept_for_the_next_step_and_returned_afterwards():
    result = subprocess.run([sys.executable, "-c", TAKE], capture_output=True, text=True, check=True)
    first, again, *afterwards = map(int, result.stdout.split())
    assert again < first / 10
    assert min(afterwards) > first / 2
