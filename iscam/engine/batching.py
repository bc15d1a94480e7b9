"""Batch sizes: how many passes fit, how they are divided, and padding to one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from iscam.validation import check_int

#: Passes in a batch on a CPU, and at most on a GPU; larger ones gain little (benchmarks/speed.py tells), and compiled
#: code, which wants batches of one shape, would leave more of a map to the uncompiled model.
BATCH, LARGEST_BATCH = 32, 256


batch_sizes: WeakKeyDictionary[nn.Module, dict[tuple, int]] = WeakKeyDictionary()


def first_batch(batch_size: str | int) -> int:
    """Passes in the first batch."""
    return BATCH if batch_size == "auto" else check_int("batch_size", batch_size)


def whole_groups(size: int, group_size: int) -> int:
    """The largest multiple of `together` up to `size`, at least one."""
    return max(1, size // group_size) * group_size


def balanced_batch(left: int, size: int, group_size: int) -> int:
    """Passes of the next batch where `left` go in batches of about one length, at most `size`.

    So none is of one pass, where that can be had: torch rounds such a batch otherwise than others.
    """
    groups = left // group_size
    return math.ceil(groups / math.ceil(left / size)) * group_size


def padded(x: Tensor, length: int) -> Tensor:
    """x with its last row again and again, up to a length."""
    return torch.cat([x, x[-1:].expand(length - len(x), *x.shape[1:])])


def channels_last(arguments: Sequence[Tensor]) -> list[Tensor]:
    """Images in the memory layout that convolutions are fastest in."""
    return [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in arguments]


def gpu_batch(model: nn.Module, arguments: Sequence[Tensor], precision: str) -> int:
    """The passes in a batch that fill half of the GPU's free memory, measured once for a shape of input."""
    known = batch_sizes.setdefault(model, {})
    key = (precision, *arguments[0].shape[1:])
    if key not in known:
        device = arguments[0].device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        passes = len(model(*arguments))
        used = max(torch.cuda.max_memory_allocated(device) - before, 1) / passes
        free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - before
        known[key] = int(min(max(free / 2 // used, 1), LARGEST_BATCH))
    return known[key]
