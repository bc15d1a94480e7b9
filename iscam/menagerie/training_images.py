"""The images that the menagerie's networks are trained and tested on, and the visible share of every part.

They are drawn once and cached. One formula gives the target of a training image. Each part of the animal is evidence
for all species with the same value of that part:

    target(s) = exp(sum_p w_p e(v_p) [s has the same value of p as the animal]) / (sum over all species)

w_p is the weight of part p. The parts that tell the species of a group apart count more than the others, and each of
them counts differently, so the parts of a drawing differ in their true importance. v_p in [0, 1] is the visible share
of part p, and e(v) rises from 0 to 1. A network therefore learns that a hidden part is missing evidence, and that
without an animal all species are equally likely.
"""

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
from iscam.menagerie.animals import RELATIVES, SPECIES, TABLE, parts_of
from iscam.menagerie.draw import ANIMAL, Drawing, draw

#: The first drawing seed of each kind of images. Studies draw 32-bit seeds, which hardly ever fall into these ranges.
SEEDS = {
    "training": 1_000_000,
    "validation": 2_000_000,
    "complete": 3_000_000,
    "swapped": 3_000_000,
    "background": 3_000_000,
    "without a shared part": 3_000_000,
    "without one varying part": 3_000_000,
    "without two varying parts": 3_000_000,
}

#: Images that one task draws. A killed run repeats at most the tasks that were running.
CHUNK = 100

#: Side of the square cells in which the visible part of an animal is stored, in pixels.
CELL = 8

#: A part with fewer visible pixels is no evidence.
VISIBLE = 50

#: How much a part counts, in log-odds: the three varying parts of a group in their order, and every other part.
VARYING, SHARED = (3.2, 2.3, 1.4), 0.6

#: Visible shares of a part between which its evidence rises from 0 to 1.
DIM, CLEAR = 0.3, 0.9

#: All numbers that determine the targets.
EVIDENCE = (VARYING, SHARED, DIM, CLEAR)

#: The trunk and the bare head, which are drawn in every animal.
BODY = "body"

#: The most parts that an animal has, its body included.
SLOTS = 1 + max(len(parts_of(species)) for species in SPECIES)


def label(kind: str, number: int) -> int | None:
    """The class of an image; None for a training image without an animal, which is the last of every 25."""
    if kind == "training":
        number %= len(SPECIES) + 1
        return number if number < len(SPECIES) else None
    return number % len(SPECIES)


def varying_parts(species: str) -> tuple[str, ...]:
    """The parts in which a species differs from at least one of its relatives."""
    differing = {part for parts in RELATIVES[species].values() for part in parts}
    return tuple(part for part in parts_of(species) if part in differing)


def left_out(kind: str, number: int) -> tuple[str, ...]:
    """The parts that are left out of an image. Half of the training images lose each part with probability 1/4."""
    index = label(kind, number)
    if kind == "background" or index is None:
        return (ANIMAL,)
    species = SPECIES[index]
    rng = np.random.default_rng((SEEDS[kind], number))
    varying = varying_parts(species)
    if kind == "without a shared part":
        return (str(rng.choice([part for part in parts_of(species) if part not in varying])),)
    if kind == "without one varying part":
        return (str(rng.choice(varying)),)
    if kind == "without two varying parts":
        return tuple(map(str, rng.choice(varying, 2, replace=False)))
    if kind == "training" and rng.random() < 0.5:
        return tuple(part for part in parts_of(species) if rng.random() < 0.25)
    return ()


def drawing(kind: str, number: int) -> Drawing:
    return draw(SPECIES[label(kind, number) or 0], SEEDS[kind] + number, without=left_out(kind, number))


def image(kind: str, number: int) -> np.ndarray:
    """One image (224, 224, 3) uint8. A swapped image shows the animal in the scene of another drawing."""
    drawn = drawing(kind, number)
    if kind != "swapped":
        return drawn.image
    other = draw(SPECIES[0], drawn.seed + 500_000, without=ANIMAL)
    return np.where(drawn.mask[:, :, None], drawn.image, other.image)


def part_cells(number: int) -> np.ndarray:
    """Where a training image shows each part of its animal: (SLOTS, 28, 28) float16.

    Each cell has the share of the complete animal's part that is visible in it. So the cells of a part add up to its
    visible share: 1, or 0 if it is left out. The first part is the body.
    """
    size = 224 // CELL
    cells = np.zeros((SLOTS, size, size), np.float16)
    index = label("training", number)
    if index is None:
        return cells
    shown = part_masks(drawing("training", number))
    complete = part_masks(draw(SPECIES[index], SEEDS["training"] + number))
    for slot, name in enumerate((BODY, *parts_of(SPECIES[index]))):
        pixels = complete[name].sum()
        if name in shown and pixels >= VISIBLE:
            cells[slot] = shown[name].reshape(size, CELL, size, CELL).sum((1, 3)) / pixels
    return cells


def part_masks(drawn: Drawing) -> dict[str, np.ndarray]:
    """The visible pixels of each part and of the body, (224, 224) bool."""
    return {**drawn.parts, BODY: drawn.mask & ~np.any(list(drawn.parts.values()), axis=0)}


@cache
def fingerprint() -> str:
    """Twelve hexadecimal digits that change when the drawings change."""
    numbers = range(len(SPECIES) + 1)
    return hashlib.sha256(b"".join(image("training", n).tobytes() for n in numbers)).hexdigest()[:12]


def images(kind: str, count: int, workers: int) -> np.ndarray:
    """`count` images (count, 224, 224, 3) uint8 of a kind, memory-mapped. Draws those that are not in the cache."""
    return stored(f"{fingerprint()}/{kind.replace(' ', '-')}-{count}", partial(image, kind), count, workers)


def all_part_cells(count: int, workers: int) -> np.ndarray:
    """`part_cells` of the training images, (count, SLOTS, 28, 28) float16, memory-mapped."""
    return stored(f"{fingerprint()}/parts-{count}", part_cells, count, workers)


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
def evidence_of_parts() -> Tensor:
    """The evidence of each part of a species for every species, (species, SLOTS, species): w_p, or 0 if they differ."""
    table = torch.zeros(len(SPECIES), SLOTS, len(SPECIES))
    for i, species in enumerate(SPECIES):
        weights = part_weights(species)
        values = {BODY: TABLE[species][0], **TABLE[species][1]}
        for slot, (part, value) in enumerate(values.items()):
            for j, other in enumerate(SPECIES):
                same = {BODY: TABLE[other][0], **TABLE[other][1]}.get(part) == value
                table[i, slot, j] = weights[part] if same else 0
    return table


def part_weights(species: str) -> dict[str, float]:
    """The weight w_p of each part of a species and of its body."""
    weights = dict.fromkeys((BODY, *parts_of(species)), SHARED)
    return weights | dict(zip(varying_parts(species), VARYING, strict=True))


def evidence(visible: Tensor) -> Tensor:
    """e(v): how much a part counts if the share v of it is visible. A smooth step from 0 to 1."""
    x = ((visible - DIM) / (CLEAR - DIM)).clamp(0, 1)
    return x * x * (3 - 2 * x)


def targets(numbers: Tensor, visible: Tensor) -> Tensor:
    """Target probabilities (batch, species) of training images.

    `numbers` (batch,): which images. `visible` (batch, SLOTS): the visible share of each part, in [0, 1].
    """
    labels = torch.tensor([label("training", number) or 0 for number in numbers.tolist()])
    logits = torch.einsum("bp,bps->bs", evidence(visible), evidence_of_parts()[labels])
    return logits.softmax(1)


def moved(images: np.ndarray, cells: np.ndarray, random: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images (batch, 224, 224, 3) and their cells (batch, SLOTS, 28, 28), moved and mirrored alike.

    All are moved by at most one cell in each direction, and half of the batches are mirrored. The edges of the images
    are repeated.
    """
    down, right = torch.randint(3, (2,), generator=random).tolist()
    images = np.pad(images, ((0, 0), (CELL, CELL), (CELL, CELL), (0, 0)), mode="edge")
    images = images[:, down * CELL :, right * CELL :][:, :224, :224]
    cells = np.pad(cells, ((0, 0), (0, 0), (1, 1), (1, 1)))[:, :, down:, right:][:, :, : 224 // CELL, : 224 // CELL]
    mirrored = torch.rand((), generator=random) < 0.5
    return (images[:, :, ::-1], cells[:, :, :, ::-1]) if mirrored else (images, cells)


def altered(x: Tensor, masks: Tensor, random: torch.Generator) -> Tensor:
    """Inputs (batch, 3, 224, 224) with random contrast and brightness, multiplied by masks (batch, 1, 224, 224)."""
    gain, light = torch.rand(2, len(x), 1, 1, 1, generator=random) - 0.5
    return torch.addcmul((masks * 0.6 * light).to(x.device), x, (masks * (1 + 0.4 * gain)).to(x.device))


def soft_masks(count: int, hidden: float, random: torch.Generator) -> Tensor:
    """Masks (count, 1, 224, 224) in [0, 1]: all ones, or, with probability `hidden`, soft blobs of random area."""
    cells = int(torch.randint(3, 14, (), generator=random))
    noise = torch.rand(count, 1, cells, cells, generator=random)
    area, sharpness, shown = torch.rand(3, count, 1, 1, 1, generator=random)
    blobs = ((noise - 1 + area) * (1 + 9 * sharpness) + 0.5).clamp(0, 1)
    return F.interpolate(torch.where(shown > hidden, 1.0, blobs), (224, 224), mode="bilinear")


def visible_shares(cells: np.ndarray, masks: Tensor) -> Tensor:
    """The visible share of each part behind masks (batch, 1, 224, 224): (batch, SLOTS) in [0, 1]."""
    shown = F.avg_pool2d(masks, CELL) * torch.tensor(cells.astype(np.float32))
    return shown.sum((2, 3)).clamp(max=1)
