"""Image files and data sets in ILSVRC's layout, written for a test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

VAL = Path("ILSVRC/Data/CLS-LOC/val")
ANNOTATIONS = Path("ILSVRC/Annotations/CLS-LOC/val")


def write(path: Path, image: Image.Image, **options) -> Path:
    """Write an image, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    """An RGB image whose red grows to the right and whose green grows downwards."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 0 * x + 90], 2).round().astype(np.uint8))


def competition(folder: Path, rows: dict[str, str], sizes: dict[str, tuple[int, int]]) -> Path:
    """Write a data set with the table `rows` (image -> objects) and the images of `sizes` (name -> (width, height))."""
    folder.mkdir(exist_ok=True)
    (folder / "LOC_synset_mapping.txt").write_text("n01 tench, Tinca tinca\nn02 goldfish\nn03 great white shark\n")
    lines = [f"{name},{objects}" for name, objects in rows.items()]
    (folder / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines, ""]))
    for name, size in sizes.items():
        write(folder / VAL / f"{name}.JPEG", gradient(*size))
    return folder


def annotation(folder: Path, name: str, wnid: str, size: tuple[int, int], boxes: list[list[float]]) -> Path:
    """Add an XML annotation to a data set, in place of the table."""
    (folder / "LOC_val_solution.csv").unlink(missing_ok=True)
    objects = "".join(
        f"<object><name>{wnid}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for a, b, c, d in boxes
    )
    file = folder / ANNOTATIONS / f"{name}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )
    return file


@contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """Run the block in a folder outside root's own, without root's right to read everything."""
    with tempfile.TemporaryDirectory() as name:
        folder, user = Path(name), os.geteuid()
        folder.chmod(0o777)
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o777)


def carried(width: int, height: int, box: list[float]) -> list[float]:
    """A box of an image after the default transform: short side to 224 (long side rounded down), centre crop."""
    short = min(width, height)
    size = int(224 * width / short), int(224 * height / short)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    x = [min(max(each * size[0] / width - left, 0), 224) for each in box[::2]]
    y = [min(max(each * size[1] / height - top, 0), 224) for each in box[1::2]]
    return [x[0], y[0], x[1], y[1]]
