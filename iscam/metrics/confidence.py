"""The class probability of the masked image: confidence, drop, increase, gain and win."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from iscam.engine.scoring import masked_scores
from iscam.metrics.checks import check_dense, check_unit_range
from iscam.metrics.curves import pixel_ranks
from iscam.model import Network, as_network, check_images, predicted_classes
from iscam.validation import check_maps, check_probabilities, check_share


def confidence(
    net: Network | nn.Module,
    images: Tensor,
    maps: Tensor,
    targets: Tensor | Sequence[int] | int | None = None,
    keep: float = 1.0,
) -> tuple[Tensor, Tensor]:
    r"""Compute the class probability of the image, Y = C(X), and of the masked image, O = C(X ∘ L).

    The product is computed in normalised space, where 0 is ImageNet's mean colour. Y and O are computed in float32 with
    one image per batch. In batches of different shapes, rounding alone would raise the probability of a quarter of
    the images.

    - `net`: a `Network`, or a model, which is wrapped in `Network(model)`.
    - `images` (batch, channels, height, width).
    - `maps` (batch, height, width) in [0, 1].
    - `targets`: one class per image, an int for all images, or None for the predicted class.
    - `keep`: the share of the pixels at which the map keeps its value, in (0, 1]. It is 0 at the others:
      L'_p = L_p if rank(p) < n, and 0 otherwise, with n = keep · pixels, rounded, and at least 1. The pixel of highest
      saliency has rank 0. Pixels of equal saliency are ranked row by row, as in `insertion`, so all maps keep the same
      number of pixels.

    Returns Y and O, two tensors (batch,) float32 in [0, 1].

    Raises `InputError` for other shapes, for maps outside [0, 1], for a share outside (0, 1], and if the model fails on
    the images.

    Source: Chattopadhay et al. 2018, arXiv 1710.11063. The IS-CAM authors' notebook uses the top class of the masked
    image for both Y and O. `keep=0.5` follows Wang et al. 2020 (Score-CAM), arXiv 1910.01279, section 4.2: "limiting
    the number of positive pixels in the saliency map (50% of pixels of the image are muted in our experiment)". The
    paper does not say whether a kept pixel has the map's value or 1, and its code is not public. Here it has the map's
    value.
    """
    net = as_network(net)
    images = check_images(net, images)
    check_maps(images, check_dense(maps))
    check_unit_range(maps)
    maps = upper_pixels(maps, check_share("keep", keep))
    classes = predicted_classes(net, images, targets)
    original = [masked_confidence(net, x, torch.ones_like(x[0]), c) for x, c in zip(images, classes, strict=True)]
    explained = [masked_confidence(net, x, mask, c) for x, mask, c in zip(images, maps, classes, strict=True)]
    return torch.cat(original), torch.cat(explained)


def upper_pixels(maps: Tensor, keep: float) -> Tensor:
    """Set the maps (batch, height, width) to 0, except at the share `keep` of the pixels, those of highest saliency.

    >>> upper_pixels(torch.tensor([[[0.1, 0.7], [0.7, 0.7]]]), 0.5)
    tensor([[[0.0000, 0.7000],
             [0.7000, 0.0000]]])
    """
    return torch.where(pixel_ranks(maps) < max(1, round(keep * maps[0].numel())), maps, 0)


def masked_confidence(net: Network, image: Tensor, mask: Tensor, target: int) -> Tensor:
    """Compute C(X ∘ L), (1,), for one image (channels, height, width) and map (height, width), in a batch of one."""
    return masked_scores(net, lambda _: ((image * mask.to(image))[None],), 1, target)


def average_drop(original: Tensor, explained: Tensor) -> Tensor:
    r"""Compute the relative drop of the class probability per image:  max(0, Y - O) / Y,  and 0 if Y = 0.

    - `original`, `explained`: the tensors Y and O (batch,) returned by `confidence`.

    Returns a tensor (batch,) in [0, 1]; lower is better. Its mean times 100 is Average Drop % in the tables.

    Raises `InputError` unless both arguments are tensors of the same shape with values in [0, 1].

    Source: Chattopadhay et al. 2018, arXiv 1710.11063. The IS-CAM paper prints the sum without the factor 1/N. The
    Score-CAM paper measures it with half of the pixels of the map: `confidence(..., keep=0.5)`.

    >>> iscam.average_drop(torch.tensor([0.8, 0.5, 0.0]), torch.tensor([0.2, 0.9, 0.3]))
    tensor([0.7500, 0.0000, 0.0000])
    """
    check_probabilities(original, explained)
    drop = (original - explained).clamp(min=0)
    return torch.where(original > 0, drop / torch.where(original > 0, original, 1), 0)


def average_increase(original: Tensor, explained: Tensor) -> Tensor:
    r"""Return True for each image whose class probability rises:  Y < O.

    - `original`, `explained`: the tensors Y and O (batch,) returned by `confidence`.

    Returns a tensor (batch,) bool; a higher share is better. Its mean times 100 is Average Increase % in the tables.
    Over the same images, Average Drop % + Average Increase % is at most 100.

    The errors and the source are those of `average_drop`.
    """
    check_probabilities(original, explained)
    return original < explained


def average_gain(original: Tensor, explained: Tensor) -> Tensor:
    r"""Compute the relative gain of the class probability per image:  max(0, O - Y) / (1 - Y).

    The gain is the counterpart of `average_drop`. It measures how far the probability rises; `average_increase` only
    tells whether it rises.

    - `original`, `explained`: the tensors Y and O (batch,) returned by `confidence`.

    Returns a tensor (batch,) in [0, 1]; higher is better. The value is NaN if Y = 1. Exclude NaN values and report
    their count.

    Raises the same errors as `average_drop`.

    Source: Zhang et al. 2023 (Opti-CAM), arXiv 2301.07002.

    >>> iscam.average_gain(torch.tensor([0.6, 0.5, 1.0]), torch.tensor([0.8, 0.2, 0.9]))
    tensor([0.5000, 0.0000,    nan])
    """
    check_probabilities(original, explained)
    return (explained - original).clamp(min=0) / (1 - original)


def explained_confidence(explained: Tensor) -> Tensor:
    """Return the class probability O of the masked image. Win % of any two methods can be computed from it.

    - `explained`: the tensor O (batch,) returned by `confidence`. For the identity control, O equals Y.

    Returns the same tensor (batch,) in [0, 1]; higher is better.
    """
    return explained


def win(original: Tensor, explained_a: Tensor, explained_b: Tensor) -> Tensor:
    r"""Return True for each image where method a keeps more of the class probability than method b:  O_a > O_b.

    - `original`, `explained_a`, `explained_b`: the tensors Y, O_a and O_b (batch,).

    Returns a tensor (batch,) bool; a higher share is better. Its mean times 100 is Win % in the tables. If the values
    are equal, neither method wins; also report the share of such images.

    Raises the same errors as `average_drop`.

    Source: the IS-CAM paper, section 4.2, where the method with the smaller drop Y - O wins. Y is the same for both
    methods, so only O_a and O_b are compared. O is not clipped at Y.
    """
    check_probabilities(original, explained_a, explained_b)
    return explained_a > explained_b
