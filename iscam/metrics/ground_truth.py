"""Ground truth from the menagerie: a drawing can be drawn again without one of its parts."""

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

#: Pixels that must be visible for a part to count.
VISIBLE = 50


def part_importance(net: Network | nn.Module, species: str, seed: int, shapley: bool = False) -> pd.Series:
    r"""Importance of each part of a drawing for the class c that the network predicts on the full image.

    The importance is the log-odds log p_c / (1 - p_c) of the full image minus the log-odds without the part. A removed
    part shows what it covered. With `shapley=True` it is the part's Shapley value: its mean gain in log-odds over all
    orders in which the parts can be added. Parts that cover each other then share their effect. This takes 2^n drawings
    for n parts; a drawing has at most 8 parts.

    Returns a Series part -> importance (log-odds, any sign), in the drawing's order of parts.

    Raises `InputError` for an unknown species or seed.

    Source: this project.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> iscam.part_importance(net, "Basenji", 0).index.tolist()
    ['ears', 'brow', 'muzzle', 'chest', 'coat', 'legs', 'tail']
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


def log_odds(net: Network, species: str, seed: int, removed: Sequence[frozenset[str]]) -> list[float]:
    """Log-odds of one class on the drawing without each set of parts.

    The class is the one that the network predicts on the first of these drawings.
    """
    logits = torch.cat([net(as_input(net, draw(species, seed, without=sorted(parts)))) for parts in removed])
    logits = to_float64(logits)
    c = int(logits[0].argmax())
    others = torch.cat([logits[:, :c], logits[:, c + 1 :]], dim=1)
    return (logits[:, c] - others.logsumexp(1)).tolist()


def as_input(net: Network, drawing: Drawing) -> Tensor:
    """A drawing as a batch of one image, on the network's device."""
    return net.transform(Image.fromarray(drawing.image))[None].to(net.device, net.dtype)


def shapley_value(odds: dict[frozenset[str], float], part: str, parts: int) -> float:
    """Shapley value of one of `parts` parts; the keys of `odds` are the sets of removed parts."""
    total = 0.0
    for removed in odds:
        if part in removed:
            added_before = parts - len(removed)  # parts that are present when this one is added
            weight = math.factorial(added_before) * math.factorial(len(removed) - 1) / math.factorial(parts)
            total += weight * (odds[removed - {part}] - odds[removed])
    return total


def part_correlation(maps: Tensor, drawings: Sequence[Drawing], importances: Sequence[pd.Series]) -> Tensor:
    r"""Spearman's rank correlation between the map's mean on each part and the part's importance.

    Only parts with at least 50 visible pixels count. Equal values share their mean rank. A constant map scores 0.

    - `maps` (batch, height, width).
    - `drawings`: one per map, of the map's size.
    - `importances`: one Series per map, as `part_importance` returns it.

    Returns (batch,) float32 in [-1, 1]; higher is better. NaN if fewer than 3 parts count, or if no importance is
    above 0.1: exclude and report the count.

    Raises `InputError` for other maps, and for images that are not drawings of the maps' size.

    Source: this project.
    """
    return per_image(rank_correlation, maps, drawings, importances)


def rank_correlation(saliency: pd.Series, importance: pd.Series) -> float:
    """`part_correlation` of one image: saliency and importance per visible part."""
    if len(importance) < 3 or importance.max() <= 0.1:
        return math.nan
    if saliency.nunique() == 1 or importance.nunique() == 1:
        return 0.0
    return float(saliency.rank().corr(importance.rank()))


def decisive_part(maps: Tensor, drawings: Sequence[Drawing], importances: Sequence[pd.Series]) -> Tensor:
    r"""Whether the most important part has the highest mean saliency of all parts. n tied parts get 1/n each.

    Only parts with at least 50 visible pixels count. Chance level is 1 over the number of parts. The arguments are
    those of `part_correlation`.

    Returns (batch,) float32 in [0, 1]; higher is better. NaN unless the most important part leads the next by at least
    0.5: exclude and report the count.

    Raises `InputError` as `part_correlation` does.

    Source: this project.
    """
    return per_image(decisive_share, maps, drawings, importances)


def decisive_share(saliency: pd.Series, importance: pd.Series) -> float:
    """`decisive_part` of one image: saliency and importance per visible part."""
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
    """`compare` of saliency and importance of each image's visible parts."""
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
    """Mean of the map (height, width) on each part with at least 50 visible pixels."""
    if drawing is None or saliency_map.shape != drawing.mask.shape:
        raise InputError(f"this metric needs the menagerie's drawings, of the maps' size {tuple(saliency_map.shape)}")
    values = saliency_map.cpu().double()
    parts = {name: torch.from_numpy(mask) for name, mask in drawing.parts.items() if mask.sum() >= VISIBLE}
    return pd.Series({name: float(values[mask].mean()) for name, mask in parts.items()}, dtype=float)


def paint(drawing: Drawing, values: pd.Series, resolution: Sequence[int]) -> Tensor:
    """Map (height, width) in [0, 1] of one value per part, at the resolution of a layer.

    Each part's pixels get its value; where parts overlap, the larger one; the background gets 0. The image is averaged
    down to the layer's resolution and upsampled like a class activation map. It is scaled to [0, 1] without ReLU,
    because a part may be evidence against the class.
    """
    canvas = torch.zeros(drawing.mask.shape)
    for part, value in values.sort_values().items():
        canvas[torch.from_numpy(drawing.parts[str(part)])] = float(value)
    small = F.adaptive_avg_pool2d(canvas[None], (resolution[0], resolution[1]))
    return torch.zeros_like(canvas) if is_constant(small) else min_max(upsample(small, canvas.shape)[0])


def oracle(drawing: Drawing, importance: pd.Series, resolution: Sequence[int]) -> Tensor:
    """Map (height, width) of the true importance of each part, at the layer's resolution (h, w)."""
    return paint(drawing, importance, resolution)


def part_area(drawing: Drawing, importance: pd.Series, resolution: Sequence[int]) -> Tensor:
    """Map (height, width) of the area of each part, at the layer's resolution (h, w). It ignores the importances."""
    return paint(drawing, pd.Series({name: float(mask.sum()) for name, mask in drawing.parts.items()}), resolution)


@dataclass(frozen=True)
class DrawnControl:
    """A control map that is made from a drawing: a function with its name and its summary for readers.

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
