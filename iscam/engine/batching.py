"""Batch sizes: measuring them on a GPU, dividing passes into batches, and reducing them if memory runs out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from iscam.errors import is_out_of_memory
from iscam.model import Network

#: Number of passes per batch on a CPU. Larger batches gain little (see benchmarks/speed.py). Compiled code needs
#: batches of one shape, so larger batches would also leave more passes of a map to the eager model.
CPU_BATCH = 32

#: Maximum number of passes per batch on a GPU.
LARGEST_GPU_BATCH = 256


class Batches:
    """The division of the passes of one call into batches.

    On a GPU the batch size is measured. If memory runs out, the batch size is halved.
    """

    def __init__(self, net: Network, passes: int, batch_size: str | int, group_size: int) -> None:
        self.net, self.passes, self.group_size = net, passes, group_size
        self.size = whole_groups(first_batch(batch_size), group_size)
        self.must_measure = batch_size == "auto" and net.device.type == "cuda" and passes > self.size
        self.done = 0

    @property
    def left(self) -> int:
        return self.passes - self.done

    def next_span(self, full: bool) -> range:
        """Return the passes of the next batch.

        The batch has the largest size if `full` is True. Otherwise the remaining batches have nearly equal sizes.
        """
        length = self.size if full else balanced_batch(self.left, self.size, self.group_size)
        return range(self.done, self.done + min(self.left, length))

    def measure(self, arguments: Sequence[Tensor], precision: str) -> None:
        """Set the batch size to the number of passes that fit into half of the GPU's free memory.

        This number is measured once per input shape and precision.
        """
        key = (precision, *arguments[0].shape[1:])
        known = self.net.caches.batch_sizes
        if key not in known:
            known[key] = measured_batch(self.net, arguments)
        self.size, self.must_measure = whole_groups(known[key], self.group_size), False

    def shrink(self, error: RuntimeError, length: int) -> None:
        """Halve the batch after an out-of-memory error. Re-raise any error that a smaller batch cannot avoid."""
        if not is_out_of_memory(error) or length <= self.group_size:
            raise error
        self.size = whole_groups(length // 2, self.group_size)


def measured_batch(net: Network, arguments: Sequence[Tensor]) -> int:
    device = arguments[0].device
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    net.model(*arguments)
    per_pass = max(torch.cuda.max_memory_allocated(device) - before, 1) / len(arguments[0])
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - before
    return int(min(max(free / 2 // per_pass, 1), LARGEST_GPU_BATCH))


def first_batch(batch_size: str | int) -> int:
    """Return the number of passes in the first batch."""
    return CPU_BATCH if batch_size == "auto" else int(batch_size)


def group_that_fits(steps: int, batch_size: str | int) -> int:
    """Return the largest divisor of `steps` that is at most the size of a batch."""
    limit = min(CPU_BATCH, first_batch(batch_size))
    return max(divisor for divisor in range(1, limit + 1) if steps % divisor == 0)


def whole_groups(size: int, group_size: int) -> int:
    """Return the largest multiple of `group_size` that is at most `size`, but at least `group_size`."""
    return max(1, size // group_size) * group_size


def balanced_batch(left: int, size: int, group_size: int) -> int:
    """Return the size of the next batch if `left` passes are divided into batches of nearly equal size.

    No batch is larger than `size`. Single-input batches are avoided where possible, because torch rounds them
    differently.
    """
    groups = left // group_size
    return math.ceil(groups / math.ceil(left / size)) * group_size


def pad(x: Tensor, length: int) -> Tensor:
    """Pad x to `length` rows by repeating its last row."""
    return torch.cat([x, x[-1:].expand(length - len(x), *x.shape[1:])])


def channels_last(arguments: Sequence[Tensor]) -> list[Tensor]:
    """Return the arguments with images in the memory layout in which convolutions are fastest."""
    return [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in arguments]
