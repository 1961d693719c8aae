from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A process of its own: what the C library does depends on all that was taken and freed before.
TAKE = """
import ctypes, resource
from gyrus.training.malloc import freed_memory_kept

def page_faults():
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(ctypes.c_size_t(80_000_000))
    ctypes.memset(block, 1, 80_000_000)
    library.free(ctypes.c_void_p(block))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with freed_memory_kept():
    print(page_faults(), page_faults())
with freed_memory_kept(wanted=False):
    print(page_faults(), page_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")
def test_freed_memory_is_kept_for_the_next_step_and_given_back_afterwards():
    result = subprocess.run([sys.executable, "-c", TAKE], capture_output=True, text=True, check=True)
    first, again, *afterwards = map(int, result.stdout.split())
    assert again < first / 10
    assert min(afterwards) > first / 2
