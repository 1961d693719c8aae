from __future__ import annotations

import ctypes
import platform
import resource

import pytest

from gyrus.training.memory import freed_memory_kept

SIZE = 80_000_000


def _page_faults_of_taking_memory() -> int:
    library = ctypes.CDLL(None)
    library.malloc.restype = ctypes.c_void_p
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = library.malloc(ctypes.c_size_t(SIZE))
    ctypes.memset(block, 1, SIZE)
    library.free(ctypes.c_void_p(block))
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")
def test_freed_memory_is_kept_for_the_next_step_and_given_back_afterwards():
    with freed_memory_kept():
        first = _page_faults_of_taking_memory()
        assert _page_faults_of_taking_memory() < first / 10
    assert _page_faults_of_taking_memory() > first / 2
    with freed_memory_kept(wanted=False):
        assert _page_faults_of_taking_memory() > first / 2
