"""Backgrounds: places, light, things that lie about and things that stand in the way.

A scene is drawn from the seed alone. It knows where an animal will stand (for the shadow on the ground)
but not which one, so a scene tells nothing about the species.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from iscam.menagerie.paint import (
    SIZE,
    Brush,
    Colour,
    Form,
    Layer,
    Light,
    Limb,
    Stamp,
    View,
    closed_curve,
    darker,
    ellipse,
    lay,
    mix,
)


class Place(NamedTuple):
    """The colours of one kind of place."""

    sky: tuple[Colour, Colour]  # or the wall of a room
    hills: Colour
    ground: tuple[Colour, Colour]
    clutter: Colour
    setting: str  # "open", "trees" or "room"


PLACES: dict[str, Place] = {
    "meadow": Place(
        ((150, 196, 222), (226, 236, 226)), (136, 172, 140), ((158, 186, 104), (104, 146, 74)), (88, 132, 66), "open"
    ),
    "forest": Place(
        ((92, 124, 96), (168, 184, 130)), (74, 104, 82), ((124, 128, 76), (92, 88, 56)), (66, 96, 58), "trees"
    ),
    "sand": Place(
        ((188, 214, 222), (244, 230, 204)), (222, 190, 146), ((234, 208, 160), (204, 168, 118)), (176, 152, 98), "open"
    ),
    "room": Place(
        ((206, 196, 176), (222, 210, 188)), (148, 172, 168), ((188, 148, 110), (150, 110, 80)), (120, 128, 84), "room"
    ),
    "dusk": Place(
        ((126, 122, 162), (244, 192, 152)), (122, 112, 140), ((150, 136, 108), (104, 94, 84)), (92, 92, 84), "trees"
    ),
    "shore": Place(
        ((176, 206, 220), (220, 230, 232)), (134, 172, 186), ((186, 184, 174), (146, 142, 134)), (122, 132, 108), "open"
    ),
    "snow": Place(
        ((170, 190, 212), (222, 226, 232)),
        (150, 168, 184),
        ((232, 234, 238), (196, 206, 220)),
        (112, 128, 126),
        "trees",
    ),
}


class Stand(NamedTuple):
    """Where the animal stands: the middle of its feet in pixels, its scale, and which way it looks."""

    x: float
    y: float
    scale: float
    flip: float


class Scene(NamedTuple):
    canvas: np.ndarray
    front: list[Stamp]


def _jitter(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    shift = (rng.random(3) - 0.5) * amount + (rng.random() - 0.5) * amount
    return tuple(float(min(250, max(6, c + s))) for c, s in zip(colour, shift, strict=True))


def _vertical(top: Colour, bottom: Colour, rows: int) -> np.ndarray:
    ramp = np.linspace(0, 1, max(rows, 1), dtype=np.float32)[:, None]
    return np.asarray(top, np.float32) * (1 - ramp) + np.asarray(bottom, np.float32) * ramp


def _clouding(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Smooth noise in about [-1, 1] from a small random grid."""
    grid = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1


def _blob(rng: np.random.Generator, x: float, y: float, rx: float, ry: float) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    reach = 0.75 + 0.5 * rng.random(8)
    return closed_curve(np.stack([x + rx * reach * np.cos(angles), y + ry * reach * np.sin(angles)], axis=1))


def _flat(points: np.ndarray) -> list[int]:
    return np.rint(points).astype(int).ravel().tolist()


def _ints(colour: Colour) -> tuple[int, ...]:
    return tuple(int(c) for c in colour)


def _far_view(rng: np.random.Generator, place: Place, horizon: int) -> Image.Image:
    """What lies behind: the ground, and out of focus above it a landscape or a wall."""
    sky = _vertical(_jitter(rng, place.sky[0], 26), _jitter(rng, place.sky[1], 22), horizon)
    ground = _vertical(_jitter(rng, place.ground[0], 24), _jitter(rng, place.ground[1], 24), SIZE - horizon)
    rows = np.concatenate([sky, ground])
    image = Image.fromarray(np.repeat(rows[:, None], SIZE, axis=1).astype(np.uint8))
    if place.setting == "room":
        _wall(ImageDraw.Draw(image), rng, place, horizon)
        image = image.filter(ImageFilter.BoxBlur(1.5))
        _rug(ImageDraw.Draw(image), rng, horizon)
    else:
        _landscape(ImageDraw.Draw(image), rng, place, horizon, tuple(sky[-1].tolist()), tuple(ground[0].tolist()))
        image = image.filter(ImageFilter.BoxBlur(2 + 2 * rng.random()))
        _patches(ImageDraw.Draw(image), rng, ground, horizon)
    return image.filter(ImageFilter.BoxBlur(0.7))


def _landscape(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, place: Place, horizon: int, haze: Colour, ground: Colour
) -> None:
    """Clouds, two ranges of hills, trunks and bushes."""
    for _ in range(int(rng.integers(0, 4)) if place.setting == "open" else 0):
        x, y, wide = rng.random(3) * (SIZE, horizon * 0.7, 30)
        for shift in (-0.8, 0.0, 0.9):
            cloud = _blob(rng, x + shift * (wide + 12), y, wide + 14, 5 + 0.3 * wide)
            pen.polygon(_flat(cloud), fill=_ints(mix(haze, (255, 253, 248), 0.7)))
    hills = _jitter(rng, place.hills, 30)
    for share in (0.45, 0.0):
        heights = horizon - (6 + 34 * rng.random(6)) * (0.4 + share * 1.6)
        crest = np.stack([np.linspace(-30, SIZE + 30, 6), heights], axis=1)
        outline = np.concatenate([[[-60, horizon]], crest, [[SIZE + 60, horizon]]])
        pen.polygon(_flat(closed_curve(outline)), fill=_ints(mix(hills, haze, share)))
    pen.rectangle([0, horizon, SIZE, horizon + 3], fill=_ints(ground))
    for _ in range(int(rng.integers(2, 7)) if place.setting == "trees" else 0):
        x, wide = rng.random() * SIZE, 4 + 9 * rng.random()
        bark = mix((92, 74, 62), hills, 0.25 + 0.5 * rng.random())
        pen.polygon(
            _flat(
                np.array([[x - wide, horizon + 8], [x - wide * 0.6, 0], [x + wide * 0.6, 0], [x + wide, horizon + 8]])
            ),
            fill=_ints(bark),
        )
    for _ in range(int(rng.integers(3, 9))):
        size = 8 + 22 * rng.random()
        bush = _jitter(rng, mix(place.clutter, hills, rng.random() * 0.8), 30)
        blob = _blob(rng, rng.random() * SIZE, horizon - size * 0.2, size * 1.3, size * 0.8)
        pen.polygon(_flat(blob), fill=_ints(bush))


def _patches(pen: ImageDraw.ImageDraw, rng: np.random.Generator, ground: np.ndarray, horizon: int) -> None:
    """Lighter and darker patches of the ground, in perspective."""
    for _ in range(int(rng.integers(6, 16))):
        depth = rng.random()
        wide = (8 + 26 * rng.random()) * (0.4 + depth)
        tone = _jitter(rng, ground[int(depth * len(ground))], 26)
        blob = _blob(rng, rng.random() * SIZE, horizon + 6 + depth * (SIZE - horizon), wide, wide * 0.22)
        pen.polygon(_flat(blob), fill=_ints(tone))


def _wall(pen: ImageDraw.ImageDraw, rng: np.random.Generator, place: Place, horizon: int) -> None:
    """Wallpaper, images or a window, and the skirting board."""
    paper = _jitter(rng, place.hills, 110)
    step = int(rng.integers(14, 34))
    for x in range(int(rng.integers(0, step)), SIZE, step):
        pen.rectangle([x, 0, x + step // 3, horizon], fill=_ints(mix(place.sky[1], paper, 0.35)))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.random(2) * (SIZE, horizon * 0.5)
        wide, tall = 20 + 34 * rng.random(2)
        frame = _jitter(rng, (140, 104, 76), 60)
        pen.rectangle([x - wide / 2 - 3, y - tall / 2 - 3, x + wide / 2 + 3, y + tall / 2 + 3], fill=_ints(frame))
        pen.rectangle([x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2], fill=_ints(_jitter(rng, paper, 80)))
    pen.rectangle([0, horizon - 7, SIZE, horizon], fill=_ints(_jitter(rng, (232, 224, 208), 20)))


def _rug(pen: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int) -> None:
    x, y = SIZE * (0.2 + 0.6 * rng.random()), horizon + (SIZE - horizon) * (0.4 + 0.4 * rng.random())
    rx, ry = 70 + 60 * rng.random(), (SIZE - horizon) * (0.25 + 0.2 * rng.random())
    one, two = (_jitter(rng, (166, 118, 98), 80) for _ in range(2))
    for share, ink in ((1.0, one), (0.84, two), (0.74, one), (0.4, mix(one, two, 0.4))):
        pen.ellipse([x - rx * share, y - ry * share, x + rx * share, y + ry * share], fill=_ints(ink))


def _details(image: Image.Image, rng: np.random.Generator, place: Place, horizon: int) -> Image.Image:
    """Strokes of grass out of doors, and specks of colour (flowers, leaves, crumbs) on any ground."""
    big = image.resize((2 * SIZE, 2 * SIZE), Image.Resampling.NEAREST)  # so that small things come out smooth
    pen = ImageDraw.Draw(big)
    strokes = rng.random((int(rng.integers(25, 80)), 4))
    for x, depth, lean, tone in strokes if place.setting != "room" else ():
        y = horizon + 6 + depth * (SIZE - horizon)
        size = 3 + 8 * depth
        ink = _ints(mix(place.ground[1], place.clutter, 0.15 + tone * 0.6))
        pen.line(_flat(2 * np.array([x * SIZE, y, x * SIZE + (lean - 0.5) * size, y - size])), fill=ink, width=2)
    ink = _ints(_jitter(rng, (214, 176, 138), 150))
    for x, depth, size in rng.random((int(rng.integers(0, 26)), 3)):
        y, r = horizon + 8 + depth * (SIZE - horizon), 0.6 + (0.6 + 1.2 * size) * depth
        pen.ellipse(_flat(2 * np.array([x * SIZE - r, y - r, x * SIZE + r, y + r * 0.7])), fill=ink)
    return big.reduce(2)


def _cast_shadow(tone: np.ndarray, light: Light, view: View | Stand, half_width: float) -> None:
    """Darken the ground under something standing there: a soft ellipse, drawn a little away from the light."""
    rx, ry = half_width * view.scale, (3 + 0.15 * half_width) * view.scale
    x, y = view.x - light.dx * 0.2 * rx, view.y - 1
    top, bottom = max(0, int(y - ry)), min(SIZE, int(y + ry) + 2)
    left, right = max(0, int(x - rx)), min(SIZE, int(x + rx) + 2)
    if top >= bottom or left >= right:
        return
    down = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)) / np.float32(ry)
    across = (np.arange(left, right, dtype=np.float32) - np.float32(x)) / np.float32(rx)
    inside = np.maximum(1 - (across * across + down * down), 0)
    tone[top:bottom, left:right] *= 1 - np.float32(0.45) * inside * (2 - inside)


def _stone(rng: np.random.Generator, place: Place) -> list[Layer]:
    outline = closed_curve(
        [
            (-11, 0),
            (-10, 7 + 4 * rng.random()),
            (-2, 11 + 4 * rng.random()),
            (7, 8 + 4 * rng.random()),
            (12, 0),
            (0, -2),
        ]
    )
    tone = _jitter(rng, mix((150, 144, 136), place.ground[0], 0.3), 50)
    return [Layer(None, 0, Form([outline], 6, 0.10), tone, below=darker(tone, 0.7))]


def _ball(rng: np.random.Generator, place: Place) -> list[Layer]:
    hues = [(206, 84, 70), (74, 124, 176), (232, 184, 84), (120, 160, 100), (60, 56, 60), (236, 230, 218)]
    one, two = (hues[i] for i in rng.permutation(len(hues))[:2])
    style = rng.integers(3)
    if style == 0:
        marks = [(ellipse(x, 10, 2.2, 12), two) for x in (-7, 0, 7)]
    elif style == 1:
        marks = [(ellipse(x, y, 2.3, 2.3), two) for x, y in ((-5, 6), (3, 4), (6, 11), (-1, 12), (-6, 14), (2, 18))]
    else:
        marks = [(ellipse(0, 10, 12, 3), two)]
    return [Layer(None, 0, Form([ellipse(0, 10, 10, 10)], 8, 0.02), one, marks=marks)]


def _log(rng: np.random.Generator, place: Place) -> list[Layer]:
    bark = _jitter(rng, (124, 92, 66), 40)
    trunk = Limb([(-22, 6, 6), (0, 7 + 2 * rng.random(), 6.5), (22, 6, 6)])
    rings = [(trunk.band(a, a + 0.04), darker(bark, 0.7)) for a in (0.2, 0.45, 0.75)]
    return [
        Layer(None, 0, Form([trunk.outline], 5, 0.14), bark, marks=rings),
        Layer(
            None,
            1,
            Form([ellipse(-22, 6, 3.5, 6)], 3, 0.03),
            (206, 172, 128),
            marks=[(ellipse(-22, 6, 1.6, 3), (170, 128, 90))],
        ),
    ]


def _shrub(rng: np.random.Generator, place: Place) -> list[Layer]:
    green = _jitter(rng, place.clutter, 44)
    blobs = [_blob(rng, x, y, 9, 9) for x, y in ((-9, 8), (8, 8), (0, 15))]
    return [Layer(None, 0, Form(blobs, 6, 0.16), mix(green, (236, 226, 150), 0.15), below=darker(green, 0.75))]


def _mushroom(rng: np.random.Generator, place: Place) -> list[Layer]:
    cap = _jitter(rng, (190, 92, 62), 60)
    stalk = Form([Limb([(0, 0, 3.4), (0, 8, 2.6)]).outline], 3, 0.03)
    top = Form([closed_curve([(-10, 8), (-6, 15), (0, 17), (6, 15), (10, 8), (0, 6.5)])], 5, 0.03)
    dots = [(ellipse(x, y, 1.6, 1.3), (240, 226, 206)) for x, y in ((-4, 12), (1, 14), (5, 10))]
    return [Layer(None, 0, stalk, (228, 214, 190)), Layer(None, 1, top, cap, marks=dots)]


def _cushion(rng: np.random.Generator, place: Place) -> list[Layer]:
    cloth = _jitter(rng, (176, 132, 112), 90)
    outline = closed_curve([(-15, 0), (-14, 10), (-16, 17), (-6, 15), (6, 15), (16, 17), (14, 10), (15, 0), (0, 1)])
    stripes = [(ellipse(x, 8, 1.2, 14), mix(cloth, (244, 236, 220), 0.5)) for x in (-9, -3, 3, 9)]
    return [Layer(None, 0, Form([outline], 8, 0.05), cloth, marks=stripes)]


def _pot(rng: np.random.Generator, place: Place) -> list[Layer]:
    clay, green = _jitter(rng, (190, 118, 82), 50), _jitter(rng, (106, 142, 84), 40)
    pot = closed_curve([(-8, 10), (-8.5, 7), (-6, 0), (0, -1), (6, 0), (8.5, 7), (8, 10), (0, 9)])
    leaves = [
        ellipse(0.55 * (turn - 90) * 0.16, 17, 9, 2.8, turn + 8 * (rng.random() - 0.5))
        for turn in (40.0, 65.0, 90.0, 115.0, 140.0)
    ]
    return [Layer(None, 0, Form(leaves, 3, 0.08), green), Layer(None, 1, Form([pot], 6, 0.04), clay)]


THINGS: dict[str, tuple[Callable[[np.random.Generator, Place], list[Layer]], ...]] = {
    "open": (_stone, _stone, _ball, _log, _shrub, _mushroom),
    "trees": (_stone, _ball, _log, _log, _shrub, _mushroom),
    "room": (_ball, _ball, _cushion, _cushion, _pot, _pot),
}


def _spots(rng: np.random.Generator, horizon: int) -> list[View]:
    """Where things lie about, the farthest first; things far away are smaller."""
    places = sorted(rng.random((int(rng.integers(1, 4)), 2)).tolist())
    return [View(x * SIZE, horizon + 10 + depth * (SIZE - horizon - 14), 0.6 + 0.9 * depth) for depth, x in places]


def _things(rng: np.random.Generator, place: Place, light: Light, spots: list[View]) -> list[Stamp]:
    kinds = THINGS[place.setting]
    return [stamp for view in spots for stamp in _stamped(kinds[rng.integers(len(kinds))](rng, place), view, light)]


def _stamped(layers: list[Layer], view: View, light: Light) -> list[Stamp]:
    brush = Brush(view, light)
    return [stamp for stamp in map(brush.stamp, layers) if stamp is not None]


def _grass(rng: np.random.Generator, place: Place) -> list[Layer]:
    """A tuft that stands before the animal."""
    green = _jitter(rng, mix(place.clutter, (112, 140, 72), 0.6), 36)
    blades = []
    for x, lean, tall in zip(np.linspace(-9, 9, 7), rng.random(7) - 0.5, rng.random(7), strict=True):
        top = 12 + 16 * tall
        blades.append(
            Limb([(x * 0.6, -2, 1.6), (x * 0.8 + lean * 4, top * 0.5, 1.4), (x + lean * 16, top, 0.3)]).outline
        )
    return [Layer(None, 0, Form(blades, 3, 0.08), mix(green, (240, 236, 160), 0.2), below=darker(green, 0.8))]


def _twig(rng: np.random.Generator, place: Place) -> list[Layer]:
    """A leafy twig that hangs into the image."""
    bark, green = (104, 80, 62), _jitter(rng, mix(place.clutter, (112, 140, 72), 0.6), 36)
    leaves = []
    for i in range(6):
        x = 6 + i * 9
        turn = (38 if i % 2 else -38) + 30 * (rng.random() - 0.5)
        leaves.append(ellipse(x + 4, (5 if i % 2 else -5) - 0.05 * x, 8, 3.4, turn))
    stem = Form([Limb([(-12, 4, 1.6), (20, 0, 1.2), (58, -5, 0.6)]).outline], 2, 0.05)
    return [Layer(None, 0, stem, bark), Layer(None, 1, Form(leaves, 3, 0.08), green)]


def _front(rng: np.random.Generator, place: Place, light: Light, stand: Stand) -> list[Stamp]:
    """Things between us and the animal: they hide a little of it, seldom much."""
    stamps: list[Stamp] = []
    for _ in range(int(rng.integers(0, 4))):
        x = stand.x + (rng.random() - 0.5) * 190 * stand.scale
        view = View(x, stand.y + 6 + 12 * rng.random(), 0.7 + 0.6 * rng.random())
        stamps += _stamped((_ball if place.setting == "room" else _grass)(rng, place), view, light)
    if rng.random() < 0.3:
        side = -1.0 if rng.random() < 0.5 else 1.0
        edge = 0 if side > 0 else SIZE
        stamps += _stamped(_twig(rng, place), View(edge, 14 + 60 * rng.random(), 0.8 + 0.5 * rng.random(), side), light)
    return stamps


def scene(rng: np.random.Generator, stand: Stand, light: Light) -> Scene:
    place = PLACES[tuple(PLACES)[rng.integers(len(PLACES))]]
    horizon = min(int(70 + 70 * rng.random()), int(stand.y) - 12)
    image = _details(_far_view(rng, place, horizon), rng, place, horizon)
    tone = 1 + 0.06 * _clouding(rng, 5) + 0.012 * _clouding(rng, 70)
    spots = _spots(rng, horizon)
    for spot in spots:
        _cast_shadow(tone, light, spot, 17)
    _cast_shadow(tone, light, stand, 68)
    canvas = np.asarray(image, np.float32) * tone[:, :, None] * np.asarray(light.colour, np.float32)
    canvas = np.clip(canvas + np.float32(0.5), 0, 255).astype(np.uint8)
    for stamp in _things(rng, place, light, spots):
        lay(canvas, stamp)
    return Scene(canvas, _front(rng, place, light, stand))
