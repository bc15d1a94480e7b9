"""Grad-CAM in plain torch, with hooks and `backward`, as an independent oracle for any model."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grad_cam_map(
    model: nn.Module,
    module: nn.Module,
    image: Tensor,
    target: int,
    to_maps: Callable[[Tensor], Tensor] = lambda a: a,
    logits: Callable[[object], Tensor] = lambda out: out,
) -> Tensor:
    """Upsample the weighted sum of the module's maps, clip it at 0 and apply min-max: (height, width)."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: object, output: Tensor) -> Tensor:
        output.retain_grad()
        seen.append(output)
        return output.clone()  # an in-place operation after the module does not change `output`

    hook = module.register_forward_hook(keep)
    try:
        scores = logits(model(image[None].clone().requires_grad_()))
        (scores[0, target] if scores.ndim == 2 else scores[0]).backward()
    finally:
        hook.remove()
        model.zero_grad()
    gradient, maps = to_maps(seen[-1].grad), to_maps(seen[-1].detach())
    return finished((gradient.mean((2, 3), keepdim=True) * maps).sum(1, keepdim=True), image)


def finished(total: Tensor, image: Tensor) -> Tensor:
    """Turn a weighted sum (1, 1, h, w) into a map (height, width) in [0, 1]."""
    large = F.interpolate(total.float(), image.shape[1:], mode="bilinear", align_corners=False)[0, 0].relu()
    low, high = large.aminmax()
    return (large - low) / (high - low) if high > low else torch.zeros_like(large)
