"""Keep freed memory for the next batch (glibc only)."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

#: glibc's parameters of `mallopt`: how many freed bytes the process keeps, and from how many on a block is asked of the
#: system, and given back to it, by itself.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3


MIB = 1 << 20


@functools.cache
def keep_memory() -> None:
    """From now on, this process keeps up to 2 GB of the memory that the CPU's tensors free, to use it again.

    Otherwise blocks of over 32 MB go back to the system, which clears every page when it hands them out again: that may
    take as long as the pass that they are for. Where the C library is not glibc this does nothing.
    """
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 32 * MIB)  # the most that older versions of glibc take
        libc.mallopt(MMAP_THRESHOLD, 1024 * MIB)
        libc.mallopt(TRIM_THRESHOLD, 2047 * MIB)
