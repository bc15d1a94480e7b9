"""Operations on maps: upsampling, min-max scaling, weighted sums, rank correlation and SSIM."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from iscam.errors import InputError


def active(maps: Tensor) -> Tensor:
    """Return a boolean mask (K,) of the maps or channels (K, h, w) that are not constant."""
    return maps.amax((1, 2)) > maps.amin((1, 2))


def to_float64(x: Tensor) -> Tensor:
    """Return x in float64. It is moved to the CPU if its device does not support float64 (Apple GPUs)."""
    return (x.cpu() if x.device.type == "mps" else x).double()


def weighted_map(weights: Tensor, activations: Tensor, size: Sequence[int]) -> Tensor:
    """Compute L = s(ReLU(Σ_k α_k up(A_k))), (height, width) float32, from weights (K,) or (K, h, w)."""
    return scaled_map(weighted_sum(weights, activations), size)[0]


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Compute Σ_k α_k A_k, (h, w) float32, from activations (K, h, w) and weights (K,) or (K, h, w)."""
    activations = activations.to(torch.promote_types(activations.dtype, torch.float32))  # float16 sums may overflow
    formula = "k,khw->hw" if weights.ndim == 1 else "khw,khw->hw"
    return torch.einsum(formula, weights.to(activations), activations).float()


def scaled_map(total: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Compute s(ReLU(up(total))) and up(total), each (height, width).

    The first map is all zeros if it would be constant. `total` is the weighted sum over channels. It can be computed
    before upsampling, because upsampling is linear.
    """
    if is_constant(total):  # checked before upsampling, whose rounding errors could turn a constant into noise
        return total.new_zeros(tuple(size)), total.mean().expand(tuple(size)).clone()
    raw = upsample(total[None], size)[0]
    return unit_map(raw.relu()), raw


def unit_map(values: Tensor) -> Tensor:
    """Compute s(values), (height, width) float32. The map is all zeros if the values are constant up to rounding."""
    values = values.float()
    return torch.zeros_like(values) if is_constant(values) else min_max(values)


def is_constant(x: Tensor) -> bool:
    """Return True if the values of x differ by no more than rounding errors."""
    low, high = x.aminmax()
    return bool(high - low <= 1e-6 * torch.maximum(high.abs(), low.abs()))


def upsampled_masks(activations: Tensor, size: Sequence[int], normalise: str) -> Tensor:
    """Compute the masks H_k (K, height, width) of channels (K, h, w).

    The masks are scaled to [0, 1] after upsampling (`normalise="upsampled"`) or before it ("layer").
    """
    if normalise == "layer":
        activations = min_max(activations)
    masks = upsample(activations, size)
    return min_max(masks) if normalise == "upsampled" else masks


def upsample(activations: Tensor, size: Sequence[int]) -> Tensor:
    """Compute up(A): resize (K, h, w) to (K, height, width) bilinearly, with `align_corners=False`."""
    return F.interpolate(activations[None], tuple(size), mode="bilinear", align_corners=False)[0]


def min_max(x: Tensor) -> Tensor:
    """Compute s(x) = (x - min x) / (max x - min x) of each (h, w) slice. The result is 0 for a constant slice.

    This is equation 8 of the IS-CAM paper.
    """
    low, high = x.amin((-2, -1), keepdim=True), x.amax((-2, -1), keepdim=True)
    return (x - low) / torch.where(high > low, high - low, 1)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    r"""Compute the structural similarity of maps. It is the mean over all windows of

    (2 μ_a μ_b + C1)(2 σ_ab + C2) / ((μ_a² + μ_b² + C1)(σ_a² + σ_b² + C2)),  C1 = 0.01², C2 = 0.03².

    The windows have 11x11 pixels and lie inside the map. The means μ, variances σ² and covariance σ_ab in a window are
    weighted with a Gaussian of standard deviation 1.5 pixels.

    - `a`, `b` (batch, height, width) in [0, 1].

    Returns a tensor (batch,) float64 in [-1, 1]. The value is 1 for equal maps. It is NaN if either map is constant,
    because a constant map has no structure. Exclude NaN values and report their count.

    Raises `InputError` for maps of different shapes, smaller than the window, or with values outside [0, 1].

    Source: Wang et al. 2004, doi 10.1109/TIP.2003.819861, equation 13.
    """
    tensors = isinstance(a, Tensor) and isinstance(b, Tensor)
    if not tensors or a.shape != b.shape or a.ndim != 3 or min(a.shape[1:]) < 11:
        found = " and ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in (a, b))
        raise InputError(
            f"ssim needs two batches of maps (batch, height, width) of the same shape, at least 11x11; got {found}"
        )
    for maps in (a, b):
        if len(maps) and not ((maps >= 0) & (maps < 1.001)).all():  # also rejects NaN
            raise InputError(f"ssim needs maps in [0, 1]; got values from {maps.min():.3g} to {maps.max():.3g}")
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
    """Compute Spearman's rank correlation of two maps. Equal values share their mean rank.

    The result is NaN if either map is constant.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0])), 6)
    1.0
    """
    ranks = [pd.Series(x.flatten().cpu().numpy()).rank() for x in (a, b)]
    return float(ranks[0].corr(ranks[1]))
