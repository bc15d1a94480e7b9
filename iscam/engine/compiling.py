"""Compiled copies of a model."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from iscam.errors import is_out_of_memory

#: Seconds that compiling may take: with `compile="auto"`, a model that has run for longer is compiled.
COMPILING = 60.0


copies: WeakKeyDictionary[nn.Module, tuple[str, nn.Module | None]] = WeakKeyDictionary()


def compiled_copy(model: nn.Module, arguments: Sequence[Tensor]) -> nn.Module:
    """A copy of the model, compiled with its weights frozen; the model itself where that cannot be done, said once.

    It is made again when the model has changed.
    """
    now = state_of(model)
    if model not in copies or copies[model][0] != now:
        copies[model] = (now, compiled(model, arguments))
    fast = copies[model][1]
    return model if fast is None else fast


def compiled(model: nn.Module, arguments: Sequence[Tensor]) -> nn.Module | None:
    """A new compiled copy; None, with a warning, where that cannot be done."""
    # Torch says that it looks for a CUDA that may not be there.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    try:
        fast = copy.deepcopy(model).to(memory_format=torch.channels_last)
        fast.compile(dynamic=False, options={"freezing": True})
        fast(*arguments)
    except Exception as error:  # no C++ compiler, or a model that cannot be compiled: each has its own error
        if is_out_of_memory(error):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        warnings.warn(f"the passes run uncompiled, which is slower: {reason}", stacklevel=2)
        return None
    return fast


def state_of(model: nn.Module) -> str:
    """The model's modules, and of each tensor of its weights the sum and the sum of its neighbours' products.

    The one changes with any value, the other also where values change places.
    """
    sums: list[Tensor] = []
    for weights in [*model.parameters(), *model.buffers()]:
        if weights.is_floating_point():
            x = weights.detach().flatten().float()
            wide = torch.float32 if x.device.type == "mps" else torch.float64
            sums += [x.sum(dtype=wide), x[1:].dot(x[:-1]).to(wide)]
    together = [value.to(sums[0]) for value in sums]  # looked at once: a GPU would wait for each look
    return f"{model} {torch.stack(together).tolist() if together else []}"
