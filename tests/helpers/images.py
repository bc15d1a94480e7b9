"""Synthetic input images, and tensors as arrays to compare."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


def smooth_images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth random images (count, 3, height, width): noise at a quarter of the size, upsampled."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, height // 4 + 1, width // 4 + 1, generator=generator)
    return interpolate(coarse, (height, width), mode="bicubic", align_corners=False)


def array(x: Tensor) -> np.ndarray:
    """The values of a tensor on any device as a float64 array."""
    return x.detach().cpu().double().numpy()
