from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# A process of its own: the C library behaves according to all earlier allocations.
TAKE = """
import ctypes, resource
from gyrus.malloc import keep_freed_memory

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


# Each block is larger than the hole that the one before has left, and a used block, whose pages are never touched,
# prevents that holes are joined.
GROW = """
import ctypes, sys
from gyrus.malloc import FreedMemory, _own_memory, keep_freed_memory

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
with keep_freed_memory():
    freed, most, returned = FreedMemory(), 0, 0
    for step in range(120):
        size = 8_000_000 + 4096 * step
        block = library.malloc(ctypes.c_size_t(size))
        ctypes.memset(block, 1, size)
        library.malloc(ctypes.c_size_t(9_000_000))
        library.free(ctypes.c_void_p(block))
        returned += freed.after_step() if "limited" in sys.argv else 0
        most = max(most, _own_memory())
    print(most // 2**20, returned)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc returns memory so eagerly")
def test_the_memory_of_a_training_does_not_grow_with_its_steps():
    def most(*arguments: str) -> list[int]:
        command = [sys.executable, "-c", GROW, *arguments]
        return list(map(int, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))

    unlimited, _ = most()
    limited, returned = most("limited")
    assert returned >= 1
    assert unlimited > 900
    assert limited < 0.6 * unlimited
