"""ADCC and its parts: coherency and complexity."""

from __future__ import annotations

import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.maps import to_float64
from iscam.metrics.checks import check_map_batch, check_unit_range
from iscam.metrics.confidence import average_drop


def complexity(maps: Tensor) -> Tensor:
    r"""Compute the complexity of a map: its mean,  1/(HW) Σ_ij L_ij.

    - `maps` (batch, height, width) in [0, 1].

    Returns a tensor (batch,) float32 in [0, 1]; lower is better. The value is always defined.

    Raises `InputError` for other shapes and for values outside [0, 1].

    Source: Poppi et al. 2021, arXiv 2104.10252.
    """
    return check_unit_range(check_map_batch(maps)).float().mean((1, 2))


def coherency(maps: Tensor, maps_again: Tensor) -> Tensor:
    r"""Compute the coherency (1 + r) / 2, where r is Pearson's correlation of the maps of X and the masked image X ∘ L.

    A coherent method marks the same pixels again when its input shows only the pixels that it marked. `maps` and
    `maps_again` (batch, height, width) are one method's maps of X and of X ∘ L for the same classes. The scale of the
    maps does not matter.

    Returns a tensor (batch,) float32 in [0, 1]; higher is better. The value is NaN if one of the two maps is constant,
    as with the identity control. Exclude NaN values and report their count.

    Raises `InputError` for other shapes, for two different shapes, and for NaN or infinite values.

    Source: Poppi et al. 2021, arXiv 2104.10252. Their code sets an undefined correlation to 0.
    """
    check_map_batch(maps)
    check_map_batch(maps_again, "maps_again")
    if maps.shape != maps_again.shape:
        raise InputError(
            f"maps and maps_again must have the same shape; got {tuple(maps.shape)} and {tuple(maps_again.shape)}"
        )
    rows = [to_float64(x.to(maps.device).flatten(1)) for x in (maps, maps_again)]
    centred = [x - x.mean(1, keepdim=True) for x in rows]
    a, b = (x / x.norm(dim=1, keepdim=True) for x in centred)  # 0 / 0 = NaN for a constant map
    return ((1 + (a * b).sum(1).clamp(-1, 1)) / 2).float().to(maps.device)


def adcc(original: Tensor, explained: Tensor, maps: Tensor, maps_again: Tensor) -> Tensor:
    r"""Compute ADCC: the harmonic mean of coherency, 1 - complexity and 1 - average drop.

    ADCC = 3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)). It is 0 if one of the three terms is 0. `original` and
    `explained` are the arguments of `average_drop`; `maps` in [0, 1] and `maps_again` are those of `coherency`. A map
    that hides nothing has no drop, but its complexity is 1, so its ADCC is 0.

    Returns a tensor (batch,) float32 in [0, 1]; higher is better. The value is NaN where the coherency is NaN.

    Raises the same errors as `average_drop`, `complexity` and `coherency`, and an `InputError` if the numbers of
    probabilities and maps differ.

    Source: Poppi et al. 2021, arXiv 2104.10252. They compute ADCC per image; other authors compute it from the means of
    the three terms over the images.
    """
    parts = (coherency(maps, maps_again), 1 - complexity(maps), 1 - average_drop(original, explained))
    if original.shape != maps.shape[:1]:
        raise InputError(f"adcc needs one class probability per map: {len(maps)}; got {tuple(original.shape)}")
    return 3 / torch.stack([1 / part for part in parts]).sum(0)
