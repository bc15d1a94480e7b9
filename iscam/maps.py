"""Operations on maps: upsampling, min-max scaling, the weighted sum, rank correlation and SSIM."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from iscam.errors import InputError


def active(maps: Tensor) -> Tensor:
    """Which of the maps or channels (K, h, w) are not constant, (K,) bool."""
    return maps.amax((1, 2)) > maps.amin((1, 2))


def to_float64(x: Tensor) -> Tensor:
    """x in float64, on the CPU if its device has none (Apple GPUs)."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def weighted_map(weights: Tensor, activations: Tensor, size: Sequence[int]) -> Tensor:
    """L = s(ReLU(Σ_k α_k up(A_k))), (height, width) float32, from weights (K,) or (K, h, w)."""
    return scaled_map(weighted_sum(weights, activations), size)[0]


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Σ_k α_k A_k, (h, w) float32, of activations (K, h, w) and weights (K,) or (K, h, w)."""
    activations = activations.to(torch.promote_types(activations.dtype, torch.float32))  # float16 sums may overflow
    formula = "k,khw->hw" if weights.ndim == 1 else "khw,khw->hw"
    return torch.einsum(formula, weights.to(activations), activations).float()


def scaled_map(total: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """s(ReLU(up(total))) and up(total), each (height, width); the first is all zeros if it would be constant.

    The sum over channels is taken before upsampling, which is linear.
    """
    if is_constant(total):  # before upsampling, whose rounding could turn a constant into noise
        return total.new_zeros(tuple(size)), total.mean().expand(tuple(size)).clone()
    raw = upsample(total[None], size)[0]
    rectified = raw.relu()
    return torch.zeros_like(rectified) if is_constant(rectified) else min_max(rectified), raw


def is_constant(x: Tensor) -> bool:
    """Return True if x varies by no more than the rounding of its sum."""
    low, high = x.aminmax()
    return bool(high - low <= 1e-6 * torch.maximum(high.abs(), low.abs()))


def upsampled_masks(activations: Tensor, size: Sequence[int], normalise: str) -> Tensor:
    """Masks H_k (K, height, width) of channels (K, h, w), scaled after ("upsampled") or before ("layer") upsampling."""
    if normalise == "layer":
        activations = min_max(activations)
    masks = upsample(activations, size)
    return min_max(masks) if normalise == "upsampled" else masks


def upsample(activations: Tensor, size: Sequence[int]) -> Tensor:
    """up(A): resize (K, h, w) to (K, height, width) bilinearly, with `align_corners=False`."""
    return F.interpolate(activations[None], tuple(size), mode="bilinear", align_corners=False)[0]


def min_max(x: Tensor) -> Tensor:
    """s(x) = (x - min x) / (max x - min x), equation 8 of the IS-CAM paper, per (h, w) slice; 0 if it is constant."""
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return (x - low) / torch.where(high > low, high - low, 1)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    r"""Structural similarity of maps: the mean over all windows of

    (2 μ_a μ_b + C1)(2 σ_ab + C2) / ((μ_a² + μ_b² + C1)(σ_a² + σ_b² + C2)),  C1 = 0.01², C2 = 0.03².

    Means μ, variances σ² and covariance σ_ab are weighted by a Gaussian of standard deviation 1.5 pixels in 11x11
    windows inside the map. a, b (batch, height, width) in [0, 1]. Returns (batch,) float64 in [-1, 1]: 1 for equal
    maps, NaN if either map is constant, since it has no structure to compare. Exclude NaN values and report their
    count.

    Raises `InputError` for maps of different shapes, smaller than the window, or outside [0, 1].

    Source: Wang et al. 2004, doi 10.1109/TIP.2003.819861, equation 13.
    """
    tensors = isinstance(a, Tensor) and isinstance(b, Tensor)
    if not tensors or a.shape != b.shape or a.ndim != 3 or min(a.shape[1:]) < 11:
        found = " and ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in (a, b))
        raise InputError(
            f"ssim needs two batches of maps (batch, height, width) of one shape, at least 11x11; got {found}"
        )
    for maps in (a, b):
        if len(maps) and not ((maps >= 0) & (maps < 1.001)).all():  # also refuses NaN
            raise InputError(f"ssim needs maps in [0, 1]; got {maps.min():.3g} to {maps.max():.3g}: scale them")
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
    """Spearman's rank correlation of two maps. Equal values share their mean rank. NaN if either map is constant.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0])), 6)
    1.0
    """
    ranks = [pd.Series(x.flatten().cpu().numpy()).rank() for x in (a, b)]
    return float(ranks[0].corr(ranks[1]))
