"""Insertion and deletion curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from iscam.engine.batching import channels_last
from iscam.engine.scoring import Scoring, masked_scores
from iscam.errors import InputError
from iscam.metrics.checks import check_dense
from iscam.model import Network, as_network, check_images, predicted_classes
from iscam.validation import check_choice, check_int, check_maps

#: Canvases from which insertion starts.
STARTS = ("zeros", "blur")

#: Size and standard deviation of the Gaussian of `start="blur"`, in pixels.
BLUR_SIZE, BLUR_SIGMA = 11, 5.0


class Curves(NamedTuple):
    """Curves of the class probability while pixels are inserted or deleted, one per image."""

    fraction: Tensor  # (points,) share of the pixels that are inserted or deleted, from 0 to 1
    scores: Tensor  # (batch, points) class probability
    auc: Tensor  # (batch,) area under the curve, computed with the trapezoid rule, in [0, 1]


def insertion(
    net: Network | nn.Module,
    images: Tensor,
    maps: Tensor,
    targets: Tensor | Sequence[int] | int | None = None,
    pixels_per_step: int = 224,
    start: str = "zeros",
    compile: bool = False,  # noqa: A002
) -> Curves:
    r"""Compute insertion curves: the class probability as pixels are revealed in order of decreasing saliency.

    Point j shows the j · `pixels_per_step` pixels of highest saliency on a canvas. Pixels of equal saliency are
    ordered row by row. AUC = (p_0/2 + p_1 + ... + p_{J-1} + p_J/2) / J, the trapezoid rule. A shorter last step is
    weighted by its length. 224x224 pixels in steps of 224 give 225 points, including the canvas and the full image.

    - `net`: a `Network`, or a model, which is wrapped in `Network(model)`.
    - `images` (batch, channels, height, width).
    - `maps` (batch, height, width) with any finite values: only the order of the values matters. The values are ranked
      in the precision of the tensor.
    - `targets`: one class per image, an int for all images, or None for the predicted class.
    - `pixels_per_step`: the number of pixels that each step reveals.
    - `start`: the canvas. "zeros" is 0 in normalised space, which is ImageNet's mean colour. "blur" is the image,
      blurred with a Gaussian of 11x11 pixels with σ = 5.
    - `compile`: run the model through `torch.compile`. This pays off for thousands of passes and changes the scores
      only by rounding.

    Returns `Curves`. A higher AUC is better. The AUC is always defined.

    Raises `InputError` for other shapes, for NaN or infinite maps, for unknown options, and for a blur of an image that
    is smaller than 6x6 pixels.

    Source: Petsiuk et al. 2018, arXiv 1806.07421 (start: blur); the IS-CAM paper, section 4.1, and its authors' code
    (start: zeros). The authors set the first point to 0; here it is computed.
    """
    check_choice("start", start if isinstance(start, str) else type(start).__name__, STARTS)
    net = as_network(net)
    images = check_images(net, images)
    canvases = torch.zeros_like(images) if start == "zeros" else blurred(images)
    return probability_curves(net, images, maps, targets, pixels_per_step, compile, before=canvases, after=images)


def deletion(
    net: Network | nn.Module,
    images: Tensor,
    maps: Tensor,
    targets: Tensor | Sequence[int] | int | None = None,
    pixels_per_step: int = 224,
    compile: bool = False,  # noqa: A002
) -> Curves:
    r"""Compute deletion curves: the class probability as pixels are set to zero in order of decreasing saliency.

    The curve runs from the full image to zeros in normalised space. The arguments, points, AUC, errors and source are
    those of `insertion`. Returns `Curves`. A lower AUC is better.
    """
    net = as_network(net)
    images = check_images(net, images)
    canvases = torch.zeros_like(images)
    return probability_curves(net, images, maps, targets, pixels_per_step, compile, before=images, after=canvases)


def blurred(images: Tensor) -> Tensor:
    """Blur the images with the Gaussian of `start="blur"`. The images are reflected at the border."""
    smallest = BLUR_SIZE // 2 + 1  # the reflected border must be narrower than the image
    if min(images.shape[2:]) < smallest:
        raise InputError(
            f"start='blur' needs images of at least {smallest}x{smallest} pixels; got {tuple(images.shape[2:])}; "
            "use start='zeros'"
        )
    return tv.gaussian_blur(images, [BLUR_SIZE, BLUR_SIZE], [BLUR_SIGMA, BLUR_SIGMA])


def probability_curves(
    net: Network,
    images: Tensor,
    maps: Tensor,
    targets: Tensor | Sequence[int] | int | None,
    pixels_per_step: int,
    compile: bool,  # noqa: A002
    *,
    before: Tensor,
    after: Tensor,
) -> Curves:
    """Compute the class probability as pixels change from `before` to `after` in order of decreasing saliency."""
    step = check_int("pixels_per_step", pixels_per_step)
    check_maps(images, check_dense(maps))
    pixels = maps[0].numel()
    step = min(step, pixels)
    changed = torch.arange(0, pixels + step, step, device=images.device).clamp(max=pixels).int()  # (points,)
    # The ranks are expanded to the images' shape and memory format once, not again in each batch.
    ranks = pixel_ranks(maps.to(images.device))[:, None].expand_as(before)
    ranks, before, after = channels_last([ranks, before, after])
    points = len(changed)

    def inputs(passes: range) -> tuple[Tensor]:
        numbers = torch.arange(passes.start, passes.stop, device=images.device)
        row, point = numbers // points, numbers % points
        if passes[0] // points == passes[-1] // points:  # a batch of one image needs no copies
            row = row[:1]
        return (torch.where(ranks[row] < changed[point, None, None, None], after[row], before[row]),)

    classes = torch.tensor(predicted_classes(net, images, targets)).repeat_interleave(points)
    scores = masked_scores(net, inputs, len(maps) * points, classes, Scoring(compile=compile)).reshape(-1, points)
    fraction = (changed / pixels).float()
    return Curves(fraction, scores, torch.trapezoid(scores, fraction))


def pixel_ranks(maps: Tensor) -> Tensor:
    """Return the rank of each pixel, int32 (batch, height, width).

    The highest saliency has rank 0. Pixels of equal saliency are ranked in row-major order.
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).view_as(maps).int()
