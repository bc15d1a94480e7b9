"""How the network's score reacts to what a map marks: insertion, deletion, drop, increase, gain, win, and ADCC."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from iscam.activations import exact
from iscam.errors import InputError, one_of, positive
from iscam.explain import checked_images, predicted
from iscam.masks import channels_last, masked_scores
from iscam.network import Network

STARTS = ("zeros", "blur")


class Curves(NamedTuple):
    """Scores while pixels are inserted or deleted, one curve a picture."""

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
    r"""Insertion: the class probability while the picture's pixels appear, the map's highest first; high is good.

    Point j shows the j · `pixels_per_step` highest pixels of the map on a `start` canvas: "zeros" (in normalised
    space: ImageNet's mean grey) or "blur" (the picture under a Gaussian of size 11 and σ = 5). Equal pixels are
    ordered row by row. 224x224 pixels in steps of 224 give 225 points, the canvas and the whole picture included.
    AUC = (p_0/2 + p_1 + ... + p_{J-1} + p_J/2) / J, the trapezoid rule (a shorter last step counts by its length).

    images (batch, channels, height, width), maps (batch, height, width), targets (batch,) or None (the predicted
    class). Returns `Curves`. Raises `InputError` for shapes and values that will not do.

    Source: Petsiuk et al. 2018, arXiv 1806.07421 (start: blur); the IS-CAM paper, section 4.1, and its authors' code
    (start: zeros; they set the first point to 0, which is computed here).
    """
    if start not in STARTS:
        raise one_of("start", start, STARTS)
    images = checked_images(net, images)
    canvases = torch.zeros_like(images) if start == "zeros" else tv.gaussian_blur(images, [11, 11], [5.0, 5.0])
    return curves(net, images, maps, targets, pixels_per_step, before=canvases, after=images)


def deletion(
    net: Network, images: Tensor, maps: Tensor, targets: Tensor | None = None, pixels_per_step: int = 224
) -> Curves:
    r"""Deletion: the class probability while the picture's pixels vanish, the map's highest first; low is good.

    Like `insertion`, from the whole picture to zeros in normalised space. Source: as for `insertion`.
    """
    images = checked_images(net, images)
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
    step = positive("pixels_per_step", pixels_per_step)
    maps = checked_maps(images, maps)
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
        if passes[0] // points == passes[-1] // points:  # most batches are of one picture, which needs no copies
            row = row[:1]
        return (torch.where(rank[row] < changed[point, None, None, None], after[row], before[row]),)

    targets = torch.tensor(predicted(net, images, targets)).repeat_interleave(points)
    scores = masked_scores(net, inputs, len(maps) * points, targets).reshape(-1, points)
    fraction = (changed / pixels).float()
    return Curves(fraction, scores, torch.trapezoid(scores, fraction))


def confidence(net: Network, images: Tensor, maps: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""The class probability of the picture, Y = C(X), and of what the map lets through, O = C(X ∘ L).

    The product is taken in normalised space, so that the hidden parts turn mean-grey. Both are computed in float32 in
    the same batch shape: otherwise rounding alone would raise the confidence of a quarter of the pictures.

    images (batch, channels, height, width), maps (batch, height, width) in [0, 1], targets (batch,) or None (the
    predicted class). Returns two tensors (batch,) in [0, 1]. Raises `InputError` as `insertion`, and for other maps.

    Source: Chattopadhay et al. 2018, arXiv 1710.11063. The IS-CAM authors' notebook takes the masked picture's top
    class for both.
    """
    images, maps = checked_images(net, images), checked_maps(images, maps)
    if maps.min() < 0 or maps.max() > 1.001:  # a little more than rounding
        raise InputError(f"maps must be from 0 to 1, not {maps.min():.3g} to {maps.max():.3g}: scale them")
    triples = list(zip(images, maps, predicted(net, images, targets), strict=True))
    original = [seen_through(net, image, torch.ones_like(map), target) for image, map, target in triples]
    explained = [seen_through(net, image, map, target) for image, map, target in triples]
    return torch.cat(original), torch.cat(explained)


def seen_through(net: Network, image: Tensor, map: Tensor, target: int) -> Tensor:
    """C(X ∘ L) of one picture (channels, height, width) and map (height, width): (1,), computed in a batch of one."""
    return masked_scores(net, lambda _: ((image * map.to(image))[None],), 1, target, compile=False)


def average_drop(original: Tensor, explained: Tensor) -> Tensor:
    r"""Drop of the class probability,  max(0, Y - O) / Y,  0 where Y = 0; low is good.

    original Y and explained O (batch,) as `confidence` gives them. Returns (batch,) in [0, 1]; its mean x 100 is the
    tables' Average Drop %. Raises `InputError` for what are no probabilities of the same pictures.

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
    the same pictures, Average Drop % + Average Increase % is at most 100. Errors and source: as for `average_drop`.
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


def complexity(maps: Tensor) -> Tensor:
    r"""Complexity of a map, its mean  1/(HW) Σ_ij L_ij: the share of the picture that it leaves; low is simple.

    maps (batch, height, width) in [0, 1]. Returns (batch,) in [0, 1]. Source: Poppi et al. 2021, arXiv 2104.10252.
    """
    return maps.float().mean((1, 2))


def coherency(maps: Tensor, maps_again: Tensor) -> Tensor:
    r"""Coherency, (1 + r) / 2, r Pearson's correlation of a map and the same method's map of X ∘ L; high is good.

    A method that is coherent marks the same things again when it sees only what it marked. maps and maps_again (batch,
    height, width): maps of the pictures X and of X ∘ L, for the same classes. Returns (batch,) in [0, 1], NaN where
    one of the two maps is constant (the identity control's are): leave it out and count it.

    Source: Poppi et al. 2021, arXiv 2104.10252; their code gives an undefined correlation the value 0.
    """
    centred = [x - x.mean(1, keepdim=True) for x in (exact(maps.flatten(1)), exact(maps_again.flatten(1)))]
    a, b = (x / x.norm(dim=1, keepdim=True) for x in centred)  # 0 / 0 = NaN where a map is constant
    return ((1 + (a * b).sum(1).clamp(-1, 1)) / 2).float().to(maps.device)


def adcc(original: Tensor, explained: Tensor, maps: Tensor, maps_again: Tensor) -> Tensor:
    r"""ADCC, the harmonic mean of coherency, 1 - complexity and 1 - average drop; high is good.

    ADCC = 3 / (1/coherency + 1/(1 - complexity) + 1/(1 - drop)), 0 where one of the three is 0. Arguments as for
    `average_drop` and `coherency`. Returns (batch,) in [0, 1], NaN where the coherency is. A map that hides nothing
    has no drop; its complexity of 1 is what keeps it from a good value here.

    Source: Poppi et al. 2021, arXiv 2104.10252, who take it of each picture; others take it of the three means.
    """
    parts = (coherency(maps, maps_again), 1 - complexity(maps), 1 - average_drop(original, explained))
    return 3 / torch.stack([1 / part for part in parts]).sum(0)


def win(original: Tensor, explained_a: Tensor, explained_b: Tensor) -> Tensor:
    r"""Whether method a keeps more of the class probability than method b,  O_a > O_b, not clipped at Y.

    original Y, explained O_a and O_b (batch,). Returns (batch,) bool; its mean x 100 is the tables' Win %. Equal
    values are no win for either: report their share beside it. Errors: as for `average_drop`.

    Source: the IS-CAM paper, section 4.2, where a method wins by the smaller drop; Y is the same for both, so the drop
    Y - O is smaller where O is larger.
    """
    check_probabilities(original, explained_a, explained_b)
    return explained_a > explained_b


def check_probabilities(*probabilities: Tensor) -> None:
    """Nothing where these are probabilities of the same pictures, in [0, 1] but for rounding, else `InputError`."""
    if not all(isinstance(each, Tensor) for each in probabilities) or len({each.shape for each in probabilities}) > 1:
        found = ", ".join(str(tuple(getattr(each, "shape", ()))) for each in probabilities)
        raise InputError(f"class probabilities must be tensors (batch,) of the same pictures; got {found}")
    if not all(((each >= 0) & (each < 1.001)).all() for each in probabilities):  # false for NaN, too
        raise InputError("class probabilities must be from 0 to 1: they are what confidence returns, not logits")


def checked_maps(images: Tensor, maps: Tensor) -> Tensor:
    """Maps (batch, height, width) that fit the images, else `InputError`."""
    expected = (len(images), *images.shape[2:])
    if not isinstance(maps, Tensor) or maps.shape != expected:
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"maps must be (batch, height, width) = {expected} like the images; got {found}")
    if not maps.isfinite().all():
        raise InputError("the maps hold NaN or infinite values")
    return maps.to(images)
