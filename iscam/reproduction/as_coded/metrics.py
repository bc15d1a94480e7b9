"""The metrics as the authors' notebook computes them, and both conventions side by side."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import iscam
from iscam.metrics.confidence import masked_confidence
from iscam.metrics.curves import Curves
from iscam.model import Network, check_images
from iscam.validation import check_maps

#: A map's pixel is marked if its grey value, of 0 to 255, is larger.
THRESHOLD = 50


#: One value of one map: what was measured, by which convention.
Values = dict[tuple[str, str], float]


class Confidence(NamedTuple):
    """Probabilities of the class that the masked image is given, each (batch,)."""

    classes: Tensor
    original: Tensor  # Y, of the whole image
    explained: Tensor  # O, of the masked image


def confidence(net: Network, images: Tensor, maps: Tensor) -> Confidence:
    r"""Y = C_m(X) and O = C_m(X ∘ L) for m = argmax_c S_c(X ∘ L), the top class of the masked image.

    images (batch, 3, height, width), maps (batch, height, width). The canonical `iscam.confidence` asks for the
    explained class. Where the mask changes the network's mind, this one compares the probabilities of another class,
    for which O is the largest of all. Against the canonical pair of the predicted class, whose Y is the largest of all,
    it can only lower the drop and raise the increase.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cells 14 to 17.
    """
    images, maps = check_images(net, images), check_maps(images, maps)
    pairs = list(zip(images, maps, strict=True))
    classes = torch.stack([net((image * map)[None]).argmax() for image, map in pairs])
    triples = [(image, map, int(m)) for (image, map), m in zip(pairs, classes, strict=True)]
    original = [masked_confidence(net, image, torch.ones_like(map), m) for image, map, m in triples]
    explained = [masked_confidence(net, image, map, m) for image, map, m in triples]
    return Confidence(classes, torch.cat(original), torch.cat(explained))


def average_drop(original: Tensor, explained: Tensor) -> Tensor:
    r"""Σ_i max(0, Y_i - O_i) / Y_i, a sum over the images that nothing divides.

    original Y and explained O (batch,). Returns one number, of at most the number of images, which the notebook
    multiplies by 100 and prints. The canonical Average Drop is the mean, `iscam.average_drop(...).mean()`.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cells 14 to 17; the paper's
    formula has no 1/N either. The notebook does divide the increase and the wins.

    >>> average_drop(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.0]))
    tensor(1.5000)
    """
    return iscam.average_drop(original, explained).sum()


def win(original_a: Tensor, explained_a: Tensor, original_b: Tensor, explained_b: Tensor) -> Tensor:
    r"""Whether method a loses less than b in percentage points,  100 (Y_a - O_a) < 100 (Y_b - O_b).

    Each method brings the probabilities of its own class, so that Y_a and Y_b may be those of two classes; each
    tensor (batch,). Returns (batch,) bool. The canonical `iscam.win` compares O of one class.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cells 14 to 17.
    """
    return 100 * (original_a - explained_a) < 100 * (original_b - explained_b)


def first_point_zero(curves: Curves) -> Curves:
    r"""The same curves with the score p_0 of the empty canvas set to 0, which takes p_0 / 2J off the area (J steps).

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:risemetrics_final.py. The canonical `iscam.insertion` computes
    p_0. Deletion is the same in both.
    """
    scores = torch.cat([torch.zeros_like(curves.scores[:, :1]), curves.scores[:, 1:]], dim=1)
    return Curves(curves.fraction, scores, torch.trapezoid(scores, curves.fraction))


def marked(map: Tensor) -> Tensor:
    r"""The pixels of a map that count: 8 bits, JPEG, grey value above `THRESHOLD`.

    map (height, width) in [0, 1]. Returns (height, width) bool, on the CPU. The canonical energy takes the map itself.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cell 11. The description fixes
    neither rounding nor JPEG quality: values are cut off and Pillow's default quality is used here.
    """
    file = io.BytesIO()
    Image.fromarray((255 * map.clamp(0, 1)).byte().cpu().numpy()).save(file, "JPEG")
    return torch.from_numpy(np.array(Image.open(file).convert("L"))) > THRESHOLD


def swapped_box(box: Tensor, height: int, width: int) -> Tensor:
    r"""The pixels inside "the box",  x ≤ row ≤ x + xmax  and  y ≤ column ≤ y + ymax.

    box (4,): x, y, xmax, ymax, the corners of the object in the *original* image's pixels, whatever was resized and
    cropped since. Returns (height, width) bool. The far corner is read as width and height, and x counts rows. In the
    canonical energy a pixel is inside if its centre lies in [x, xmax) x [y, ymax), carried through resize and crop.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cell 11.

    >>> swapped_box(torch.tensor([0, 1, 1, 1]), 3, 4).int()
    tensor([[0, 1, 1, 0],
            [0, 1, 1, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    x, y, xmax, ymax = (float(value) for value in box)
    row, column = torch.arange(height)[:, None], torch.arange(width)
    return (x <= row) & (row <= x + xmax) & (y <= column) & (column <= y + ymax)


def share(weight: Tensor, inside: Tensor) -> float:
    """The share of a map or of marked pixels (height, width) that is inside; NaN where there is nothing to share."""
    return float((weight * inside).sum() / weight.sum())


def energy(map: Tensor, boxes: Tensor) -> float:
    r""" "Energy" as coded: marked pixels inside the first box over all marked pixels.

    map (height, width) in [0, 1]; boxes (n, 4) corners in the original image's pixels. NaN without a box or without
    a marked pixel. Differs from `iscam.energy` by `marked`, by `swapped_box`, and by taking the first box alone.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cell 11.
    """
    return share(marked(map), swapped_box(boxes[0], *map.shape)) if len(boxes) else float("nan")


def both_ways(
    net: Network, image: Tensor, map: Tensor, boxes: Tensor, original: Tensor, pixels_per_step: int
) -> Values:
    """Every metric of one map for the predicted class, by the canonical and by the coded convention.

    image (3, height, width), map (height, width), boxes (n, 4) as `iscam.energy` takes them, `original` (m, 4) the
    boxes in the original image's pixels. Returns (metric, convention) -> value, all fractions: "canonical" and
    "as coded" for each metric, "mask only" and "box only" for half of the coded energy, and for the wins "Y" and "O".
    The drop is of one image: the coded convention sums it (`average_drop`), which a table must say.
    """
    images, maps = image[None], map[None]
    target = net(images).argmax(1)
    canonical, coded = iscam.confidence(net, images, maps, target), confidence(net, images, maps)[1:]
    appearing = iscam.insertion(net, images, maps, target, pixels_per_step)
    vanishing = iscam.deletion(net, images, maps, target, pixels_per_step)
    first = original[:1]
    values: dict[tuple[str, str], Any] = {
        ("insertion", "canonical"): appearing.auc,
        ("insertion", "as coded"): first_point_zero(appearing).auc,
        ("deletion", "canonical"): vanishing.auc,
        ("deletion", "as coded"): vanishing.auc,
        ("energy", "canonical"): iscam.energy(maps, [boxes]),
        ("energy", "mask only"): iscam.energy(marked(map)[None].float(), [boxes]),
        ("energy", "box only"): share(map.cpu(), swapped_box(first[0], *map.shape)) if len(first) else float("nan"),
        ("energy", "as coded"): energy(map, first),
    }
    for convention, (whole, masked) in {"canonical": canonical, "as coded": coded}.items():
        values[("Y", convention)], values[("O", convention)] = whole, masked
        values[("average_drop", convention)] = iscam.average_drop(whole, masked)
        values[("average_increase", convention)] = iscam.average_increase(whole, masked)
    return {key: float(value) for key, value in values.items()}
