"""What a network really used: a drawing can be drawn again without one of its parts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from iscam.errors import InputError
from iscam.maps import is_constant, min_max, to_float64, upsample
from iscam.menagerie.draw import Drawing, draw
from iscam.model import Network

#: A part counts where at least so many of its pixels show.
VISIBLE = 50


def part_importance(net: Network, species: str, seed: int, shapley: bool = False) -> pd.Series:
    r"""How much each part of a drawing counts for the class that the network predicts on the whole image.

    The log-odds of that class c,  log p_c / (1 - p_c),  on the whole image minus those without the part; with
    `shapley=True` the part's Shapley value, its mean gain in log-odds over all orders in which the parts can be put
    on, which shares between parts that hide each other (2^n drawings, n <= 8). A removed part shows what it hid.

    Returns a Series part -> importance (log-odds, any sign), in the drawing's order of parts.

    Raises `InputError` for an unknown species or seed, and for a Shapley value of more than 8 parts.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> iscam.part_importance(net, "Basenji", 0).index.tolist()
    ['ears', 'brow', 'muzzle', 'chest', 'coat', 'legs', 'tail']
    """
    parts = list(draw(species, seed).parts)
    if shapley and len(parts) > 8:
        raise InputError(f"the exact Shapley value needs at most 8 parts; {species} has {len(parts)}")
    sizes = range(len(parts) + 1) if shapley else range(2)
    removed = [frozenset(chosen) for size in sizes for chosen in combinations(parts, size)]
    odds = dict(zip(removed, log_odds(net, species, seed, removed), strict=True))
    if not shapley:
        whole = odds[frozenset()]
        return pd.Series({part: whole - odds[frozenset([part])] for part in parts})
    return pd.Series({part: shapley_value(odds, part, len(parts)) for part in parts})


def log_odds(net: Network, species: str, seed: int, removed: Sequence[frozenset[str]]) -> list[float]:
    """Log-odds, on the drawing without each set of parts, of the class predicted on the first of them."""
    logits = torch.cat([net(as_input(net, draw(species, seed, without=sorted(parts)))) for parts in removed])
    logits = to_float64(logits)
    c = int(logits[0].argmax())
    others = torch.cat([logits[:, :c], logits[:, c + 1 :]], dim=1)
    return (logits[:, c] - others.logsumexp(1)).tolist()


def as_input(net: Network, drawing: Drawing) -> Tensor:
    """A drawing as a batch of one, on the network's device."""
    assert net.transform is not None
    return net.transform(Image.fromarray(drawing.image))[None].to(net.device, net.dtype)


def shapley_value(odds: dict[frozenset[str], float], part: str, parts: int) -> float:
    """Mean over all orders of what the part adds; `odds` is keyed by what is removed."""
    total = 0.0
    for gone in odds:
        if part in gone:
            others_on = parts - len(gone)  # the parts that were put on before this one
            weight = math.factorial(others_on) * math.factorial(len(gone) - 1) / math.factorial(parts)
            total += weight * (odds[gone - {part}] - odds[gone])
    return total


def part_correlation(maps: Tensor, drawings: Sequence[Drawing], importances: Sequence[pd.Series]) -> Tensor:
    r"""Spearman's rank correlation, over a drawing's parts, of the map's mean on the part with its importance.

    Parts of at least 50 visible pixels count; equal values get their mean rank; a constant map scores 0. An image with
    fewer than 3 such parts, or none of importance above 0.1, is NaN: leave it out and count it.

    maps (batch, height, width), drawings of that size, importances as `part_importance` gives them.
    Returns (batch,) in [-1, 1]; high is good. Source: this project.
    """
    return per_image(rank_correlation, maps, drawings, importances)


def rank_correlation(saliency: pd.Series, importance: pd.Series) -> float:
    if len(importance) < 3 or importance.max() <= 0.1:
        return math.nan
    if saliency.nunique() == 1 or importance.nunique() == 1:
        return 0.0
    return float(saliency.rank().corr(importance.rank()))


def decisive_part(maps: Tensor, drawings: Sequence[Drawing], importances: Sequence[pd.Series]) -> Tensor:
    r"""Whether the most important part has the highest mean saliency of all parts; n parts that tie get 1/n.

    Parts of at least 50 visible pixels count. An image whose most important part leads the next by less than 0.5 is
    NaN: leave it out and count it. Chance is 1 over the number of parts.

    Arguments as for `part_correlation`. Returns (batch,) in [0, 1]; high is good. Source: this project.
    """
    return per_image(decisive_share, maps, drawings, importances)


def decisive_share(saliency: pd.Series, importance: pd.Series) -> float:
    ranked = importance.sort_values(ascending=False)
    if len(ranked) < 2 or ranked.iloc[0] - ranked.iloc[1] < 0.5:
        return math.nan
    highest = saliency.index[saliency == saliency.max()]
    return float(ranked.index[0] in highest) / len(highest)


def per_image(
    judge: Callable[[pd.Series, pd.Series], float],
    maps: Tensor,
    drawings: Sequence[Drawing],
    importances: Sequence[pd.Series],
) -> Tensor:
    """`judge` of saliency and importance of each image's visible parts."""
    values = []
    for map, drawing, importance in zip(maps, drawings, importances, strict=True):
        saliency = part_saliency(map, drawing)
        values.append(judge(saliency, importance[saliency.index]))
    return torch.tensor(values)


def part_saliency(map: Tensor, drawing: Drawing) -> pd.Series:
    """The map's mean on each part of which at least 50 pixels show."""
    if drawing is None or map.shape != drawing.mask.shape:
        raise InputError(f"this metric needs the menagerie's drawings, of the maps' size {tuple(map.shape)}")
    parts = {name: torch.from_numpy(mask) for name, mask in drawing.parts.items() if mask.sum() >= VISIBLE}
    return pd.Series({name: float(map.cpu().double()[mask].mean()) for name, mask in parts.items()}, dtype=float)


def paint(drawing: Drawing, values: pd.Series, resolution: Sequence[int]) -> Tensor:
    """A map (height, width) in [0, 1] that says `values` of the parts as well as a layer of that resolution can.

    Each part's pixels get its value (overlaps the larger one), the rest 0; the image is averaged down to the layer's
    resolution, brought back as a class activation map is, and scaled to [0, 1] without ReLU, since a part may speak
    against the class.
    """
    canvas = torch.zeros(drawing.mask.shape)
    for part, value in values.sort_values().items():
        canvas[torch.from_numpy(drawing.parts[str(part)])] = float(value)
    small = F.adaptive_avg_pool2d(canvas[None], (resolution[0], resolution[1]))
    return torch.zeros_like(canvas) if is_constant(small) else min_max(upsample(small, canvas.shape)[0])


def oracle(drawing: Drawing, importance: pd.Series, resolution: Sequence[int]) -> Tensor:
    """The control that knows the truth: the importances painted on the parts, at the layer's resolution."""
    return paint(drawing, importance, resolution)


def part_area(drawing: Drawing, importance: pd.Series, resolution: Sequence[int]) -> Tensor:
    """The control that knows where the parts are and takes the larger for the more important."""
    return paint(drawing, pd.Series({name: float(mask.sum()) for name, mask in drawing.parts.items()}), resolution)


#: Controls that need a drawing, by name; a study takes them as methods.
DRAWN_CONTROLS: dict[str, Callable[[Drawing, pd.Series, Sequence[int]], Tensor]] = {
    "part_area": part_area,
    "oracle": oracle,
}
