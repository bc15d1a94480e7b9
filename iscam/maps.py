"""Operations on maps: upsampling, min-max scaling, the weighted sum, rank correlation and SSIM."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from iscam.errors import InputError


def active(maps: Tensor) -> Tensor:
    """Which of some maps or channels (K, h, w) are not constant, (K,) booleans."""
    return maps.amax((1, 2)) > maps.amin((1, 2))


def to_float64(x: Tensor) -> Tensor:
    """x in double precision, on the CPU where its device has none, as Apple's GPUs."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def weighted_map(weights: Tensor, activations: Tensor, size: torch.Size) -> Tensor:
    """L = s(ReLU(Σ_k α_k up(A_k))), (height, width) float32; the sum is taken before up(.), which is linear."""
    activations = activations.to(torch.promote_types(activations.dtype, torch.float32))  # half's sums may overflow
    total = torch.einsum("k,khw->hw", weights.to(activations), activations)[None].float()
    if is_constant(total):  # before upsampling, whose rounding could turn a constant into noise
        return torch.zeros(size, dtype=torch.float32, device=total.device)
    rectified = upsample(total, size)[0].relu()
    return torch.zeros_like(rectified) if is_constant(rectified) else min_max(rectified)


def is_constant(x: Tensor) -> bool:
    """Whether x varies by no more than the rounding of its sum."""
    low, high = x.aminmax()
    return bool(high - low <= 1e-6 * torch.maximum(high.abs(), low.abs()))


def upsampled_masks(activations: Tensor, size: Sequence[int], normalise: str) -> Tensor:
    """H_k (K, height, width) of channels (K, h, w)."""
    if normalise == "layer":
        activations = min_max(activations)
    masks = upsample(activations, size)
    return min_max(masks) if normalise == "upsampled" else masks


def upsample(activations: Tensor, size: Sequence[int]) -> Tensor:
    """up(A): (K, h, w) to (K, height, width), bilinear, pixel centres aligned (`align_corners=False`)."""
    return F.interpolate(activations[None], tuple(size), mode="bilinear", align_corners=False)[0]


def min_max(x: Tensor) -> Tensor:
    """s(x) = (x - min x) / (max x - min x), equation 8, of each (h, w) slice; 0 where that is constant."""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return (x - low) / torch.where(high > low, high - low, 1)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    r"""Structural similarity of maps, the mean over all windows of

    (2 μ_a μ_b + C1)(2 σ_ab + C2) / ((μ_a² + μ_b² + C1)(σ_a² + σ_b² + C2)),  C1 = 0.01², C2 = 0.03².

    Means μ, variances σ² and covariance σ_ab are weighted by a Gaussian of standard deviation 1.5 pixels in windows of
    11x11 that lie inside the map. a, b (batch, height, width) in [0, 1]. Returns (batch,) in [-1, 1], in double
    precision: 1 for equal maps, NaN where either map is constant, since it has no structure to compare: leave
    it out and count it.

    Raises `InputError` for maps of different shapes, or smaller than the window.

    Source: Wang et al. 2004, doi 10.1109/TIP.2003.819861, equation 13.
    """
    if a.shape != b.shape or a.ndim != 3 or min(a.shape[1:]) < 11:
        raise InputError(
            f"ssim needs two batches of maps (batch, height, width) of one shape, at least 11x11; "
            f"got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    a, b = to_float64(a), to_float64(b)
    bell = torch.exp(-((torch.arange(11, device=a.device).double() - 5) ** 2) / (2 * 1.5**2))
    window = torch.outer(bell, bell) / bell.sum() ** 2

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x[:, None], window[None, None])[:, 0]

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, covariance = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2)
    return torch.where(active(a) & active(b), (luminance * structure).mean((1, 2)), torch.nan)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two maps, equal values sharing their mean rank; NaN where one is constant.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0])), 6)
    1.0
    """
    ranks = [pd.Series(x.flatten().cpu().numpy()).rank() for x in (a, b)]
    return float(ranks[0].corr(ranks[1]))
