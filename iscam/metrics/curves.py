"""Insertion and deletion curves."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from iscam.engine.batching import channels_last
from iscam.engine.scoring import masked_scores
from iscam.model import Network, check_images, predicted_classes
from iscam.validation import check_int, check_maps, unknown_choice

STARTS = ("zeros", "blur")


class Curves(NamedTuple):
    """Scores while pixels are inserted or deleted, one curve an image."""

    fraction: Tensor  # (points,) share of the pixels inserted or deleted, 0 to 1
    scores: Tensor  # (batch, points) class probability
    auc: Tensor  # (batch,) area under the curve by the trapezoid rule, 0 to 1


def insertion(
    net: Network,
    images: Tensor,
    maps: Tensor,
    targets: Tensor | None = None,
    pixels_per_step: int = 224,
    start: str = "zeros",
) -> Curves:
    r"""Insertion: the class probability while the image's pixels appear, the map's highest first; high is good.

    Point j shows the j · `pixels_per_step` highest pixels of the map on a `start` canvas: "zeros" (in normalised
    space: ImageNet's mean grey) or "blur" (the image under a Gaussian of size 11 and σ = 5). Equal pixels are
    ordered row by row. 224x224 pixels in steps of 224 give 225 points, the canvas and the whole image included.
    AUC = (p_0/2 + p_1 + ... + p_{J-1} + p_J/2) / J, the trapezoid rule (a shorter last step counts by its length).

    images (batch, channels, height, width), maps (batch, height, width), targets (batch,) or None (the predicted
    class). Returns `Curves`. Raises `InputError` for shapes and values that will not do.

    Source: Petsiuk et al. 2018, arXiv 1806.07421 (start: blur); the IS-CAM paper, section 4.1, and its authors' code
    (start: zeros; they set the first point to 0, which is computed here).
    """
    if start not in STARTS:
        raise unknown_choice("start", start, STARTS)
    images = check_images(net, images)
    canvases = torch.zeros_like(images) if start == "zeros" else tv.gaussian_blur(images, [11, 11], [5.0, 5.0])
    return curves(net, images, maps, targets, pixels_per_step, before=canvases, after=images)


def deletion(
    net: Network, images: Tensor, maps: Tensor, targets: Tensor | None = None, pixels_per_step: int = 224
) -> Curves:
    r"""Deletion: the class probability while the image's pixels vanish, the map's highest first; low is good.

    Like `insertion`, from the whole image to zeros in normalised space. Source: as for `insertion`.
    """
    images = check_images(net, images)
    return curves(net, images, maps, targets, pixels_per_step, before=images, after=torch.zeros_like(images))


def curves(
    net: Network,
    images: Tensor,
    maps: Tensor,
    targets: Tensor | None,
    pixels_per_step: int,
    *,
    before: Tensor,
    after: Tensor,
) -> Curves:
    """Class probability while pixels go from `before` to `after` in the order of the map."""
    step = check_int("pixels_per_step", pixels_per_step)
    maps = check_maps(images, maps)
    pixels = maps[0].numel()
    changed = torch.arange(0, pixels + step, step, device=images.device).clamp(max=pixels).int()  # (points,)
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    # A rank for each value, not each pixel, and all in the network's layout: nothing is broadcast nor copied again.
    rank = order.argsort(dim=1).view_as(maps).int()[:, None].expand_as(before)
    rank, before, after = channels_last([rank, before, after])
    points = len(changed)

    def inputs(passes: range) -> tuple[Tensor]:
        numbers = torch.arange(passes.start, passes.stop, device=images.device)
        row, point = numbers // points, numbers % points
        if passes[0] // points == passes[-1] // points:  # most batches are of one image, which needs no copies
            row = row[:1]
        return (torch.where(rank[row] < changed[point, None, None, None], after[row], before[row]),)

    targets = torch.tensor(predicted_classes(net, images, targets)).repeat_interleave(points)
    scores = masked_scores(net, inputs, len(maps) * points, targets).reshape(-1, points)
    fraction = (changed / pixels).float()
    return Curves(fraction, scores, torch.trapezoid(scores, fraction))
