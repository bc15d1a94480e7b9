"""The package's exceptions, and the recognition of out-of-memory errors."""

from __future__ import annotations

import torch


class IscamError(Exception):
    """Base class of the package's exceptions. The message is one line."""


class InputError(IscamError, ValueError):
    """An error for bad input. The message names the problem and the valid values."""


class DownloadError(IscamError, OSError):
    """A download error: a file is not in the cache and cannot be downloaded, or its hash is wrong."""


class StoreError(IscamError, OSError):
    """A store error: the folder of a study cannot be read or written, or it holds a different study."""


class ClusterError(IscamError, RuntimeError):
    """A cluster error: Ray is not installed, or no cluster answers."""


#: Hardware failures (out of memory, lost GPU). They abort a run, which can be resumed. Other errors are recorded for
#: the image.
DEVICE_ERRORS: tuple[type[Exception], ...] = (
    MemoryError,
    torch.OutOfMemoryError,
    getattr(torch, "AcceleratorError", torch.OutOfMemoryError),  # absent before torch 2.8
)

#: Out-of-memory messages that torch raises as a plain RuntimeError. They come from the CPU allocator, from cuBLAS, and
#: from cuDNN if it finds no algorithm whose workspace fits.
OUT_OF_MEMORY_MESSAGES = ("can't allocate memory", "STATUS_ALLOC_FAILED", "unable to find an engine")


def is_out_of_memory(error: BaseException) -> bool:
    """Return True for an out-of-memory error."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY_MESSAGES)
