"""Images with labels and boxes: the ILSVRC layout, a folder of images, the paper's three, the menagerie."""

from __future__ import annotations

import csv
import random
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from iscam.download import fetch
from iscam.errors import InputError
from iscam.menagerie.draw import SPECIES, Drawing, draw
from iscam.model import canonical_transform
from iscam.validation import check_int

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}

#: Pixels beyond which an image is refused, as stored and as resized: 100 million.
MOST_PIXELS = 100_000_000

#: Figure 2's classes: one image each from a public repository, file name -> (class, sha256).
FIGURE_URL = (
    "https://raw.githubusercontent.com/EliSchwartz/imagenet-sample-images/bc69043e2862758a1906c6a24a792bb28c6bb2ff/"
)
FIGURE_IMAGES = {
    "n02110806_basenji.JPEG": (253, "4f7ffa3989b12b6ba7b11b5bfe24f4ed77638f701700c4f828b8cc96a3c9785e"),
    "n02492035_capuchin.JPEG": (378, "f0a189ffc3fc0bd19d701170fd98375657a845de771cc1b637b24e796b692eaa"),
    "n02091134_whippet.JPEG": (172, "963fa174dbf40a6f31f851061f94ea5c9efab4c863543a1ba571402eb98abaee"),
}


@dataclass(frozen=True, eq=False)
class LabelledImage:
    """One image, ready for a network."""

    name: str
    image: Tensor  # (3, height, width), as the transform gives it
    target: int | None  # the labelled class, where one is known
    boxes: Tensor  # (n, 4) float: xmin, ymin, xmax, ymax of the labelled objects, in the image's pixels
    drawing: Drawing | None = None  # the menagerie's ground truth


@dataclass(frozen=True)
class Entry:
    """Where an image comes from; `read` gives the image as stored and may raise `InputError`."""

    name: str
    read: Callable[[], Image.Image | Drawing]
    target: int | None = None
    boxes: Sequence[Sequence[float]] = ()
    boxes_size: tuple[int, int] | None = None  # width and height of the image that the boxes were drawn on


@dataclass(frozen=True)
class ImageDataset(Sequence[LabelledImage]):
    """A data set: `len()`, iteration and indexing; an image is read when it is asked for.

    `skipped` counts the entries of the list that have no image.
    """

    entries: Sequence[Entry]
    transform: Callable[..., Any]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ImageDataset(self.entries[index], self.transform)
        return prepared(self.entries[index], self.transform)


def load_images(
    source: str | Path, count: int | None = None, seed: int = 0, transform: Callable[..., Any] | None = None
) -> ImageDataset:
    r"""Images with targets and boxes, read one by one when they are asked for.

    `source`: "menagerie" (drawings; 1,000 where `count` is None), "figures" (the Basenji, Capuchin and Whippet of the
    papers' Figure 2, downloaded once), the folder that holds `LOC_val_solution.csv` and `ILSVRC/`, or the one that
    holds `ILSVRC/Annotations` (XML), a folder of images, or one image. `count`: at most so many, chosen by `seed`,
    in the order of the source; None: all. `transform`: a `torchvision.transforms.v2` transform, through which the
    boxes are carried (None: short side to 224, centre crop, ImageNet mean and standard deviation); with any other
    callable from a PIL image to a tensor the items have no boxes.

    Each item has `.name`, `.image` (3, height, width) float32, `.target` (int, None where unlabelled), `.boxes` (n, 4)
    in the image's pixels (those cropped away are gone) and, from the menagerie, `.drawing`.

    Raises `InputError` for a source that is missing or unreadable; a bad image raises it when it is asked for. Rows
    of a list without an image are skipped and counted in `.skipped`.

    >>> dataset = iscam.load_images("menagerie", count=2, seed=0)
    >>> [(item.name, tuple(item.image.shape), tuple(item.boxes.shape)) for item in dataset][0]
    ('African Wild Dog-0', (3, 224, 224), (1, 4))
    """
    if not isinstance(source, str | Path):
        raise InputError(f"source must be a name or a path, not {type(source).__name__}")
    if count is not None:
        count = check_int("count", count)
    entries, skipped = listed(source, count, check_int("seed", seed, minimum=0))
    if not entries:
        raise InputError(f"no images in {source}")
    if skipped:
        warnings.warn(f"{skipped} entries of the list in {source} have no image and were skipped", stacklevel=2)
    if count is not None and count < len(entries):
        chosen = sorted(random.Random(seed).sample(range(len(entries)), count))
        entries = [entries[i] for i in chosen]
    return ImageDataset(entries, transform or canonical_transform, skipped)


def listed(source: str | Path, count: int | None, seed: int) -> tuple[Sequence[Entry], int]:
    """All entries of a source, and how many of its list have no image."""
    if source == "menagerie":
        return [menagerie_entry(seed, i) for i in range(count or 1000)], 0
    if source == "figures":
        return [figure_entry(name, *known) for name, known in FIGURE_IMAGES.items()], 0
    folder = Path(source)
    if (folder / "LOC_val_solution.csv").is_file():
        return with_images(folder, competition_labels(folder))
    if (folder / "ILSVRC/Annotations/CLS-LOC/val").is_dir():
        return with_images(folder, xml_labels(folder))
    if folder.is_dir():
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
        return [Entry(file.name, partial(read_image, file, upright=True)) for file in files], 0
    if folder.is_file():
        return [Entry(folder.name, partial(read_image, folder, upright=True))], 0
    raise InputError(
        f"no images at {source}; give 'menagerie', 'figures', an image, a folder of images, or the folder that "
        f"holds LOC_val_solution.csv"
    )


def menagerie_entry(seed: int, index: int) -> Entry:
    """Drawing number `index` of the set `seed`: each ten of them hold each species once, in an order of their own."""
    order = np.random.default_rng((seed, index // len(SPECIES))).permutation(len(SPECIES))
    target = int(order[index % len(SPECIES)])
    drawing_seed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
    return Entry(f"{SPECIES[target]}-{index}", lambda: draw(SPECIES[target], drawing_seed), target)


def figure_entry(name: str, target: int, sha256: str) -> Entry:
    return Entry(name, lambda: read_image(fetch(FIGURE_URL + name, sha256)), target)


def competition_labels(folder: Path) -> Iterator[Entry]:
    """Rows `ImageId,PredictionString`, `wnid xmin ymin xmax ymax` repeated; boxes in the stored image's pixels."""
    table = folder / "LOC_val_solution.csv"
    classes = synsets(folder)
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (csv.Error, ValueError, OSError) as error:
        raise InputError(f"cannot read {table}: {error}") from error
    if not {"ImageId", "PredictionString"} <= columns:
        raise InputError(f"cannot read {table}: it needs the columns ImageId and PredictionString")
    for line, row in rows:
        try:
            if not row["ImageId"] or None in row:
                raise ValueError("it needs as many fields as the first line")
            words = row["PredictionString"].split()
            target = classes[words[0]]
            objects = [words[i : i + 5] for i in range(0, len(words), 5)]
            boxes = [[float(x) for x in corners] for wnid, *corners in objects if wnid == words[0]]
            if not all(len(box) == 4 for box in boxes):
                raise ValueError("a box needs four numbers")
        except (AttributeError, IndexError, KeyError, ValueError) as error:
            raise InputError(f"{table}, line {line}: not 'id,wnid xmin ymin xmax ymax ...' ({error})") from error
        yield stored_entry(folder, row["ImageId"], target, boxes)


def xml_labels(folder: Path) -> Iterator[Entry]:
    """ILSVRC's own XML annotations, boxes in the pixels of the annotated image's size."""
    files = sorted((folder / "ILSVRC/Annotations/CLS-LOC/val").glob("*.xml"))
    parsed = []
    for file in files:
        try:
            root = ElementTree.parse(file).getroot()
            wnids = [item.findtext("name", "") for item in root.iter("object")]
            corners = [[float(item.findtext(f"bndbox/{key}", "")) for key in BOX] for item in root.iter("object")]
            size = (int(root.findtext("size/width", "")), int(root.findtext("size/height", "")))
            boxes = [box for wnid, box in zip(wnids, corners, strict=True) if wnid == wnids[0]]
            if min(size) < 1:
                raise ValueError(f"an image of {size[0]}x{size[1]} pixels")
            parsed.append((file.stem, wnids[0], boxes, size))
        except (ElementTree.ParseError, ValueError, IndexError) as error:
            raise InputError(f"cannot read the annotation {file}: {error}") from error
    classes = synsets(folder, {wnid for _, wnid, _, _ in parsed})
    for name, wnid, boxes, size in parsed:
        if wnid not in classes:
            raise InputError(f"annotation {name}.xml has the unknown class {wnid}")
        yield stored_entry(folder, name, classes[wnid], boxes, size)


BOX = ("xmin", "ymin", "xmax", "ymax")


def stored_entry(
    folder: Path, name: str, target: int, boxes: Sequence[Sequence[float]], boxes_size: tuple[int, int] | None = None
) -> Entry:
    file = folder / "ILSVRC/Data/CLS-LOC/val" / f"{name}.JPEG"
    return Entry(file.name, partial(read_image, file), target, boxes, boxes_size)


def synsets(folder: Path, seen: set[str] = frozenset()) -> dict[str, int]:  # type: ignore[assignment]
    """WordNet id -> class number: line i of LOC_synset_mapping.txt, or the sorted ids where all 1,000 are seen."""
    file = folder / "LOC_synset_mapping.txt"
    if file.is_file():
        return {line.split()[0]: i for i, line in enumerate(file.read_text().splitlines()) if line.strip()}
    if len(seen) == 1000:
        return {wnid: i for i, wnid in enumerate(sorted(seen))}
    raise InputError(f"{file} is missing: it gives the order of the classes, one 'wnid name' a line")


def with_images(folder: Path, entries: Iterator[Entry]) -> tuple[list[Entry], int]:
    """The entries whose image is there, and the number of the others."""
    there = {file.name for file in (folder / "ILSVRC/Data/CLS-LOC/val").glob("*")}
    everything = list(entries)
    found = [entry for entry in everything if entry.name in there]
    return found, len(everything) - len(found)


def read_image(path: Path, upright: bool = False) -> Image.Image:
    """An RGB image from any file that Pillow reads; 16 bits are scaled to 8, transparency is laid on white.

    `upright` follows the camera's note on how it was held. Raises `InputError` for a file that is missing, unreadable
    or truncated, and for more than 100 million pixels, stored or once resized.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit follows
            opened = Image.open(path)
        with opened as image:
            width, height = image.size
            long, short = max(width, height), min(width, height)
            if width * height > MOST_PIXELS or 224 * 224 * long / short > MOST_PIXELS:
                raise InputError(f"{path} is {width}x{height}: more than {MOST_PIXELS:,} pixels, stored or resized")
            image.load()
            return rgb(ImageOps.exif_transpose(image) if upright else image)
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        reason = "no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {error}"
        raise InputError(f"cannot read the image {path}: {reason}") from error


def rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 or 32 bits a pixel
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("it has pixels that are NaN or infinite")
        if image.mode.startswith("I;16") or values.max() > 255:
            full = 65535
        else:
            full = 1 if image.mode == "F" and values.max() <= 1 else 255
        image = Image.fromarray((values.clip(0, full) * (255 / full)).round().astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def prepared(entry: Entry, transform: Callable[..., Any]) -> LabelledImage:
    """Read an entry's image and carry it and its boxes through the transform."""
    stored = entry.read()
    drawing = stored if isinstance(stored, Drawing) else None
    pil_image = stored if isinstance(stored, Image.Image) else Image.fromarray(stored.image)
    boxes = torch.tensor([drawing.box] if drawing else [*entry.boxes], dtype=torch.float32).reshape(-1, 4)
    if not isinstance(transform, v2.Transform):
        return LabelledImage(entry.name, transform(pil_image), entry.target, torch.empty(0, 4), drawing)
    width, height = pil_image.size
    if entry.boxes_size:
        boxes = boxes * torch.tensor([width / entry.boxes_size[0], height / entry.boxes_size[1]] * 2)
    xmin, ymin, xmax, ymax = boxes.T
    if not ((xmin < xmax) & (ymin < ymax) & (xmin < width) & (ymin < height) & (xmax > 0) & (ymax > 0)).all():
        raise InputError(f"{entry.name}: a box is empty or outside the image of {width}x{height}: {boxes.tolist()}")
    image, moved = transform(pil_image, tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width)))
    moved = moved.as_subclass(Tensor)
    moved = moved.reshape(-1, 4)
    seen = (moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1])
    return LabelledImage(entry.name, image.as_subclass(Tensor), entry.target, moved[seen], drawing)
