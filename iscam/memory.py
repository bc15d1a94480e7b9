"""Memory that a loop of forward passes needs again and again, kept from one pass to the next."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Parameters of glibc's mallopt: the freed bytes at the heap's end that go back to the system, and the bytes from which
#: a block comes from the system and goes back to it at once.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3

#: Outside the loop: where glibc's own adjustment ends when blocks of 32 MiB and more are freed, as tensors are.
MIB = 1 << 20
USUAL = {MMAP_THRESHOLD: 32 * MIB, TRIM_THRESHOLD: 64 * MIB}
KEPT = {MMAP_THRESHOLD: 1024 * MIB, TRIM_THRESHOLD: 2047 * MIB}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Inside, memory that the CPU's tensors free stays with the process; afterwards it goes back to the system.

    The system clears every page that it hands out, which may take as long as the pass that asked for it. Where the C
    library is not glibc this does nothing.
    """
    set_memory(KEPT)
    try:
        yield
    finally:
        set_memory(USUAL)


def set_memory(values: dict[int, int]) -> None:
    """Give the C library parameters of its memory, and what is free beyond them to the system."""
    libc: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(libc, "mallopt"):
        for parameter, value in values.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)
