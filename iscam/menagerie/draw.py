"""`draw`: an image of an animal, with the exact pixels of the animal and of each of its parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from iscam.errors import InputError
from iscam.menagerie.animals import RELATIVES as RELATIVES
from iscam.menagerie.animals import SPECIES as SPECIES
from iscam.menagerie.animals import animal_layers, check_species, parts_of
from iscam.menagerie.camera import develop, random_camera
from iscam.menagerie.paint import SIZE, Brush, Layer, Light, Placement, Stamp, blend
from iscam.menagerie.parts import random_pose
from iscam.menagerie.scenes import scene

#: The name that leaves out the complete animal.
ANIMAL = "animal"

#: The elements of a drawing with their own random numbers. Drawings depend on the order: do not change it.
ELEMENTS = ("stage", "pose", "scene", "fur", "camera")


class Drawing(NamedTuple):
    """A drawn animal, and where it and its parts are visible.

    `image`: (224, 224, 3) uint8. `mask`: (224, 224) bool, the animal. `box`: (xmin, ymin, xmax, ymax) of the mask in
    pixels, with xmax and ymax exclusive; all 0 without an animal. `parts`: name -> (224, 224) bool.
    """

    species: str
    seed: int
    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]
    parts: dict[str, np.ndarray]


def draw(species: str, seed: int, without: str | Iterable[str] = ()) -> Drawing:
    """Draw a species from a seed, complete or without some of its parts.

    Leaving out a part changes only pixels inside `parts[name]` of the complete drawing. "animal" leaves out everything
    but the scene, which is the same for all species. The soft shadow on the ground is part of the scene and stays.

    Raises InputError for an unknown species or part and for a seed that is not a non-negative integer.
    """
    check_species(species)
    seed = check_seed(seed)
    left_out = check_parts(species, without)
    placement, light = stage(seed)
    camera = random_camera(random_stream(seed, "camera"))
    canvas, front = scene(random_stream(seed, "scene"), placement, light, camera.blur)
    names = () if ANIMAL in left_out else tuple(name for name in parts_of(species) if name not in left_out)
    stamps = [] if ANIMAL in left_out else animal_stamps(species, seed, placement, light, camera.blur, left_out)
    for _, stamp in stamps:
        blend(canvas, stamp)
    for stamp in front:
        blend(canvas, stamp)
    mask, parts = visible_pixels(stamps, front, names)
    return Drawing(species, seed, develop(canvas, camera), mask, bounding_box(mask), parts)


def share_in_frame(species: str, seed: int) -> float:
    """The share of the animal's area that lies inside the image, in [0, 1]."""
    check_species(species)
    seed = check_seed(seed)
    placement, _ = stage(seed)
    large = Image.new("1", (3 * SIZE, 3 * SIZE))
    pen = ImageDraw.Draw(large)
    for polygon in (polygon for layer in posed_layers(species, seed) for polygon in layer.form.polygons):
        pen.polygon((placement.to_pixels(polygon) + SIZE).ravel().tolist(), fill=1)
    everything = np.asarray(large)
    return float(everything[SIZE : 2 * SIZE, SIZE : 2 * SIZE].sum() / everything.sum())


def check_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"invalid seed {seed!r}; it must be a whole number >= 0")
    return int(seed)


def check_parts(species: str, without: str | Iterable[str]) -> frozenset[str]:
    names = (without,) if isinstance(without, str) else tuple(without)
    valid = (*parts_of(species), ANIMAL)
    for name in names:
        if name not in valid:
            raise InputError(f"unknown part {name!r} of {species}; valid parts: {', '.join(valid)}")
    return frozenset(names)


def random_stream(seed: int, element: str) -> np.random.Generator:
    """The random numbers of one element of a drawing. They do not depend on those of the other elements."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, ELEMENTS.index(element)))))


def stage(seed: int) -> tuple[Placement, Light]:
    """Where the animal stands (the middle of its feet), and where the light comes from."""
    rng = random_stream(seed, "stage")
    a, b, c, d, e, f, g = rng.random(7).tolist()
    scale = 0.68 + 0.41 * a
    x = SIZE / 2 + (b - 0.5) * 2 * (SIZE / 2 - 90 * scale) * 0.9
    top = 190 * scale
    y = top + (SIZE - 8 - top) * c
    side = -1.0 if d < 0.5 else 1.0
    warm = e - 0.5
    bright = 0.9 + 0.16 * f
    colour = (bright * (1 + 0.08 * warm), bright, bright * (1 - 0.10 * warm))
    height = 0.5 + 0.3 * g
    light = Light(side * (1 - height * height) ** 0.5, -height, colour)
    return Placement(x, y, scale, -1.0 if rng.random() < 0.5 else 1.0), light


def posed_layers(species: str, seed: int) -> list[Layer]:
    return animal_layers(species, random_pose(random_stream(seed, "pose")))


def animal_stamps(
    species: str, seed: int, placement: Placement, light: Light, blur: float, left_out: frozenset[str]
) -> list[tuple[str | None, Stamp]]:
    """The animal's visible layers from back to front, each with the name of its part (None: the plain body)."""
    offset = tuple(random_stream(seed, "fur").integers(0, 64, 2).tolist())
    brush = Brush(placement, light, offset, blur)
    layers = [layer for layer in posed_layers(species, seed) if layer.part not in left_out]
    stamps = [(layer.part, brush.stamp(layer)) for layer in layers]
    return [(part, stamp) for part, stamp in stamps if stamp is not None]


def visible_pixels(
    stamps: list[tuple[str | None, Stamp]], front: list[Stamp], names: Iterable[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The pixels of the animal and of each part: those it paints, unless a layer above covers them fully."""
    covered = np.zeros((SIZE, SIZE), bool)
    for stamp in front:
        covered[stamp.window()] |= stamp.alpha == 255
    mask = np.zeros((SIZE, SIZE), bool)
    parts = {name: np.zeros((SIZE, SIZE), bool) for name in names}
    for part, stamp in reversed(stamps):
        window = stamp.window()
        shown = (stamp.alpha > 0) & ~covered[window]
        mask[window] |= shown
        if part is not None:
            parts[part][window] |= shown
        covered[window] |= stamp.alpha == 255
    return mask, parts


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
