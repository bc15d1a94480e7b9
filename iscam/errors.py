"""The one exception that users of the package meet, and small checks that raise it."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real

import torch

#: What befalls the machine, not the picture: a run ends with it, and may go on when the machine is well again.
MACHINE_ERRORS: tuple[type[Exception], ...] = (
    MemoryError,
    torch.OutOfMemoryError,
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),  # not in older versions of torch
)

#: What torch says where memory is wanting, but by another error than `torch.OutOfMemoryError`: a CPU's allocator,
#: cuBLAS, and cuDNN, which finds no algorithm whose workspace there is room for.
WANT_OF_MEMORY = ("can't allocate memory", "STATUS_ALLOC_FAILED", "unable to find an engine")


class InputError(ValueError):
    """Bad input: one line that says what is wrong and what would do."""


def wants_memory(error: BaseException) -> bool:
    """Whether it was want of memory that raised the error."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in WANT_OF_MEMORY)


def one_of(what: str, given: object, valid: Iterable[object]) -> InputError:
    """The error for a name that is not among the valid ones, which it lists."""
    return InputError(f"unknown {what} {given!r}; the valid ones are: {', '.join(map(str, valid))}")


def positive(name: str, value: object, smallest: int = 1) -> int:
    """`value` as a whole number of at least `smallest`, else `InputError`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < smallest:
        raise InputError(f"{name} must be a whole number of at least {smallest}, not {value!r}")
    return int(value)


def at_least_zero(name: str, value: object) -> float:
    """`value` as a finite number of at least 0, else `InputError`."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < float("inf"):
        raise InputError(f"{name} must be a number of at least 0, not {value!r}")
    return float(value)
