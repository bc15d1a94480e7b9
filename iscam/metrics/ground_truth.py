"""Ground truth from the menagerie, whose drawings can be drawn again without one of their parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from iscam.errors import InputError
from iscam.maps import is_constant, min_max, to_float64, upsample
from iscam.menagerie.draw import Drawing, draw
from iscam.metrics.checks import check_map_batch
from iscam.model import Network, as_network

#: Minimum number of visible pixels of a part that counts.
VISIBLE = 50


def part_importance(net: Network | nn.Module, species: str, seed: int, shapley: bool = False) -> pd.Series:
    r"""Compute the importance of each part of a drawing for the class c that the network predicts on the full image.

    The importance is the log-odds log p_c / (1 - p_c) of the full image minus the log-odds without the part. If a part
    is removed, the image shows what the part covered. With `shapley=True` the importance is the part's Shapley value:
    its mean gain in log-odds over all orders in which the parts can be added. Parts that cover each other then share
    their effect. This requires 2^n drawings for n parts; a drawing has 6 parts.

    Returns a Series that maps each part to its importance (log-odds, any sign), in the drawing's order of parts.

    Raises `InputError` for an unknown species or seed.

    Source: this project.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> iscam.part_importance(net, "Basenji", 0).index.tolist()
    ['ears', 'face', 'chest', 'coat', 'legs', 'tail']
    """
    net = as_network(net)
    parts = list(draw(species, seed).parts)
    sizes = range(len(parts) + 1) if shapley else range(2)
    removed = [frozenset(chosen) for size in sizes for chosen in combinations(parts, size)]
    odds = dict(zip(removed, log_odds(net, species, seed, removed), strict=True))
    if not shapley:
        full = odds[frozenset()]
        return pd.Series({part: full - odds[frozenset([part])] for part in parts})
    return pd.Series({part: shapley_value(odds, part, len(parts)) for part in parts})


def pair_importance(net: Network | nn.Module, species: str, seed: int) -> pd.Series:
    r"""Compute the importance of each pair of parts of a drawing for the class that the network predicts.

    The importance of a pair is the log-odds log p_c / (1 - p_c) of the full image minus the log-odds without both
    parts. If each of two parts suffices for the prediction, `part_importance` is small for both of them, and the
    importance of the pair is large.

    Returns a Series (part, other part) -> importance (log-odds, any sign), in the drawing's order of parts.

    Raises `InputError` for an unknown species or seed.

    Source: this project.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> iscam.pair_importance(net, "Basenji", 0).index[0]
    ('ears', 'face')
    """
    pairs = list(combinations(draw(species, seed).parts, 2))
    full, *without = log_odds(as_network(net), species, seed, [frozenset(), *map(frozenset, pairs)])
    return pd.Series({pair: full - odds for pair, odds in zip(pairs, without, strict=True)})


def log_odds(net: Network, species: str, seed: int, removed: Sequence[frozenset[str]]) -> list[float]:
    """Compute the log-odds of one class on the drawing without each set of parts.

    The class is the one that the network predicts on the first of these drawings.
    """
    logits = torch.cat([net(as_input(net, draw(species, seed, without=sorted(parts)))) for parts in removed])
    logits = to_float64(logits)
    c = int(logits[0].argmax())
    others = torch.cat([logits[:, :c], logits[:, c + 1 :]], dim=1)
    return (logits[:, c] - others.logsumexp(1)).tolist()


def as_input(net: Network, drawing: Drawing) -> Tensor:
    """Return the drawing as a batch of one image, on the network's device."""
    return net.transform(Image.fromarray(drawing.image))[None].to(net.device, net.dtype)


def shapley_value(odds: dict[frozenset[str], float], part: str, parts: int) -> float:
    """Compute the Shapley value of one of `parts` parts. `odds` maps each set of removed parts to its log-odds."""
    total = 0.0
    for removed in odds:
        if part in removed:
            added_before = parts - len(removed)  # parts that are present when this one is added
            weight = math.factorial(added_before) * math.factorial(len(removed) - 1) / math.factorial(parts)
            total += weight * (odds[removed - {part}] - odds[removed])
    return total


def part_correlation(maps: Tensor, drawings: Sequence[Drawing], importances: Sequence[pd.Series]) -> Tensor:
    r"""Compute Spearman's rank correlation between the map's mean on each part and the part's importance.

    Only parts with at least 50 visible pixels count. Equal values share their mean rank. A constant map scores 0.

    - `maps` (batch, height, width).
    - `drawings`: one drawing per map, of the map's size.
    - `importances`: one Series per map, returned by `part_importance`.

    Returns a tensor (batch,) float32 in [-1, 1]; higher is better. The value is NaN if fewer than 3 parts count, or if
    no importance is above 0.1. Exclude NaN values and report their count.

    Raises `InputError` for other maps, and for images that are not drawings of the maps' size.

    Source: this project.
    """
    return per_image(rank_correlation, maps, drawings, importances)


def rank_correlation(saliency: pd.Series, importance: pd.Series) -> float:
    """Compute `part_correlation` of one image from the saliency and the importance of each visible part."""
    if len(importance) < 3 or importance.max() <= 0.1:
        return math.nan
    if saliency.nunique() == 1 or importance.nunique() == 1:
        return 0.0
    return float(saliency.rank().corr(importance.rank()))


def decisive_part(maps: Tensor, drawings: Sequence[Drawing], importances: Sequence[pd.Series]) -> Tensor:
    r"""Compute whether the most important part has the highest mean saliency of all parts: 1 or 0 per image.

    If n parts share the highest mean saliency and the most important part is one of them, the value is 1/n. Only parts
    with at least 50 visible pixels count. The chance level is 1 over the number of parts. The arguments are those of
    `part_correlation`.

    Returns a tensor (batch,) float32 in [0, 1]; higher is better. The value is NaN unless the most important part leads
    the next by at least 0.5. Exclude NaN values and report their count.

    Raises the same errors as `part_correlation`.

    Source: this project.
    """
    return per_image(decisive_share, maps, drawings, importances)


def decisive_share(saliency: pd.Series, importance: pd.Series) -> float:
    """Compute `decisive_part` of one image from the saliency and the importance of each visible part."""
    ranked = importance.sort_values(ascending=False)
    if len(ranked) < 2 or ranked.iloc[0] - ranked.iloc[1] < 0.5:
        return math.nan
    highest = saliency.index[saliency == saliency.max()]
    return float(ranked.index[0] in highest) / len(highest)


def per_image(
    compare: Callable[[pd.Series, pd.Series], float],
    maps: Tensor,
    drawings: Sequence[Drawing],
    importances: Sequence[pd.Series],
) -> Tensor:
    """Return `compare(saliency, importance)` of each image's visible parts, (batch,)."""
    check_map_batch(maps)
    if not len(maps) == len(drawings) == len(importances):
        raise InputError(
            f"each map needs its drawing and its importances; got {len(maps)} maps, {len(drawings)} drawings and "
            f"{len(importances)} importances"
        )
    values = []
    for saliency_map, drawing, importance in zip(maps, drawings, importances, strict=True):
        saliency = part_saliency(saliency_map, drawing)
        values.append(compare(saliency, importance[saliency.index]))
    return torch.tensor(values)


def part_saliency(saliency_map: Tensor, drawing: Drawing | None) -> pd.Series:
    """Compute the mean of the map (height, width) on each part with at least 50 visible pixels."""
    if drawing is None or saliency_map.shape != drawing.mask.shape:
        raise InputError(f"this metric needs menagerie drawings of the maps' size {tuple(saliency_map.shape)}")
    values = saliency_map.cpu().double()
    parts = {name: torch.from_numpy(mask) for name, mask in drawing.parts.items() if mask.sum() >= VISIBLE}
    return pd.Series({name: float(values[mask].mean()) for name, mask in parts.items()}, dtype=float)


def paint(drawing: Drawing, values: pd.Series, resolution: Sequence[int]) -> Tensor:
    """Return a map (height, width) in [0, 1] that shows one value per part with the detail of a layer.

    Each pixel of a part gets the part's value. Where parts overlap, the largest value counts. The background gets 0
    before scaling. The result is averaged down to the layer's resolution and upsampled like a class activation map. It
    is scaled to [0, 1] without ReLU, because a part may be evidence against the class.
    """
    canvas = torch.zeros(drawing.mask.shape)
    for part, value in values.sort_values().items():
        canvas[torch.from_numpy(drawing.parts[str(part)])] = float(value)
    small = F.adaptive_avg_pool2d(canvas[None], (resolution[0], resolution[1]))
    return torch.zeros_like(canvas) if is_constant(small) else min_max(upsample(small, canvas.shape)[0])


def oracle(drawing: Drawing, importance: pd.Series, resolution: Sequence[int]) -> Tensor:
    """Return the map (height, width) of the true importance of each part, at the layer's resolution (h, w)."""
    return paint(drawing, importance, resolution)


def part_area(drawing: Drawing, importance: pd.Series, resolution: Sequence[int]) -> Tensor:
    """Return the map (height, width) of each part's area, at the layer's resolution (h, w), without the importances."""
    return paint(drawing, pd.Series({name: float(mask.sum()) for name, mask in drawing.parts.items()}), resolution)


@dataclass(frozen=True)
class DrawnControl:
    """A control whose map is made from a drawing: a function with a title and a summary for readers.

    `function` takes a drawing, the importance of its parts and the resolution (h, w) of a layer. It returns a map
    (height, width) in [0, 1].
    """

    function: Callable[[Drawing, pd.Series, Sequence[int]], Tensor]
    title: str
    summary: str

    def __call__(self, drawing: Drawing, importance: pd.Series, resolution: Sequence[int]) -> Tensor:
        return self.function(drawing, importance, resolution)


#: Controls that need a drawing, by name. A study takes them as methods.
DRAWN_CONTROLS: dict[str, DrawnControl] = {
    "part_area": DrawnControl(part_area, "part area", "the area of each part"),
    "oracle": DrawnControl(oracle, "oracle", "the true importance of each part"),
}
