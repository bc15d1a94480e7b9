"""Forward passes of a model, or of its compiled copy."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from iscam.engine.batching import pad
from iscam.engine.fingerprint import fingerprint
from iscam.errors import is_out_of_memory
from iscam.model import Network


class Forward:
    """Forward passes that return float32 logits.

    With `compiled`, full batches run through a compiled copy of the model. All other batches run through the model.
    """

    def __init__(self, net: Network, compiled: bool) -> None:
        self.net, self.compiled = net, compiled
        self.model: Callable[..., Any] | None = None  # the model for full batches, set with the first of them

    def wants_full(self, left: int, size: int) -> bool:
        """Return True if the next batch should have the largest size, because compiled code needs batches of one shape.

        A remainder of up to two thirds of a batch runs eagerly, because padding it to a full batch would take longer.
        """
        return self.compiled and left > size * 2 // 3

    def __call__(self, arguments: Sequence[Tensor], count: int, size: int) -> Tensor:
        """Compute the logits (count, classes) of `count` passes. `size` is the size of a full batch."""
        if not self.wants_full(count, size):
            return self.net.read_output(self.net.model(*arguments), count).float()
        if count < size:
            arguments = [pad(x, len(x) * size // count) for x in arguments]
        if self.model is None:
            self.model = compiled_copy(self.net, arguments) or self.net.model
        return self.net.read_output(self.model(*arguments), size)[:count].float()


def compiled_copy(net: Network, arguments: Sequence[Tensor]) -> Callable[..., Any] | None:
    """Return a compiled copy of the model with frozen weights. It is compiled again if the model has changed.

    Returns None and warns once if the model cannot be compiled.
    """
    with net.caches.lock:
        state = fingerprint(net.model)
        known = net.caches.compiled
        if state not in known:
            known.clear()
            known[state] = compile_model(net.model, arguments)
        return known[state]


def compile_model(model: nn.Module, arguments: Sequence[Tensor]) -> Callable[..., Any] | None:
    try:
        compiled = copy.deepcopy(model).to(memory_format=torch.channels_last)
        compiled.compile(dynamic=False, options={"freezing": True})

        def run(*arguments: Tensor) -> Any:
            # torch reuses compiled code for other copies of the model. This setting makes it compare their hooks.
            with torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):
                return compiled(*arguments)

        run(*arguments)
    except Exception as error:  # a missing C++ compiler and a model that cannot be compiled raise different errors
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"the passes run uncompiled, which is slower: {reason}", stacklevel=2)
        return None
    return run
