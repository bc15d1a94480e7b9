"""Random numbers that depend on nothing but their key, and leave the global random state alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose numbers are fixed by the key, a tuple of whole numbers of at least 0."""
    mixed = int(np.random.SeedSequence(key).generate_state(1)[0])
    return torch.Generator(device).manual_seed(mixed)


def noise(like: Tensor, *key: int) -> Tensor:
    """Standard normal noise of the shape, type and device of `like`, fixed by the key (on one kind of device)."""
    g = generator(*key, device=like.device)
    return torch.randn(like.shape, generator=g, device=like.device, dtype=like.dtype)
