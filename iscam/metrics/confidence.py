"""The class probability behind a map: confidence, drop, increase, gain and win."""

from __future__ import annotations

import torch
from torch import Tensor

from iscam.engine.scoring import masked_scores
from iscam.errors import InputError
from iscam.model import Network, check_images, predicted_classes
from iscam.validation import check_maps, check_probabilities


def confidence(net: Network, images: Tensor, maps: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""The class probability of the image, Y = C(X), and of what the map lets through, O = C(X ∘ L).

    The product is taken in normalised space, so that the hidden parts turn mean-grey. Both are computed in float32 in
    the same batch shape: otherwise rounding alone would raise the confidence of a quarter of the images.

    images (batch, channels, height, width), maps (batch, height, width) in [0, 1], targets (batch,) or None (the
    predicted class). Returns two tensors (batch,) in [0, 1]. Raises `InputError` as `insertion`, and for other maps.

    Source: Chattopadhay et al. 2018, arXiv 1710.11063. The IS-CAM authors' notebook takes the masked image's top
    class for both.
    """
    images, maps = check_images(net, images), check_maps(images, maps)
    if maps.min() < 0 or maps.max() > 1.001:  # a little more than rounding
        raise InputError(f"maps must be from 0 to 1, not {maps.min():.3g} to {maps.max():.3g}: scale them")
    triples = list(zip(images, maps, predicted_classes(net, images, targets), strict=True))
    original = [masked_confidence(net, image, torch.ones_like(map), target) for image, map, target in triples]
    explained = [masked_confidence(net, image, map, target) for image, map, target in triples]
    return torch.cat(original), torch.cat(explained)


def masked_confidence(net: Network, image: Tensor, map: Tensor, target: int) -> Tensor:
    """C(X ∘ L) of one image (channels, height, width) and map (height, width): (1,), computed in a batch of one."""
    return masked_scores(net, lambda _: ((image * map.to(image))[None],), 1, target, compile=False)


def average_drop(original: Tensor, explained: Tensor) -> Tensor:
    r"""Drop of the class probability,  max(0, Y - O) / Y,  0 where Y = 0; low is good.

    original Y and explained O (batch,) as `confidence` gives them. Returns (batch,) in [0, 1]; its mean x 100 is the
    tables' Average Drop %. Raises `InputError` for what are no probabilities of the same images.

    Source: Chattopadhay et al. 2018; the IS-CAM paper prints the sum without 1/N.

    >>> iscam.average_drop(torch.tensor([0.8, 0.5, 0.0]), torch.tensor([0.2, 0.9, 0.3]))
    tensor([0.7500, 0.0000, 0.0000])
    """
    check_probabilities(original, explained)
    drop = (original - explained).clamp(min=0)
    return torch.where(original > 0, drop / torch.where(original > 0, original, 1), 0)


def average_increase(original: Tensor, explained: Tensor) -> Tensor:
    r"""Whether the class probability rises,  Y < O; often is good.

    original Y and explained O (batch,). Returns (batch,) bool; its mean x 100 is the tables' Average Increase %. Over
    the same images, Average Drop % + Average Increase % is at most 100. Errors and source: as for `average_drop`.
    """
    check_probabilities(original, explained)
    return original < explained


def average_gain(original: Tensor, explained: Tensor) -> Tensor:
    r"""Gain of the class probability,  max(0, O - Y) / (1 - Y); high is good.

    The counterpart of `average_drop`: it says by how much the probability rises, where `average_increase` only says
    that it does. original Y and explained O (batch,). Returns (batch,) in [0, 1], NaN where Y = 1, which leaves nothing
    to gain: leave it out and count it. Errors: as for `average_drop`.

    Source: Zhang et al. 2023 (Opti-CAM), arXiv 2301.07002.

    >>> iscam.average_gain(torch.tensor([0.6, 0.5, 1.0]), torch.tensor([0.8, 0.2, 0.9]))
    tensor([0.5000, 0.0000,    nan])
    """
    check_probabilities(original, explained)
    return (explained - original).clamp(min=0) / (1 - original)


def explained_confidence(explained: Tensor) -> Tensor:
    """The class probability that the map lets through, O, itself: what Win % of any two methods can be told from.

    explained O (batch,) as `confidence` gives it; the identity control's O is Y. Returns it, (batch,) in [0, 1].
    """
    return explained


def win(original: Tensor, explained_a: Tensor, explained_b: Tensor) -> Tensor:
    r"""Whether method a keeps more of the class probability than method b,  O_a > O_b, not clipped at Y.

    original Y, explained O_a and O_b (batch,). Returns (batch,) bool; its mean x 100 is the tables' Win %. Equal
    values are no win for either: report their share beside it. Errors: as for `average_drop`.

    Source: the IS-CAM paper, section 4.2, where a method wins by the smaller drop; Y is the same for both, so the drop
    Y - O is smaller where O is larger.
    """
    check_probabilities(original, explained_a, explained_b)
    return explained_a > explained_b
