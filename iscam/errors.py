"""The errors that users of the package meet, and how an out-of-memory error is recognised."""

from __future__ import annotations

import torch

#: What befalls the machine, not the image: a run ends with it, and may go on when the machine is well again.
MACHINE_ERRORS: tuple[type[Exception], ...] = (
    MemoryError,
    torch.OutOfMemoryError,
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),  # not in older versions of torch
)


#: What torch says where memory is wanting, but by another error than `torch.OutOfMemoryError`: a CPU's allocator,
#: cuBLAS, and cuDNN, which finds no algorithm whose workspace there is room for.
OUT_OF_MEMORY_MESSAGES = ("can't allocate memory", "STATUS_ALLOC_FAILED", "unable to find an engine")


class InputError(ValueError):
    """Bad input: one line that says what is wrong and what would do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it was want of memory that raised the error."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in OUT_OF_MEMORY_MESSAGES)
