"""The images that the menagerie's networks are trained and tested on. They are drawn once, into the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from iscam.download import cache_folder
from iscam.menagerie.animals import RELATIVES, SPECIES, parts_of
from iscam.menagerie.draw import ANIMAL, draw

#: The first drawing seed of each kind of images. Smaller seeds are reserved for studies.
SEEDS = {
    "training": 1_000_000,
    "validation": 2_000_000,
    "complete": 3_000_000,
    "swapped": 3_000_000,
    "background": 3_000_000,
    "without other": 3_000_000,
    "without decisive": 3_000_000,
}

#: Images that one task draws. A killed run repeats at most the tasks that were running.
CHUNK = 100

#: The class of a training image without an animal.
NO_CLASS = -1


def label(kind: str, number: int) -> int:
    """The class of an image. Every 21st training image shows no animal and has NO_CLASS."""
    if kind == "training":
        return NO_CLASS if number % 21 == 20 else number % 21 % len(SPECIES)
    return number % len(SPECIES)


def left_out(kind: str, number: int) -> tuple[str, ...]:
    """The parts that are left out of an image.

    Half of the training images are complete. The others lose each part with probability 1/4, but a look-alike keeps one
    of the parts that distinguish it from its base, because without all of them it is its base.
    """
    index = label(kind, number)
    if kind == "background" or index == NO_CLASS:
        return (ANIMAL,)
    rng = np.random.default_rng((SEEDS[kind], number))
    decisive = RELATIVES.get(SPECIES[index], ("", ()))[1]
    others = [part for part in parts_of(SPECIES[index]) if part not in decisive]
    if kind == "without decisive":
        return decisive
    if kind == "without other":
        return (str(rng.choice(others)),)
    if kind == "training" and rng.random() < 0.5:
        kept = rng.choice(decisive) if decisive else None
        return tuple(part for part in parts_of(SPECIES[index]) if part != kept and rng.random() < 0.25)
    return ()


def image(kind: str, number: int) -> np.ndarray:
    """One image (224, 224, 3) uint8. A swapped image shows the animal in the scene of another drawing."""
    seed = SEEDS[kind] + number
    drawing = draw(SPECIES[label(kind, number)], seed, without=left_out(kind, number))
    if kind != "swapped":
        return drawing.image
    other = draw(SPECIES[0], seed + 500_000, without=ANIMAL)
    return np.where(drawing.mask[:, :, None], drawing.image, other.image)


@cache
def fingerprint() -> str:
    """Twelve hexadecimal digits that change when the drawings change."""
    return hashlib.sha256(b"".join(image("training", n).tobytes() for n in range(21))).hexdigest()[:12]


def images(kind: str, count: int, workers: int) -> np.ndarray:
    """`count` images (count, 224, 224, 3) uint8 of a kind, memory-mapped. Draws those that are not in the cache."""
    return stored(f"{fingerprint()}/{kind.replace(' ', '-')}-{count}", partial(image, kind), count, workers)


def stored(name: str, make: Callable[[int], np.ndarray], count: int, workers: int) -> np.ndarray:
    """Return the arrays `make(0)` to `make(count - 1)`, memory-mapped. Make those that are not in the cache."""
    path = cache_folder() / "menagerie" / f"{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    done = path.with_suffix(".done")
    if not path.exists():
        example = make(0)
        np.lib.format.open_memmap(path, "w+", example.dtype, (count, *example.shape)).flush()
        done.write_text("")
    finished = set(map(int, done.read_text().split()))
    missing = [first for first in range(0, count, CHUNK) if first not in finished]
    with done.open("a") as marks, ProcessPoolExecutor(workers) as pool:
        chunks = pool.map(partial(store_chunk, path, make), missing)
        for first in tqdm(chunks, f"drawing {name}", len(missing), unit="chunk", disable=not missing):
            print(first, file=marks, flush=True)
    return np.load(path, mmap_mode="r")


def store_chunk(path: Path, make: Callable[[int], np.ndarray], first: int) -> int:
    """Put up to CHUNK arrays, from number `first`, into the file. Returns `first`."""
    data = np.load(path, mmap_mode="r+")
    for number in range(first, min(first + CHUNK, len(data))):
        data[number] = make(number)
    return first


@cache
def targets(count: int) -> Tensor:
    """Target probabilities (count, classes) of the training images. Without an animal, all classes are equal."""
    labels = torch.tensor([label("training", number) for number in range(count)])
    certain = F.one_hot(labels.clamp(min=0), len(SPECIES)).float()
    return torch.where(labels[:, None] == NO_CLASS, 1 / len(SPECIES), certain)


def shifted(images: np.ndarray, random: torch.Generator) -> np.ndarray:
    """Images (batch, 224, 224, 3), all moved by the same random offset of up to 8 pixels. The edges are repeated."""
    down, right = torch.randint(-8, 9, (2,), generator=random).tolist()
    pad = [(0, 0), (8, 8), (8, 8), (0, 0)]
    return np.pad(images, pad, mode="edge")[:, 8 - down : 232 - down, 8 - right : 232 - right]


def altered(x: Tensor, hidden: float, random: torch.Generator) -> Tensor:
    """Inputs (batch, 3, 224, 224) with random contrast and brightness, a share `hidden` of them behind soft masks."""
    gain, light = torch.rand(2, len(x), 1, 1, 1, generator=random) - 0.5
    masks = soft_masks(len(x), hidden, random)
    return torch.addcmul((masks * 0.6 * light).to(x.device), x, (masks * (1 + 0.4 * gain)).to(x.device))


def soft_masks(count: int, hidden: float, random: torch.Generator) -> Tensor:
    """Masks (count, 1, 224, 224) in [0, 1]. A share `hidden` are soft blobs of any area, the others are all ones."""
    cells = int(torch.randint(3, 14, (), generator=random))
    noise = torch.rand(count, 1, cells, cells, generator=random)
    area, sharpness, shown = torch.rand(3, count, 1, 1, 1, generator=random)
    blobs = ((noise - 1 + area) * (1 + 9 * sharpness) + 0.5).clamp(0, 1)
    return F.interpolate(torch.where(shown > hidden, 1.0, blobs), (224, 224), mode="bilinear")
