"""Boxes in pixels of the original image, which the authors' code uses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torchvision import tv_tensors

from iscam.data import Entry
from iscam.errors import InputError
from iscam.menagerie.draw import Drawing
from iscam.transforms import canonical_transform


def original_sizes(folder: str | Path) -> dict[str, tuple[int, int]]:
    """Read the width and height of the original images by name from `original_sizes.csv`.

    Returns an empty dictionary if there is no such file. Raises InputError if the file cannot be read.
    """
    file = Path(folder) / "original_sizes.csv"
    if not file.is_file():
        return {}
    try:
        table = pd.read_csv(file)
        return {row.ImageId: (int(row.width), int(row.height)) for row in table.itertuples(index=False)}
    except (ValueError, AttributeError) as error:
        raise InputError(f"cannot read {file}: the columns ImageId, width and height are required") from error


def original_boxes(entry: Entry, sizes: Mapping[str, tuple[int, int]]) -> tuple[Tensor, tuple[int, int]]:
    """Return the boxes (n, 4) in pixels of the original image, and its width and height.

    `sizes` are the sizes returned by `original_sizes`. An image without an entry in `sizes` is stored at its original
    size. A drawing of the menagerie is itself the original image.
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
    """Apply the canonical resize and crop to boxes (n, 4) of an image of `size` (width, height).

    Returns (m, 4) with m ≤ n, because boxes outside the crop are dropped.
    """
    moved = canonical_transform(tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(size[1], size[0])))
    moved = moved.as_subclass(Tensor).reshape(-1, 4)
    return moved[(moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])]


def disc(radius: float | None, size: int = 224) -> Tensor:
    """Return a map (size, size) that is 1 within `radius` pixels of the centre and 0 elsewhere.

    With `radius=None`, the map is 1 everywhere.
    """
    offset = torch.arange(size) + 0.5 - size / 2
    if radius is None:
        return torch.ones(size, size)
    return (offset**2 + offset[:, None] ** 2 <= radius**2).float()
