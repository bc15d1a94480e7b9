"""ADCC and its parts: coherency and complexity."""

from __future__ import annotations

import torch
from torch import Tensor

from iscam.maps import to_float64
from iscam.metrics.confidence import average_drop


def complexity(maps: Tensor) -> Tensor:
    r"""Complexity of a map, its mean  1/(HW) Σ_ij L_ij: the share of the image that it leaves; low is simple.

    maps (batch, height, width) in [0, 1]. Returns (batch,) in [0, 1]. Source: Poppi et al. 2021, arXiv 2104.10252.
    """
    return maps.float().mean((1, 2))


def coherency(maps: Tensor, maps_again: Tensor) -> Tensor:
    r"""Coherency, (1 + r) / 2, r Pearson's correlation of a map and the same method's map of X ∘ L; high is good.

    A method that is coherent marks the same things again when it sees only what it marked. maps and maps_again (batch,
    height, width): maps of the images X and of X ∘ L, for the same classes. Returns (batch,) in [0, 1], NaN where
    one of the two maps is constant (the identity control's are): leave it out and count it.

    Source: Poppi et al. 2021, arXiv 2104.10252; their code gives an undefined correlation the value 0.
    """
    centred = [x - x.mean(1, keepdim=True) for x in (to_float64(maps.flatten(1)), to_float64(maps_again.flatten(1)))]
    a, b = (x / x.norm(dim=1, keepdim=True) for x in centred)  # 0 / 0 = NaN where a map is constant
    return ((1 + (a * b).sum(1).clamp(-1, 1)) / 2).float().to(maps.device)


def adcc(original: Tensor, explained: Tensor, maps: Tensor, maps_again: Tensor) -> Tensor:
    r"""ADCC, the harmonic mean of coherency, 1 - complexity and 1 - average drop; high is good.

    ADCC = 3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)), 0 where one of the three is 0. Arguments as for
    `average_drop` and `coherency`. Returns (batch,) in [0, 1], NaN where the coherency is. A map that hides nothing
    has no drop; its complexity of 1 is what keeps it from a good value here.

    Source: Poppi et al. 2021, arXiv 2104.10252, who take it of each image; others take it of the three means.
    """
    parts = (coherency(maps, maps_again), 1 - complexity(maps), 1 - average_drop(original, explained))
    return 3 / torch.stack([1 / part for part in parts]).sum(0)
