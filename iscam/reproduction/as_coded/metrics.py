"""The metrics of the authors' notebook, and the values of one map under both conventions."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import iscam
from iscam.metrics.curves import Curves
from iscam.model import Network, check_images
from iscam.validation import check_maps

#: A pixel of a map is marked if its grey value (0 to 255) exceeds this threshold.
THRESHOLD = 50

#: The values of one map by (metric, convention).
Values = dict[tuple[str, str], float]


class Confidence(NamedTuple):
    """The top class of each masked image and the probabilities of this class, each (batch,)."""

    classes: Tensor
    original: Tensor  # Y, the probability for the full image
    explained: Tensor  # O, the probability for the masked image


def confidence(net: Network, images: Tensor, maps: Tensor) -> Confidence:
    r"""Compute Y = C_m(X) and O = C_m(X ∘ L) for m = argmax_c S_c(X ∘ L), the top class of the masked image.

    - `images` (batch, 3, height, width).
    - `maps` (batch, height, width).

    The canonical `iscam.confidence` uses the explained class. If the mask changes the prediction, this function uses a
    different class, which has the largest O. The predicted class has the largest Y. The coded class can therefore only
    lower the drop and raise the increase.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cells 14 to 17.
    """
    images, maps = check_images(net, images), check_maps(images, maps)
    masked = images * maps[:, None].to(images)
    classes = torch.stack([net(image[None])[0].argmax() for image in masked])
    original, explained = iscam.confidence(net, images, maps, classes)
    return Confidence(classes, original, explained)


def average_drop(original: Tensor, explained: Tensor) -> Tensor:
    r"""Compute the undivided sum of the drops over the images, Σ_i max(0, Y_i - O_i) / Y_i.

    - `original`, `explained`: the tensors Y and O (batch,).

    Returns one number between 0 and the number of images. The notebook multiplies it by 100 and prints it. The
    canonical average drop is the mean, `iscam.average_drop(...).mean()`.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cells 14 to 17. The paper's
    formula has no 1/N either. The notebook does divide the increase and the wins by N.

    >>> average_drop(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.0]))
    tensor(1.5000)
    """
    return iscam.average_drop(original, explained).sum()


def win(original_a: Tensor, explained_a: Tensor, original_b: Tensor, explained_b: Tensor) -> Tensor:
    r"""Return True where method a loses fewer percentage points than b,  100 (Y_a - O_a) < 100 (Y_b - O_b).

    Each method has the probabilities of its own class, so Y_a and Y_b may belong to different classes. All arguments
    are tensors (batch,). Returns a tensor (batch,) bool. The canonical `iscam.win` compares O for one class.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cells 14 to 17.
    """
    return 100 * (original_a - explained_a) < 100 * (original_b - explained_b)


def first_point_zero(curves: Curves) -> Curves:
    r"""Return the curves with the score p_0 of the empty canvas set to 0, which reduces the area by p_0 / 2J (J steps).

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:risemetrics_final.py. The canonical `iscam.insertion` computes
    p_0. Deletion does not differ between the two conventions.
    """
    scores = torch.cat([torch.zeros_like(curves.scores[:, :1]), curves.scores[:, 1:]], dim=1)
    return Curves(curves.fraction, scores, torch.trapezoid(scores, curves.fraction))


def marked(saliency_map: Tensor) -> Tensor:
    r"""Return the marked pixels of a map, (height, width) bool on the CPU.

    The map is converted to 8 bits and saved as JPEG. A pixel is marked if its grey value exceeds `THRESHOLD`. The
    canonical energy uses the map itself.

    - `saliency_map` (height, width) in [0, 1].

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cell 11. The description
    specifies neither the rounding nor the JPEG quality. This function truncates and uses Pillow's default quality.
    """
    file = io.BytesIO()
    Image.fromarray((255 * saliency_map.clamp(0, 1)).byte().cpu().numpy()).save(file, "JPEG")
    return torch.from_numpy(np.array(Image.open(file).convert("L"))) > THRESHOLD


def swapped_box(box: Tensor, height: int, width: int) -> Tensor:
    r"""Return the pixels inside the box as coded,  x ≤ row ≤ x + xmax  and  y ≤ column ≤ y + ymax.

    - `box` (4,): x, y, xmax, ymax, the corners of the object in pixels of the *original* image, before resize and crop.

    The far corner is interpreted as width and height, and x as a row number. Returns a mask (height, width) bool. In
    the canonical energy, a pixel is inside if its centre lies in [x, xmax) x [y, ymax) after resize and crop.

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
    """Compute the share of a map's sum, or of the marked pixels, that is inside.

    Both arguments have the shape (height, width). The share is NaN if the sum is 0.
    """
    return float((weight * inside).sum() / weight.sum())


def energy(saliency_map: Tensor, boxes: Tensor) -> float:
    r"""Compute the energy as coded: the share of the marked pixels inside the first box.

    - `saliency_map` (height, width) in [0, 1].
    - `boxes` (n, 4): the corners in pixels of the original image.

    The value is NaN if there is no box or no marked pixel. It differs from `iscam.energy` in three ways: it uses
    `marked` and `swapped_box`, and it ignores all boxes but the first.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cell 11.
    """
    return share(marked(saliency_map), swapped_box(boxes[0], *saliency_map.shape)) if len(boxes) else float("nan")


def box_share(saliency_map: Tensor, boxes: Tensor) -> float:
    """Compute the share of the map's sum inside the first coded box. The share is NaN if there is no box."""
    return share(saliency_map.cpu(), swapped_box(boxes[0], *saliency_map.shape)) if len(boxes) else float("nan")


def both_conventions(
    net: Network, image: Tensor, saliency_map: Tensor, boxes: Tensor, original: Tensor, pixels_per_step: int
) -> Values:
    """Compute every metric of one map for the predicted class, under the canonical and the coded convention.

    - `image` (3, height, width).
    - `saliency_map` (height, width).
    - `boxes` (n, 4): the boxes for `iscam.energy`.
    - `original` (m, 4): the boxes in pixels of the original image.
    - `pixels_per_step`: the step of insertion and deletion.

    Returns a mapping from (metric, convention) to the value, which is a fraction. Each metric has the conventions
    "canonical" and "as coded". The energy also has "mask only" and "box only", each with one of the two parts of the
    coded convention. "Y" and "O" are the probabilities, from which the wins are computed. The drop is that of one
    image; the coded convention sums it over the images.
    """
    images, maps = image[None], saliency_map[None]
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
        ("energy", "mask only"): iscam.energy(marked(saliency_map)[None].float(), [boxes]),
        ("energy", "box only"): box_share(saliency_map, first),
        ("energy", "as coded"): energy(saliency_map, first),
    }
    for convention, (full, masked) in {"canonical": canonical, "as coded": coded}.items():
        values[("Y", convention)], values[("O", convention)] = full, masked
        values[("average_drop", convention)] = iscam.average_drop(full, masked)
        values[("average_increase", convention)] = iscam.average_increase(full, masked)
    return {key: float(value) for key, value in values.items()}
