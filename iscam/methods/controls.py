"""Controls: maps that ignore the network, with which the methods are compared."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from iscam.maps import weighted_map
from iscam.methods.options import NoOptions, RandomOptions
from iscam.record import ForwardRecord
from iscam.rng import generator


def identity(record: ForwardRecord, options: NoOptions) -> Tensor:
    """Return a map of ones, which leaves the image unchanged."""
    return torch.ones(record.image.shape[1:], dtype=torch.float32, device=record.image.device)


def random_map(record: ForwardRecord, options: RandomOptions) -> Tensor:
    """Return uniform noise at the layer's resolution, upsampled and scaled to [0, 1].

    The noise depends only on `seed` and the image.
    """
    pixels = record.image.detach().float().cpu().numpy().tobytes()
    random = generator(options.seed, zlib.crc32(pixels))
    noise = torch.rand(record.activations.shape[1:], dtype=torch.float32, generator=random, device="cpu")
    return weighted_map(noise.new_ones(1), noise[None], record.image.shape[1:]).to(record.image.device)
