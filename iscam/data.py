"""Images with labels, boxes and masks, from the menagerie, ILSVRC, a folder, or Figure 2 of the papers."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from iscam.download import fetch
from iscam.errors import DEVICE_ERRORS, InputError, IscamError
from iscam.ilsvrc import IMAGES, labelled_files
from iscam.image_files import list_image_files, read_image
from iscam.menagerie.draw import SPECIES, Drawing, draw
from iscam.transforms import as_v2, canonical_transform
from iscam.validation import check_int, printable

#: Maximum number of drawings in one data set.
MAX_DRAWINGS = 1_000_000

#: One image of each class of Figure 2, from a public repository. `FIGURE_IMAGES` maps file names to (class, sha256).
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
    """One image after the transform, with its label and the boxes and mask of its objects."""

    name: str
    image: Tensor  # (3, height, width)
    target: int | None  # the labelled class, None if unknown
    boxes: Tensor  # (n, 4) float: xmin, ymin, xmax, ymax of the labelled objects, in pixels of `image`
    mask: Tensor | None = None  # (height, width) bool: the labelled object's pixels
    drawing: Drawing | None = None  # the menagerie's ground truth


@dataclass(frozen=True)
class Entry:
    """One image before it is read. `read` and `read_mask` may raise InputError."""

    name: str
    read: Callable[[], Image.Image | Drawing]
    target: int | None = None
    boxes: Sequence[Sequence[float]] = ()
    boxes_size: tuple[int, int] | None = None  # width and height that the boxes refer to; None for the image's size
    read_mask: Callable[[], np.ndarray] | None = None  # returns (height, width) bool, the size of the image


@dataclass(frozen=True)
class MenagerieEntries(Sequence[Entry]):
    """The entries of the drawings `indices` of the set `seed`. Each entry is created when it is accessed."""

    seed: int
    indices: range

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return MenagerieEntries(self.seed, self.indices[index])
        return menagerie_entry(self.seed, self.indices[index])


@dataclass(frozen=True)
class ImageDataset(Sequence[LabelledImage]):
    """A data set with `len()`, iteration and indexing. It reads an image on each access.

    A slice is also a data set. `skipped` is the number of listed images that do not exist.
    """

    entries: Sequence[Entry]
    transform: Callable[..., Any]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return ImageDataset(self.entries[index], self.transform)
        return prepare(self.entries[index], self.transform)


def load_images(
    source: str | Path, count: int | None = None, seed: int = 0, transform: Callable[..., Any] | None = None
) -> ImageDataset:
    r"""List images with targets, boxes and masks. Each image is read when it is accessed.

    - `source`: "menagerie" (drawings; 1,000 if `count` is None), "figures" (the Basenji, Capuchin and Whippet of the
      papers' Figure 2, downloaded once), a folder with `LOC_val_solution.csv` and `ILSVRC/`, a folder with
      `ILSVRC/Annotations` (XML), a folder of images, or one image.
    - `count`: the maximum number of images, or None for all images. The images are chosen at random and stay in the
      order of the source. `seed` determines the choice.
    - `transform`: a function from a PIL image to a tensor (3, height, width). None resizes the short side to 224, crops
      the centre, and normalises with ImageNet's mean and standard deviation.

    Each item has `.name`, `.image` (3, height, width) float32, `.target` (int, or None if unlabelled), `.boxes` (n, 4)
    in pixels of `.image`, `.mask` (height, width) bool (None if the source has no masks) and `.drawing` (menagerie
    only).

    Boxes and masks are transformed together with the image by the transforms of `torchvision.transforms.v2` (except
    `Lambda`), of torchvision's weights and of timm. With other callables, `.boxes` is empty and `.mask` is None. A box
    is dropped if it contains no pixel centre after the transform, because it was cropped away or is thinner than a
    pixel. `energy` of an image without boxes is NaN. Masks are resized with nearest-neighbour interpolation.

    Warns about files in formats that cannot be read and about listed images that do not exist (counted in `.skipped`).

    Raises InputError if the source is missing or unreadable, or if its labels are invalid. A bad image or transform
    raises InputError when the image is accessed. A file that is not in the cache and cannot be downloaded raises
    DownloadError.

    >>> dataset = iscam.load_images("menagerie", count=2, seed=0)
    >>> [(item.name, tuple(item.image.shape), tuple(item.boxes.shape)) for item in dataset][0]
    ('Common Marmoset-0', (3, 224, 224), (1, 4))
    """
    if not isinstance(source, str | Path) or source == "":
        found = "''" if source == "" else type(source).__name__
        raise InputError(f"source must be a name or a path, not {found}")
    if transform is not None and not callable(transform):
        raise InputError(f"transform must be a callable from a PIL image to a tensor, not {type(transform).__name__}")
    count = None if count is None else check_int("count", count)
    seed = check_int("seed", seed, minimum=0)
    try:
        entries, skipped = list_entries(source, count, seed)
    except (OSError, ValueError) as error:
        if isinstance(error, IscamError):
            raise
        problem = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {printable(source)}: {problem}") from error
    if not entries:
        raise InputError(f"no images in {printable(source)}")
    if skipped:
        warnings.warn(f"images listed in {printable(source)} that do not exist are skipped: {skipped}", stacklevel=2)
    if count is not None and count < len(entries):
        chosen = sorted(random.Random(seed).sample(range(len(entries)), count))
        entries = [entries[i] for i in chosen]
    return ImageDataset(entries, transform or canonical_transform, skipped)


def list_entries(source: str | Path, count: int | None, seed: int) -> tuple[Sequence[Entry], int]:
    """Return all entries of a source, and the number of listed images that do not exist."""
    if source == "menagerie":
        return menagerie_entries(1000 if count is None else count, seed), 0
    if source == "figures":
        return [figure_entry(name, *known) for name, known in FIGURE_IMAGES.items()], 0
    path = Path(source)
    if (labelled := labelled_files(path)) is not None:
        existing = {file.name for file in (path / IMAGES).iterdir()} if (path / IMAGES).is_dir() else set()
        found = [
            Entry(file.path.name, partial(read_image, file.path), file.target, file.boxes, file.boxes_size)
            for file in labelled
            if file.path.name in existing
        ]
        return found, len(labelled) - len(found)
    if path.is_dir():
        return folder_entries(path), 0
    if path.is_file():
        return [image_entry(path)], 0
    raise InputError(
        f"no images at {printable(source)}; valid sources: 'menagerie', 'figures', an image, a folder of images, or a "
        f"folder with LOC_val_solution.csv"
    )


def menagerie_entries(count: int, seed: int) -> MenagerieEntries:
    if count > MAX_DRAWINGS:
        raise InputError(f"count must be at most {MAX_DRAWINGS:,} for 'menagerie', not {count}")
    return MenagerieEntries(seed, range(count))


def menagerie_entry(seed: int, index: int) -> Entry:
    """Return the entry of drawing number `index` of the set `seed`.

    Each group of as many consecutive drawings as there are species shows each species once, in random order.
    """
    order = np.random.default_rng((seed, index // len(SPECIES))).permutation(len(SPECIES))
    target = int(order[index % len(SPECIES)])
    drawing_seed = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
    return Entry(f"{SPECIES[target]}-{index}", partial(draw, SPECIES[target], drawing_seed), target)


def figure_entry(name: str, target: int, sha256: str) -> Entry:
    return Entry(name, lambda: read_image(fetch(FIGURE_URL + name, sha256)), target)


def folder_entries(folder: Path) -> list[Entry]:
    """Return the images of a folder, sorted by name. Warns about image files in formats that cannot be read."""
    supported, unsupported = list_image_files(folder)
    if unsupported:
        names = ", ".join(printable(file.name) for file in unsupported[:5]) + (", ..." if len(unsupported) > 5 else "")
        found = f"files in {printable(folder)} whose format cannot be read"
        if not supported:
            raise InputError(f"no readable images, but {len(unsupported)} {found}: {names}")
        warnings.warn(f"skipped {found} ({len(unsupported)}): {names}", stacklevel=4)
    return [image_entry(file) for file in supported]


def image_entry(file: Path) -> Entry:
    return Entry(file.name, partial(read_image, file, upright=True))


def prepare(entry: Entry, transform: Callable[..., Any]) -> LabelledImage:
    """Read the image of an entry, and transform it together with its boxes and mask."""
    stored = entry.read()
    drawing = stored if isinstance(stored, Drawing) else None
    image = stored if isinstance(stored, Image.Image) else Image.fromarray(stored.image)
    moving = as_v2(transform)
    if moving is None:
        (result,) = transformed(entry.name, transform, image)
        return LabelledImage(entry.name, result, entry.target, torch.empty(0, 4), None, drawing)
    inputs = [image, stored_boxes(entry, drawing, image.size)]
    mask = stored_mask(entry, drawing, image.size)
    result, boxes, *masks = transformed(entry.name, moving, *inputs, *([] if mask is None else [mask]))
    boxes = boxes.as_subclass(Tensor).reshape(-1, 4)
    boxes = boxes[contains_pixels(boxes, *result.shape[1:])]
    moved = masks[0].as_subclass(Tensor) > 0 if masks else None
    return LabelledImage(entry.name, result, entry.target, boxes, moved, drawing)


def stored_boxes(entry: Entry, drawing: Drawing | None, size: tuple[int, int]) -> tv_tensors.BoundingBoxes:
    """Return an entry's boxes (n, 4) in pixels of the stored image, whose `size` is (width, height).

    Raises InputError if a box is empty or lies outside the image.
    """
    width, height = size
    boxes = torch.tensor([drawing.box] if drawing else [*entry.boxes], dtype=torch.float32).reshape(-1, 4)
    if entry.boxes_size:
        boxes = boxes * torch.tensor([width / entry.boxes_size[0], height / entry.boxes_size[1]] * 2)
    xmin, ymin, xmax, ymax = boxes.T
    if not ((xmin < xmax) & (ymin < ymax) & (xmin < width) & (ymin < height) & (xmax > 0) & (ymax > 0)).all():
        raise InputError(f"{entry.name}: a box is empty or outside the image of {width}x{height}: {boxes.tolist()}")
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))


def stored_mask(entry: Entry, drawing: Drawing | None, size: tuple[int, int]) -> tv_tensors.Mask | None:
    """Return an entry's mask (height, width) of 0 and 1, or None if it has none.

    Raises InputError if the size of the mask differs from that of the image.
    """
    if drawing is None and entry.read_mask is None:
        return None
    values = drawing.mask if drawing else np.asarray(entry.read_mask() if entry.read_mask else None)
    if values.shape != size[::-1]:
        raise InputError(f"{entry.name}: the mask {values.shape} must have the image's (height, width) {size[::-1]}")
    return tv_tensors.Mask(torch.from_numpy(values.astype(np.uint8)))


def transformed(name: str, transform: Callable[..., Any], *inputs: Any) -> tuple[Any, ...]:
    """Return the transformed image, boxes and mask.

    Raises InputError if the transform fails or does not return an image tensor.
    """
    try:
        outputs = transform(*inputs)
    except DEVICE_ERRORS:
        raise
    except Exception as error:  # the user's transform may raise any exception
        problem = " ".join(str(error).split())
        raise InputError(f"the transform fails on {name}: {type(error).__name__}: {problem}") from error
    results = outputs if len(inputs) > 1 else (outputs,)
    image = results[0]
    if not isinstance(image, Tensor) or image.ndim != 3:
        found = f"a tensor of shape {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise InputError(
            f"the transform must return a tensor (channels, height, width); for {name} it returned {found}; "
            f"v2.ToImage() and v2.ToDtype(torch.float32, scale=True) convert a PIL image to a tensor"
        )
    return (image.as_subclass(Tensor), *results[1:])


def contains_pixels(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return a boolean mask (n,) of the boxes (n, 4) that contain the centre of at least one pixel."""
    limits = torch.tensor([width, height], dtype=boxes.dtype)
    first = (boxes[:, :2].clamp(min=0) - 0.5).ceil()
    last = (torch.minimum(boxes[:, 2:], limits) - 0.5).ceil()
    return (last > first).all(1)
