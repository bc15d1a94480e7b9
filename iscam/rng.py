"""Random numbers that depend only on a key. This module never changes the global random state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator whose numbers depend only on the key, a tuple of integers of at least 0."""
    mixed = int(np.random.SeedSequence(key).generate_state(1)[0])
    return torch.Generator(device).manual_seed(mixed)


def noise(like: Tensor, *key: int) -> Tensor:
    """Draw standard normal noise with the shape, dtype and device of `like`.

    On one type of device, the noise depends only on the key.
    """
    return noises(like, [key])[0]


def noises(like: Tensor, keys: Sequence[tuple[int, ...]]) -> Tensor:
    """Draw the noise of several keys, (keys, *like.shape). On a CPU, as many threads are used as torch has."""
    draws = like.new_empty(len(keys), *like.shape)

    def draw(i: int) -> None:
        with torch.inference_mode(draws.is_inference()):  # a new thread does not inherit this mode
            draws[i].normal_(generator=generator(*keys[i], device=like.device))

    if like.device.type == "cpu" and len(keys) > 1:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(draw, range(len(keys))))
    else:
        for i in range(len(keys)):
            draw(i)
    return draws


def seeded(build: Callable[..., T], *args: Any) -> T:
    """Call `build(*args)` with a fixed seed of torch's CPU generator, and restore the generator's state afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(*args)
