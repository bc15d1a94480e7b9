"""The menagerie: drawn animals of ten species of which we know every part's place.

A look-alike is its base species with one or two parts replaced (`RELATIVES`), and nothing else differs:
light, pose, colours and background come from the seed alone. What tells two species apart is thus known.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from iscam.errors import InputError
from iscam.menagerie.paint import SIZE, Brush, Layer, Light, Stamp, View, lay
from iscam.menagerie.parts import assemble, random_pose
from iscam.menagerie.scenes import Stand, scene

# The build of each base species and the value of each of its parts.
_BASES: dict[str, tuple[str, dict[str, str]]] = {
    "Basenji": (
        "square dog",
        {
            "ears": "pricked",
            "brow": "wrinkled",
            "muzzle": "wedge",
            "chest": "bib",
            "coat": "saddle",
            "legs": "socked",
            "tail": "curled",
        },
    ),
    "Capuchin": (
        "monkey",
        {
            "cap": "dark",
            "ears": "small",
            "face": "pale",
            "muzzle": "snub",
            "mantle": "pale",
            "arms": "long",
            "legs": "monkey",
            "tail": "prehensile",
        },
    ),
    "Whippet": (
        "arched dog",
        {
            "ears": "rose",
            "brow": "mask",
            "muzzle": "long",
            "chest": "shirt",
            "coat": "saddle",
            "legs": "slender",
            "tail": "whip",
        },
    ),
}

# The look-alikes: the base and the parts that replace the base's.
_VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "Red Fox": ("Basenji", {"tail": "brush", "legs": "stockings"}),
    "African Wild Dog": ("Basenji", {"ears": "round", "coat": "blotched"}),
    "Ring-tailed Lemur": ("Capuchin", {"tail": "ringed"}),
    "Cotton-top Tamarin": ("Capuchin", {"cap": "crest"}),
    "Mandrill": ("Capuchin", {"muzzle": "mandrill", "tail": "stub"}),
    "Gazelle": ("Whippet", {"ears": "horned", "coat": "flank band"}),
    "Dachshund": ("Whippet", {"legs": "short", "ears": "drop"}),
}

# Species -> build and parts: the table the drawings are made from.
TABLE: dict[str, tuple[str, dict[str, str]]] = {
    **_BASES,
    **{name: (_BASES[base][0], {**_BASES[base][1], **new}) for name, (base, new) in _VARIANTS.items()},
}

SPECIES: tuple[str, ...] = tuple(TABLE)

# Look-alike -> its base species and the parts that decide between the two.
RELATIVES: dict[str, tuple[str, tuple[str, ...]]] = {
    name: (base, tuple(new)) for name, (base, new) in _VARIANTS.items()
}

ANIMAL = "animal"


class Drawing(NamedTuple):
    """An image, where the animal is in it, and where each of its parts shows."""

    species: str
    seed: int
    image: np.ndarray
    mask: np.ndarray
    box: tuple[int, int, int, int]
    parts: dict[str, np.ndarray]


def parts_of(species: str) -> tuple[str, ...]:
    """The names of the parts that can be left out of a species."""
    _check_species(species)
    return tuple(TABLE[species][1])


def draw(species: str, seed: int, without: str | Iterable[str] = ()) -> Drawing:
    """The drawing of a species with that seed, whole or without some of its parts.

    Leaving out a part changes no pixel outside `parts[name]` of the whole drawing. "animal" leaves out
    everything but the scene, which is the same for all species; the soft shadow on the ground is part of
    the scene and stays.
    """
    _check_species(species)
    seed = _checked_seed(seed)
    left_out = _checked_parts(species, without)
    stand, light = _stage(seed)
    canvas, front = scene(_stream(seed, "scene"), stand, light)
    stamps = [] if ANIMAL in left_out else _stamps(species, seed, stand, light, left_out)
    for _, stamp in stamps:
        lay(canvas, stamp)
    for stamp in front:
        lay(canvas, stamp)
    names = [] if ANIMAL in left_out else [name for name in TABLE[species][1] if name not in left_out]
    mask, parts = _visible(stamps, front, names)
    return Drawing(species, seed, canvas, mask, _box(mask), parts)


def share_in_frame(species: str, seed: int) -> float:
    """How much of the animal's area the image holds; the rest is beyond its edges."""
    _check_species(species)
    view, layers = _animal(species, seed, _stage(_checked_seed(seed))[0])
    wide = Image.new("1", (3 * SIZE, 3 * SIZE))
    pen = ImageDraw.Draw(wide)
    for polygon in (polygon for layer in layers for polygon in layer.form.polygons):
        pen.polygon((view.to_pixels(polygon) + SIZE).ravel().tolist(), fill=1)
    everything = np.asarray(wide)
    return float(everything[SIZE : 2 * SIZE, SIZE : 2 * SIZE].sum() / everything.sum())


def _check_species(species: str) -> None:
    if not isinstance(species, str) or species not in TABLE:
        raise InputError(f"unknown species {species!r}: choose one of {', '.join(SPECIES)}")


def _checked_seed(seed: int) -> int:
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InputError(f"bad seed {seed!r}: choose a whole number, 0 or more")
    return int(seed)


def _checked_parts(species: str, without: str | Iterable[str]) -> frozenset[str]:
    names = (without,) if isinstance(without, str) else tuple(without)
    valid = (*TABLE[species][1], ANIMAL)
    for name in names:
        if name not in valid:
            raise InputError(f"unknown part {name!r} of {species}: choose from {', '.join(valid)}")
    return frozenset(names)


def _stream(seed: int, element: str) -> np.random.Generator:
    """Random numbers of one element of the drawing, independent of all the others'."""
    number = ("stage", "pose", "scene", "fur").index(element)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, number))))


def _stage(seed: int) -> tuple[Stand, Light]:
    """Where the animal stands and where the light comes from."""
    rng = _stream(seed, "stage")
    a, b, c, d, e, f, g = rng.random(7).tolist()
    scale = 0.66 + 0.30 * a
    x = SIZE / 2 + (b - 0.5) * 2 * (SIZE / 2 - 88 * scale) * 0.9
    top = 192 * scale
    y = top + (SIZE - 8 - top) * c
    side = -1.0 if d < 0.5 else 1.0
    warm = e - 0.5
    bright = 0.9 + 0.16 * f
    colour = (bright * (1 + 0.08 * warm), bright, bright * (1 - 0.10 * warm))
    height = 0.5 + 0.3 * g
    light = Light(side * (1 - height * height) ** 0.5, -height, colour)
    return Stand(x, y, scale, -1.0 if rng.random() < 0.5 else 1.0), light


def _animal(species: str, seed: int, stand: Stand) -> tuple[View, list[Layer]]:
    build, values = TABLE[species]
    layers = assemble(build, values, random_pose(_stream(seed, "pose")))
    return View(stand.x, stand.y, stand.scale, stand.flip), layers


def _stamps(
    species: str, seed: int, stand: Stand, light: Light, left_out: frozenset[str]
) -> list[tuple[str | None, Stamp]]:
    view, layers = _animal(species, seed, stand)
    offset = tuple(_stream(seed, "fur").integers(0, 64, 2).tolist())
    brush = Brush(view, light, offset)
    stamps = [(layer.part, brush.stamp(layer)) for layer in layers if layer.part not in left_out]
    return [(part, stamp) for part, stamp in stamps if stamp is not None]


def _visible(
    stamps: list[tuple[str | None, Stamp]], front: list[Stamp], names: list[str]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Where the animal and each part show: their paint where nothing above covers it wholly."""
    covered = np.zeros((SIZE, SIZE), bool)
    for stamp in front:
        covered[stamp.window()] |= stamp.alpha == 255
    mask = np.zeros((SIZE, SIZE), bool)
    parts = {name: np.zeros((SIZE, SIZE), bool) for name in names}
    for part, stamp in reversed(stamps):
        window = stamp.window()
        shows = (stamp.alpha > 0) & ~covered[window]
        mask[window] |= shows
        if part is not None:
            parts[part][window] |= shows
        covered[window] |= stamp.alpha == 255
    return mask, parts


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
