"""Random numbers fixed by a key. The global random state is never touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

T = TypeVar("T")


def generator(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose numbers are fixed by the key, a tuple of whole numbers of at least 0."""
    mixed = int(np.random.SeedSequence(key).generate_state(1)[0])
    return torch.Generator(device).manual_seed(mixed)


def noise(like: Tensor, *key: int) -> Tensor:
    """Standard normal noise of the shape, type and device of `like`, fixed by the key (on one kind of device)."""
    return noises(like, [key])[0]


def noises(like: Tensor, keys: Sequence[tuple[int, ...]]) -> Tensor:
    """Noise of several keys, (keys, *like.shape), drawn by as many threads as torch has on a CPU."""
    draws = like.new_empty(len(keys), *like.shape)

    def draw(i: int) -> None:
        with torch.inference_mode(draws.is_inference()):  # which a thread does not have from the one that started it
            draws[i].normal_(generator=generator(*keys[i], device=like.device))

    if like.device.type == "cpu" and len(keys) > 1:
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            list(pool.map(draw, range(len(keys))))
    else:
        for i in range(len(keys)):
            draw(i)
    return draws


def seeded(build: Callable[..., T], *args: Any) -> T:
    """Call `build(*args)` with torch's CPU generator at a fixed seed, and restore the generator's state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(*args)
