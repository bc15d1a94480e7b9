r"""The recipe that the IS-CAM authors' notebook runs, kept apart from the right one.

It exists to explain the published tables, never to make claims: nothing else in the package uses it. It was written
again from a description of two public files, `Resnet18_trial_visualize.ipynb` and `risemetrics_final.py` of
`ankitaghosh9/Variations-on-Score-CAM@451c147` (17 September 2020, shortly before the paper); that these files, with
these settings, made the tables is an inference. Where the description leaves a choice open, the docstring says so.

Throughout, X is the picture, L its map in [0, 1], Y and O are class probabilities of X and of X ∘ L.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from iscam.activations import View, observe
from iscam.data import Entry
from iscam.errors import InputError, at_least_zero, one_of, positive
from iscam.explain import checked_images, weighted_map
from iscam.menagerie.draw import Drawing
from iscam.methods.gradient import gradient, plus_plus_weights
from iscam.methods.score import is_cam, ss_cam
from iscam.metrics import faithfulness, localisation
from iscam.metrics.faithfulness import Curves, checked_maps, seen_through
from iscam.network import Network, canonical_transform
from iscam.noise import noise

#: A map's pixel is marked if its grey value, of 0 to 255, is larger.
THRESHOLD = 50

#: Pictures over which the notebook's visible run sums the drop (rows 400 to 499 of the authors' list).
SLICE = 100

#: The largest exponent kept of exp(S): float32 ends at e^88.
LARGEST_EXPONENT = 80.0

#: A picture of the notebook's saved output, its probabilities in percent: the whole picture's top class and Y, the
#: masked picture's top class, and that class's Y and O.
#: Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, output of cell 14.
SAVED_EXAMPLE = {"whole class": 773, "whole Y": 61.65, "masked class": 899, "masked Y": 11.24, "masked O": 39.72}

#: One value of one map: what was measured, by which convention.
Values = dict[tuple[str, str], float]

# ------------------------------------------------------------------------------------------------------------- methods


def smooth_grad_cam_pp(view: View, *, samples: int = 35, std: float = 4.0, seed: int = 0) -> Tensor:
    r"""Smooth Grad-CAM++ as coded:  α_k = Σ_ij a_kij ReLU(exp(S_N) g_kij).

    a = ḡ² / (2 ḡ² + Σ_ab A_kab ḡ³), ḡ² and ḡ³ the means of g² and g³ over noisy copies X + ε_n, each for the copy's own
    largest logit; g and A (K, h, w) are the clean picture's, S_N is the largest logit of the last noisy copy. ε_n has
    standard deviation `std` in normalised space.

    Returns weights (K,). The canonical method scales the noise by the picture's range (0.15 of it), keeps the clean
    picture's class in every copy and averages g as well. exp(S_N) is a factor common to all channels that the map's
    min-max removes; its exponent is kept below `LARGEST_EXPONENT`, so that float32 does not overflow.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, SmoothGradCAMpp.
    """
    samples, std = positive("samples", samples), at_least_zero("std", std)
    g = gradient(view)
    g2, g3 = torch.zeros_like(g), torch.zeros_like(g)
    for n in range(samples):
        noisy = observe(view.net, view.image + std * noise(view.image, seed, n))
        g_n = gradient(noisy)
        g2, g3 = g2 + g_n**2 / samples, g3 + g_n**3 / samples
    factor = noisy.logits.max().detach().clamp(max=LARGEST_EXPONENT).exp()
    return plus_plus_weights(view.activations.detach(), factor * g, g2, g3)


#: The methods whose settings differ from the canonical ones: 10 steps of IS-CAM (the paper's tables say 15), 35 noisy
#: copies of SS-CAM (15), and the Smooth Grad-CAM++ above.
#: Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb.
METHODS: dict[str, Callable[[View], Tensor]] = {
    "smooth_grad_cam_pp": smooth_grad_cam_pp,
    "ss_cam": partial(ss_cam, samples=35),
    "is_cam": partial(is_cam, steps=10),
}


def explain(net: Network, images: Tensor, method: str) -> Tensor:
    """Maps (batch, height, width) in [0, 1] of a method in `METHODS`, for the class predicted on the whole picture.

    Differs from `iscam.explain` by the method's settings alone.
    """
    if method not in METHODS:
        raise one_of("method whose settings differ:", method, METHODS)
    views = [observe(net, image) for image in checked_images(net, images)]
    maps = [weighted_map(METHODS[method](view), view.activations.detach(), view.image.shape[1:]) for view in views]
    return torch.stack(maps)


# ------------------------------------------------------------------------------------------------------------- metrics


class Confidence(NamedTuple):
    """Probabilities of the class that the masked picture is given, each (batch,)."""

    classes: Tensor
    original: Tensor  # Y, of the whole picture
    explained: Tensor  # O, of the masked picture


def confidence(net: Network, images: Tensor, maps: Tensor) -> Confidence:
    r"""Y = C_m(X) and O = C_m(X ∘ L) for m = argmax_c S_c(X ∘ L), the top class of the masked picture.

    images (batch, 3, height, width), maps (batch, height, width). The canonical `iscam.confidence` asks for the
    explained class. Where the mask changes the network's mind, this one compares the probabilities of another class,
    for which O is the largest of all. Against the canonical pair of the predicted class, whose Y is the largest of all,
    it can only lower the drop and raise the increase.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cells 14 to 17.
    """
    images, maps = checked_images(net, images), checked_maps(images, maps)
    pairs = list(zip(images, maps, strict=True))
    classes = torch.stack([net((image * map)[None]).argmax() for image, map in pairs])
    triples = [(image, map, int(m)) for (image, map), m in zip(pairs, classes, strict=True)]
    original = [seen_through(net, image, torch.ones_like(map), m) for image, map, m in triples]
    explained = [seen_through(net, image, map, m) for image, map, m in triples]
    return Confidence(classes, torch.cat(original), torch.cat(explained))


def average_drop(original: Tensor, explained: Tensor) -> Tensor:
    r"""Σ_i max(0, Y_i - O_i) / Y_i, a sum over the pictures that nothing divides.

    original Y and explained O (batch,). Returns one number, of at most the number of pictures, which the notebook
    multiplies by 100 and prints. The canonical Average Drop is the mean, `iscam.average_drop(...).mean()`.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cells 14 to 17; the paper's
    formula has no 1/N either. The notebook does divide the increase and the wins.

    >>> average_drop(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.0]))
    tensor(1.5000)
    """
    return faithfulness.average_drop(original, explained).sum()


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

    box (4,): x, y, xmax, ymax, the corners of the object in the *original* picture's pixels, whatever was resized and
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

    map (height, width) in [0, 1]; boxes (n, 4) corners in the original picture's pixels. NaN without a box or without
    a marked pixel. Differs from `iscam.energy` by `marked`, by `swapped_box`, and by taking the first box alone.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb, cell 11.
    """
    return share(marked(map), swapped_box(boxes[0], *map.shape)) if len(boxes) else float("nan")


def both_ways(
    net: Network, image: Tensor, map: Tensor, boxes: Tensor, original: Tensor, pixels_per_step: int
) -> Values:
    """Every metric of one map for the predicted class, by the canonical and by the coded convention.

    image (3, height, width), map (height, width), boxes (n, 4) as `iscam.energy` takes them, `original` (m, 4) the
    boxes in the original picture's pixels. Returns (metric, convention) -> value, all fractions: "canonical" and
    "as coded" for each metric, "mask only" and "box only" for half of the coded energy, and for the wins "Y" and "O".
    The drop is of one picture: the coded convention sums it (`average_drop`), which a table must say.
    """
    images, maps = image[None], map[None]
    target = net(images).argmax(1)
    canonical, coded = faithfulness.confidence(net, images, maps, target), confidence(net, images, maps)[1:]
    appearing = faithfulness.insertion(net, images, maps, target, pixels_per_step)
    vanishing = faithfulness.deletion(net, images, maps, target, pixels_per_step)
    first = original[:1]
    values: dict[tuple[str, str], Any] = {
        ("insertion", "canonical"): appearing.auc,
        ("insertion", "as coded"): first_point_zero(appearing).auc,
        ("deletion", "canonical"): vanishing.auc,
        ("deletion", "as coded"): vanishing.auc,
        ("energy", "canonical"): localisation.energy(maps, [boxes]),
        ("energy", "mask only"): localisation.energy(marked(map)[None].float(), [boxes]),
        ("energy", "box only"): share(map.cpu(), swapped_box(first[0], *map.shape)) if len(first) else float("nan"),
        ("energy", "as coded"): energy(map, first),
    }
    for convention, (whole, masked) in {"canonical": canonical, "as coded": coded}.items():
        values[("Y", convention)], values[("O", convention)] = whole, masked
        values[("average_drop", convention)] = faithfulness.average_drop(whole, masked)
        values[("average_increase", convention)] = faithfulness.average_increase(whole, masked)
    return {key: float(value) for key, value in values.items()}


# --------------------------------------------------------------------------------------------------------------- boxes


def original_sizes(folder: str | Path) -> dict[str, tuple[int, int]]:
    """Width and height of pictures before they were stored, by name, from `original_sizes.csv`; empty without one."""
    file = Path(folder) / "original_sizes.csv"
    if not file.is_file():
        return {}
    try:
        table = pd.read_csv(file)
        return {row.ImageId: (int(row.width), int(row.height)) for row in table.itertuples(index=False)}
    except (ValueError, AttributeError) as error:
        raise InputError(f"cannot read {file}: it needs the columns ImageId, width and height") from error


def original_boxes(entry: Entry, sizes: Mapping[str, tuple[int, int]]) -> tuple[Tensor, tuple[int, int]]:
    """Boxes (n, 4) in the original picture's pixels, and its width and height.

    `sizes` as `original_sizes` gives them; a picture that is not there was stored at its original size. A drawing of
    the menagerie is its own original.
    """
    stored = entry.read()
    if isinstance(stored, Drawing):
        height, width = stored.mask.shape
        return torch.tensor([stored.box], dtype=torch.float32), (width, height)
    drawn_on = entry.boxes_size or stored.size
    original = sizes.get(Path(entry.name).stem, drawn_on)
    scale = torch.tensor([original[0] / drawn_on[0], original[1] / drawn_on[1]] * 2)
    return torch.tensor([*entry.boxes], dtype=torch.float32).reshape(-1, 4) * scale, original


def cropped_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes (n, 4) of a picture of (width, height), carried through the canonical resize and crop; (m, 4), m ≤ n."""
    moved = canonical_transform(tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(size[1], size[0])))
    moved = moved.as_subclass(Tensor).reshape(-1, 4)
    return moved[(moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])]


def disc(radius: float | None, size: int = 224) -> Tensor:
    """A map (size, size) of ones within `radius` pixels of the centre and zeros elsewhere; None: ones everywhere."""
    offset = torch.arange(size) + 0.5 - size / 2
    if radius is None:
        return torch.ones(size, size)
    return (offset**2 + offset[:, None] ** 2 <= radius**2).float()


# --------------------------------------------------------------------------------------------------- published numbers


def bound(table: pd.DataFrame) -> pd.DataFrame:
    r"""What drop + increase ≤ 100 % says of published cells, one row a network and method.

    If both average over the same pictures and O ≥ 0, a published drop D and increase I in percent obey D + I ≤ 100. A
    cell that breaks this needs D divided by at least D / (100 - I).

    `table` as `iscam.published("table2")`. Returns model, method, drop, increase, sum, `excess` over 100 (0 if none),
    and `factor`, the smallest that would do (1 where the bound holds).
    """
    cells = table.pivot(index=["model", "method"], columns="metric", values="value")
    cells = cells.loc[list(dict.fromkeys(zip(table["model"], table["method"], strict=True)))].reset_index()
    drop, increase = cells["average_drop"], cells["average_increase"]
    return pd.DataFrame(
        {
            "model": cells["model"],
            "method": cells["method"],
            "drop": drop,
            "increase": increase,
            "sum": drop + increase,
            "excess": (drop + increase - 100).clip(lower=0),
            "factor": (drop / (100 - increase)).clip(lower=1),
        }
    )


def readings(steps: int) -> dict[str, list[float]]:
    r"""The coefficients t_i of X ∘ H_k in the scored inputs, i = 1..N, for each reading of equations 6 and 7.

    Equation 7 is M_{i+1} = M_i + (X ∘ H_k) i/N with M_0 = 0. "cumulative", i(i+1)/2N, is what the authors' notebook
    runs (`steps` = 10) and what `is_cam` does; "strict", i(i-1)/2N, starts the sum at i = 0, as the equation is
    printed, so that its first input is empty; "linear", i/N, does not accumulate; "last" scores the final input alone.

    Source: ankitaghosh9/Variations-on-Score-CAM@451c147:Resnet18_trial_visualize.ipynb (cumulative);
    r0cketr1kky/ISS-CAM_resources@0d2da72:algo.py (linear) and @e3e844b:algo.py (last); frgfm/torch-cam issue 154
    (strict).

    >>> readings(2)
    {'cumulative': [0.5, 1.5], 'strict': [0.0, 0.5], 'linear': [0.5, 1.0], 'last': [1.5]}
    """
    i = range(1, positive("steps", steps) + 1)
    cumulative = [j * (j + 1) / (2 * steps) for j in i]
    strict = [j * (j - 1) / (2 * steps) for j in i]
    return {"cumulative": cumulative, "strict": strict, "linear": [j / steps for j in i], "last": cumulative[-1:]}
