"""Metrics of localisation, energy and pointing game: how much of a map lies inside boxes or a mask of the object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.metrics.checks import check_map_batch
from iscam.validation import check_choice

#: Maximum side of an image, in pixels, for which boxes in [0, 1] are interpreted as pixel coordinates.
SMALL_IMAGE = 16


def energy(maps: Tensor, boxes: Sequence[Tensor] | Tensor, single: bool = False) -> Tensor:
    r"""Compute the energy-based pointing game: the share of the map inside the boxes,  Σ_{inside} L / Σ L.

    - `maps` (batch, height, width) with finite values >= 0.
    - `boxes`: one tensor (n, 4) per image with the corners xmin, ymin, xmax, ymax in pixels of the map. A pixel is
      inside if its centre lies in [xmin, xmax) x [ymin, ymax) of any box. Masks (batch, height, width) bool are also
      accepted, one per image.
    - `single`: True restricts the metric to images with exactly one box that covers at most half of the pixels. The
      value of every other image is NaN. This needs boxes, not masks.

    Returns a tensor (batch,) in [0, 1], summed in float32 or better; higher is better. The value is 0 for an all-zero
    map. It is NaN if no pixel is inside: the image has no box, its boxes contain no pixel centre, or its mask is empty.
    Exclude NaN values and report their count.

    Raises `InputError` for other shapes, for negative or NaN maps, for a box that is empty or lies outside the image,
    for boxes given as fractions of the image, and for masks with `single=True`.

    Source: Wang et al. 2020 (Score-CAM), arXiv 1910.01279; the IS-CAM paper, section 4.3. The authors' code instead
    counts pixels above a threshold in a box with swapped axes. The Score-CAM paper uses only images with one box of the
    class and an object that covers at most half of the image, as `single=True` does. It does not say whether the half
    refers to the original or to the resized image; here it refers to the map.

    >>> iscam.energy(torch.ones(1, 4, 4), [torch.tensor([[0, 0, 2, 4]])])
    tensor([0.5000])
    """
    check_map_batch(maps)
    if (maps < 0).any():
        raise InputError(f"energy needs maps with values >= 0; the smallest value is {float(maps.min()):.3g}")
    inside = inside_masks(maps, boxes)
    defined = inside.any(2).any(1)
    if check_choice("single", single, (False, True)):
        defined &= has_one_small_box(inside, boxes)
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))  # the sum of a float16 map may overflow
    total = maps.sum((1, 2))
    share = torch.where(total > 0, (maps * inside).sum((1, 2)) / total, 0)
    return torch.where(defined, share, torch.nan)


def has_one_small_box(inside: Tensor, boxes: Sequence[Tensor] | Tensor) -> Tensor:
    """Return True (batch,) for each image with exactly one box that covers at most half of the pixels.

    `inside` are the masks that `inside_masks` returns for the boxes.
    """
    if isinstance(boxes, Tensor) and boxes.dtype == torch.bool:
        raise InputError("single=True needs boxes, not masks: a mask does not tell how many objects there are")
    one = torch.tensor([len(each) == 1 for each in boxes], device=inside.device)
    return one & (2 * inside.sum((1, 2)) <= inside[0].numel())


def pointing_game(maps: Tensor, boxes: Sequence[Tensor] | Tensor) -> Tensor:
    r"""Return True for each map whose maximum is inside the boxes (the pointing game).

    The arguments are those of `energy`, but maps may have negative values. If several maxima are equal, the first in
    row-major order counts.

    Returns a tensor (batch,) bool; a higher share is better. The value is False for an all-zero map. It is also False
    for an image without a pixel inside, where the game is not defined. Exclude such images; the metric of a study
    returns NaN for them.

    Raises the same errors as `energy`, except that negative values are allowed.

    Source: Zhang et al. 2016, arXiv 1608.00507. They also accept a maximum within 15 pixels of the object; here the
    tolerance is 0.

    >>> iscam.pointing_game(torch.eye(4)[None], [torch.tensor([[0, 0, 2, 2]])])
    tensor([True])
    """
    inside = inside_masks(check_map_batch(maps), boxes).flatten(1)
    values = maps.to(torch.promote_types(maps.dtype, torch.float32)).flatten(1)
    first = values.argmax(1, keepdim=True)
    return inside.gather(1, first)[:, 0] & values.any(1)


def inside_masks(maps: Tensor, boxes: Sequence[Tensor] | Tensor) -> Tensor:
    """Return masks (batch, height, width) bool of the pixels inside the boxes. Given masks are returned unchanged.

    Raises `InputError` unless there are boxes or a mask for each map.
    """
    if isinstance(boxes, Tensor) and boxes.dtype == torch.bool:
        if boxes.shape != maps.shape:
            raise InputError(f"masks must have the maps' shape {tuple(maps.shape)}; got {tuple(boxes.shape)}")
        return boxes.to(maps.device)
    if isinstance(boxes, Tensor) and boxes.shape == maps.shape and boxes.shape[2] != 4:
        raise InputError(f"masks must be bool, not {boxes.dtype}; convert them with masks > 0")
    if not isinstance(boxes, Sequence | Tensor) or isinstance(boxes, str):
        raise InputError(
            f"boxes must be a list with one tensor (n, 4) per map, or masks {tuple(maps.shape)} bool; "
            f"got {type(boxes).__name__}"
        )
    if len(boxes) != len(maps):
        raise InputError(f"each map needs its boxes; got {len(maps)} maps and boxes for {len(boxes)} maps")
    height, width = maps.shape[1:]
    return torch.stack([inside_boxes(each, height, width) for each in boxes]).to(maps.device)


def inside_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the mask (height, width) bool of the pixels whose centre lies in any of the boxes (n, 4)."""
    boxes = check_boxes(boxes, height, width)
    xmin, ymin, xmax, ymax = boxes.T[:, :, None, None]  # each (n, 1, 1)
    x, y = torch.arange(width) + 0.5, torch.arange(height)[:, None] + 0.5
    return ((xmin <= x) & (x < xmax) & (ymin <= y) & (y < ymax)).any(0)


def check_boxes(boxes: object, height: int, width: int) -> Tensor:
    """Return the boxes of one image, (n, 4) float32 on the CPU.

    Raises `InputError` for another shape, for a box that is empty or lies outside the image, and for fractions.
    """
    try:
        found = torch.as_tensor(boxes)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"boxes of an image must be a tensor (n, 4) of numbers, or (0, 4) if it has no box; "
            f"got {type(boxes).__name__}"
        ) from error
    if found.ndim != 2 or found.shape[1] != 4 or found.dtype == torch.bool:
        raise InputError(
            f"boxes of an image must be (n, 4): xmin, ymin, xmax, ymax; got {tuple(found.shape)} {found.dtype}"
        )
    xmin, ymin, xmax, ymax = found.float().cpu().T
    if not bool(((xmin < xmax) & (ymin < ymax) & (xmin < width) & (ymin < height) & (xmax > 0) & (ymax > 0)).all()):
        raise InputError(f"a box is empty or lies outside the image of {width}x{height} pixels: {found.tolist()}")
    fractions = len(found) > 0 and found.is_floating_point() and bool(((found >= 0) & (found <= 1)).all())
    if fractions and max(height, width) > SMALL_IMAGE:
        raise InputError(
            f"boxes must be in pixels of the {width}x{height} map; {found.tolist()} look like fractions: "
            "multiply them by width and height"
        )
    return found.float().cpu()
