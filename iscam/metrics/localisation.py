"""How much of a map lies on the object: energy in boxes and masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.menagerie.draw import Drawing


def energy(maps: Tensor, boxes: Sequence[Tensor]) -> Tensor:
    r"""Energy-based pointing game: the share of the map inside the boxes,  Σ_{inside} L / Σ L; high is good.

    maps (batch, height, width) of values >= 0; boxes: for each image (n, 4) corners xmin, ymin, xmax, ymax in its
    pixels. A pixel is inside if its centre lies in [xmin, xmax) x [ymin, ymax) of any box. Returns (batch,) in [0, 1]:
    0 for an all-zero map, NaN for an image without boxes (leave it out and count it).

    Raises `InputError` for shapes that will not do and for an empty box or one that lies outside the image.

    Source: Wang et al. 2020, arXiv 1910.01279; the IS-CAM paper, section 4.3. Its authors' code counts pixels above a
    threshold in a box with swapped axes instead.

    >>> iscam.energy(torch.ones(1, 4, 4), [torch.tensor([[0, 0, 2, 4]])])
    tensor([0.5000])
    """
    if not isinstance(maps, Tensor) or maps.ndim != 3 or len(maps) != len(boxes):
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"energy needs maps (batch, height, width) and boxes for each; got {found}, {len(boxes)}")
    if not (maps >= 0).all() or not maps.isfinite().all():
        raise InputError("energy needs maps of finite values of at least 0")
    inside = torch.stack([inside_boxes(box, *maps.shape[1:]) for box in boxes]).to(maps.device)
    share = (maps * inside).sum((1, 2)) / maps.sum((1, 2))
    share = torch.where(maps.sum((1, 2)) > 0, share, 0)
    without = torch.tensor([len(box) == 0 for box in boxes], device=maps.device)
    return torch.where(without, torch.nan, share)


def inside_boxes(boxes: Tensor, height: int, width: int) -> Tensor:
    """The pixels (height, width) whose centre lies in any of the boxes (n, 4)."""
    boxes = torch.as_tensor(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise InputError(f"boxes must be (n, 4): xmin, ymin, xmax, ymax; got {tuple(boxes.shape)}")
    xmin, ymin, xmax, ymax = boxes.float().cpu().T[:, :, None, None]  # each (n, 1, 1)
    if not bool(((xmin < xmax) & (ymin < ymax) & (xmin < width) & (ymin < height) & (xmax > 0) & (ymax > 0)).all()):
        raise InputError(f"a box is empty or lies outside the image of {width}x{height} pixels: {boxes.tolist()}")
    x, y = torch.arange(width) + 0.5, torch.arange(height)[:, None] + 0.5
    return ((xmin <= x) & (x < xmax) & (ymin <= y) & (y < ymax)).any(0)


def mask_energy(maps: Tensor, drawings: Sequence[Drawing]) -> Tensor:
    r"""The share of the map on the animal,  Σ_{animal} L / Σ L;  0 for an all-zero map.

    `energy` with the animal's exact outline in place of a box. maps (batch, height, width), drawings of that size.
    Returns (batch,) in [0, 1]; high is good.
    """
    animals = torch.stack([torch.from_numpy(drawing.mask) for drawing in drawings]).to(maps.device)
    total = maps.sum((1, 2))
    return torch.where(total > 0, (maps * animals).sum((1, 2)) / total, 0)
