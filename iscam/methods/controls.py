"""Controls: maps that ignore the network, to compare the methods with."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import torch
from torch import Tensor

from iscam.maps import weighted_map
from iscam.record import ForwardRecord
from iscam.rng import generator
from iscam.validation import check_int


def identity(view: ForwardRecord) -> Tensor:
    """The control that marks every pixel: a map of ones, which leaves the image as it is."""
    return torch.ones(view.image.shape[1:], dtype=torch.float32, device=view.image.device)


def random_map(view: ForwardRecord, *, seed: int = 0) -> Tensor:
    """The control that knows nothing: uniform noise at the layer's resolution, upsampled, min-max to [0, 1].

    It is fixed by `seed` and the image.
    """
    image = zlib.crc32(view.image.detach().float().cpu().numpy().tobytes())
    noise = torch.rand(view.activations.shape[1:], generator=generator(check_int("seed", seed, minimum=0), image))
    return weighted_map(torch.ones(1), noise[None], view.image.shape[1:]).to(view.image.device)


#: Maps to compare the methods with, by name.
CONTROLS: dict[str, Callable[..., Tensor]] = {"identity": identity, "random": random_map}
