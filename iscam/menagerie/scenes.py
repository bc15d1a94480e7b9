"""Backgrounds: a place, its light, things on the ground and things in front of the animal.

A scene is drawn from the seed alone. It knows where an animal stands, for the shadow on the ground, but not which
species it is. So a scene reveals nothing about the species.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from iscam.menagerie.paint import SIZE, Brush, Layer, Light, Placement, Stamp, blend
from iscam.menagerie.places import PLACES, Place
from iscam.menagerie.shapes import Colour, Points, blob, closed_curve, jitter, mix
from iscam.menagerie.things import FRONT_THINGS, THINGS, post, twig


class Scene(NamedTuple):
    """The background (224, 224, 3) uint8, and the stamps that lie in front of the animal."""

    canvas: np.ndarray
    front: list[Stamp]


def scene(rng: np.random.Generator, stand: Placement, light: Light, blur: float) -> Scene:
    """Draw a scene for an animal that stands at `stand`. Every drawing depends on the order of the random numbers."""
    place = PLACES[tuple(PLACES)[rng.integers(len(PLACES))]]
    horizon = min(int(70 + 70 * rng.random()), int(stand.y) - 12)
    image = with_details(background(rng, place, horizon), rng, place, horizon)
    tone = 1 + 0.06 * smooth_noise(rng, 5) + 0.012 * smooth_noise(rng, 70)
    spots = random_spots(rng, horizon)
    for spot in spots:
        cast_shadow(tone, light, spot, 17)
    cast_shadow(tone, light, stand, 68)
    values = np.asarray(image, np.float32) * tone[:, :, None]
    values *= np.asarray(light.colour, np.float32)
    values += np.float32(0.5)
    canvas = np.clip(values, 0, 255, out=values).astype(np.uint8)
    for stamp in things_on_the_ground(rng, place, light, spots, blur):
        blend(canvas, stamp)
    if blur:
        canvas = np.asarray(Image.fromarray(canvas).filter(ImageFilter.BoxBlur(blur))).copy()
    return Scene(canvas, things_in_front(rng, place, light, stand, blur))


def background(rng: np.random.Generator, place: Place, horizon: int) -> Image.Image:
    """The ground, and above it a landscape or a wall, out of focus."""
    sky = gradient(jitter(rng, place.sky[0], 26), jitter(rng, place.sky[1], 22), horizon)
    ground = gradient(jitter(rng, place.ground[0], 24), jitter(rng, place.ground[1], 24), SIZE - horizon)
    rows = np.concatenate([sky, ground])
    image = Image.fromarray(np.repeat(rows[:, None], SIZE, axis=1).astype(np.uint8))
    if place.setting == "room":
        draw_wall(ImageDraw.Draw(image), rng, place, horizon)
        image = image.filter(ImageFilter.BoxBlur(1.5))
        draw_rug(ImageDraw.Draw(image), rng, horizon)
    else:
        draw_landscape(ImageDraw.Draw(image), rng, place, horizon, tuple(sky[-1].tolist()), tuple(ground[0].tolist()))
        image = image.filter(ImageFilter.BoxBlur(2 + 2 * rng.random()))
        draw_patches(ImageDraw.Draw(image), rng, ground, horizon)
    return image.filter(ImageFilter.BoxBlur(0.7))


def gradient(top: Colour, bottom: Colour, rows: int) -> np.ndarray:
    """Colours (rows, 3) from top to bottom."""
    ramp = np.linspace(0, 1, max(rows, 1), dtype=np.float32)[:, None]
    return np.asarray(top, np.float32) * (1 - ramp) + np.asarray(bottom, np.float32) * ramp


def smooth_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Noise in about [-1, 1]: a small random grid, upsampled."""
    grid = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    return np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32) / 127.5 - 1


def whole_pixels(points: Points) -> list[int]:
    return np.rint(points).astype(int).ravel().tolist()


def ink(colour: Colour) -> tuple[int, ...]:
    return tuple(int(c) for c in colour)


def draw_landscape(
    pen: ImageDraw.ImageDraw, rng: np.random.Generator, place: Place, horizon: int, haze: Colour, ground: Colour
) -> None:
    """Clouds, two ranges of hills, trunks and bushes."""
    draw_clouds(pen, rng, place, horizon, haze)
    hills = jitter(rng, place.hills, 30)
    draw_hills(pen, rng, hills, horizon, haze)
    pen.rectangle([0, horizon, SIZE, horizon + 3], fill=ink(ground))
    draw_trunks(pen, rng, place, horizon, hills)
    for _ in range(int(rng.integers(3, 9))):
        size = 8 + 22 * rng.random()
        colour = jitter(rng, mix(place.clutter, hills, rng.random() * 0.8), 30)
        bush = blob(rng, rng.random() * SIZE, horizon - size * 0.2, size * 1.3, size * 0.8)
        pen.polygon(whole_pixels(bush), fill=ink(colour))


def draw_clouds(pen: ImageDraw.ImageDraw, rng: np.random.Generator, place: Place, horizon: int, haze: Colour) -> None:
    for _ in range(int(rng.integers(0, 4)) if place.setting == "open" else 0):
        x, y, wide = rng.random(3) * (SIZE, horizon * 0.7, 30)
        for shift in (-0.8, 0.0, 0.9):
            cloud = blob(rng, x + shift * (wide + 12), y, wide + 14, 5 + 0.3 * wide)
            pen.polygon(whole_pixels(cloud), fill=ink(mix(haze, (255, 253, 248), 0.7)))


def draw_hills(pen: ImageDraw.ImageDraw, rng: np.random.Generator, hills: Colour, horizon: int, haze: Colour) -> None:
    for share in (0.45, 0.0):
        heights = horizon - (6 + 34 * rng.random(6)) * (0.4 + share * 1.6)
        crest = np.stack([np.linspace(-30, SIZE + 30, 6), heights], axis=1)
        outline = np.concatenate([[[-60, horizon]], crest, [[SIZE + 60, horizon]]])
        pen.polygon(whole_pixels(closed_curve(outline)), fill=ink(mix(hills, haze, share)))


def draw_trunks(pen: ImageDraw.ImageDraw, rng: np.random.Generator, place: Place, horizon: int, hills: Colour) -> None:
    for _ in range(int(rng.integers(2, 7)) if place.setting == "trees" else 0):
        x, wide = rng.random() * SIZE, 4 + 9 * rng.random()
        bark = mix((92, 74, 62), hills, 0.25 + 0.5 * rng.random())
        bottom = horizon + 8
        trunk = np.array([[x - wide, bottom], [x - wide * 0.6, 0], [x + wide * 0.6, 0], [x + wide, bottom]])
        pen.polygon(whole_pixels(trunk), fill=ink(bark))


def draw_patches(pen: ImageDraw.ImageDraw, rng: np.random.Generator, ground: np.ndarray, horizon: int) -> None:
    """Lighter and darker patches of the ground, in perspective."""
    for _ in range(int(rng.integers(6, 16))):
        depth = rng.random()
        wide = (8 + 26 * rng.random()) * (0.4 + depth)
        tone = jitter(rng, ground[int(depth * len(ground))], 26)
        patch = blob(rng, rng.random() * SIZE, horizon + 6 + depth * (SIZE - horizon), wide, wide * 0.22)
        pen.polygon(whole_pixels(patch), fill=ink(tone))


def draw_wall(pen: ImageDraw.ImageDraw, rng: np.random.Generator, place: Place, horizon: int) -> None:
    """Wallpaper, frames or a window on the wall, and the skirting board."""
    paper = jitter(rng, place.hills, 110)
    step = int(rng.integers(14, 34))
    for x in range(int(rng.integers(0, step)), SIZE, step):
        pen.rectangle([x, 0, x + step // 3, horizon], fill=ink(mix(place.sky[1], paper, 0.35)))
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.random(2) * (SIZE, horizon * 0.5)
        wide, tall = 20 + 34 * rng.random(2)
        frame = jitter(rng, (140, 104, 76), 60)
        pen.rectangle([x - wide / 2 - 3, y - tall / 2 - 3, x + wide / 2 + 3, y + tall / 2 + 3], fill=ink(frame))
        pen.rectangle([x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2], fill=ink(jitter(rng, paper, 80)))
    pen.rectangle([0, horizon - 7, SIZE, horizon], fill=ink(jitter(rng, (232, 224, 208), 20)))


def draw_rug(pen: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int) -> None:
    x, y = SIZE * (0.2 + 0.6 * rng.random()), horizon + (SIZE - horizon) * (0.4 + 0.4 * rng.random())
    rx, ry = 70 + 60 * rng.random(), (SIZE - horizon) * (0.25 + 0.2 * rng.random())
    one, two = (jitter(rng, (166, 118, 98), 80) for _ in range(2))
    for share, colour in ((1.0, one), (0.84, two), (0.74, one), (0.4, mix(one, two, 0.4))):
        pen.ellipse([x - rx * share, y - ry * share, x + rx * share, y + ry * share], fill=ink(colour))


def with_details(image: Image.Image, rng: np.random.Generator, place: Place, horizon: int) -> Image.Image:
    """Add strokes of grass outdoors, and specks of colour (flowers, leaves, crumbs) on any ground."""
    big = image.resize((2 * SIZE, 2 * SIZE), Image.Resampling.NEAREST)  # small things get smooth edges
    pen = ImageDraw.Draw(big)
    strokes = rng.random((int(rng.integers(25, 80)), 4))
    for x, depth, lean, tone in strokes if place.setting != "room" else ():
        y = horizon + 6 + depth * (SIZE - horizon)
        size = 3 + 8 * depth
        stroke = 2 * np.array([x * SIZE, y, x * SIZE + (lean - 0.5) * size, y - size])
        pen.line(whole_pixels(stroke), fill=ink(mix(place.ground[1], place.clutter, 0.15 + tone * 0.6)), width=2)
    colour = ink(jitter(rng, (214, 176, 138), 150))
    for x, depth, size in rng.random((int(rng.integers(0, 26)), 3)):
        y, r = horizon + 8 + depth * (SIZE - horizon), 0.6 + (0.6 + 1.2 * size) * depth
        pen.ellipse(whole_pixels(2 * np.array([x * SIZE - r, y - r, x * SIZE + r, y + r * 0.7])), fill=colour)
    return big.reduce(2)


def cast_shadow(tone: np.ndarray, light: Light, stand: Placement, half_width: float) -> None:
    """Darken `tone` under a standing thing: a soft ellipse, moved a little away from the light."""
    rx, ry = half_width * stand.scale, (3 + 0.15 * half_width) * stand.scale
    x, y = stand.x - light.dx * 0.2 * rx, stand.y - 1
    top, bottom = max(0, int(y - ry)), min(SIZE, int(y + ry) + 2)
    left, right = max(0, int(x - rx)), min(SIZE, int(x + rx) + 2)
    if top >= bottom or left >= right:
        return
    down = (np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(y)) / np.float32(ry)
    across = (np.arange(left, right, dtype=np.float32) - np.float32(x)) / np.float32(rx)
    inside = np.maximum(1 - (across * across + down * down), 0)
    tone[top:bottom, left:right] *= 1 - np.float32(0.45) * inside * (2 - inside)


def random_spots(rng: np.random.Generator, horizon: int) -> list[Placement]:
    """Where things lie on the ground, the farthest first. Distant things are smaller."""
    spots = sorted(rng.random((int(rng.integers(1, 6)), 2)).tolist())
    return [Placement(x * SIZE, horizon + 10 + depth * (SIZE - horizon - 14), 0.7 + 1.1 * depth) for depth, x in spots]


def things_on_the_ground(
    rng: np.random.Generator, place: Place, light: Light, spots: list[Placement], blur: float
) -> list[Stamp]:
    kinds = THINGS[place.setting]
    return [stamp for spot in spots for stamp in stamps(kinds[rng.integers(len(kinds))](rng, place), spot, light, blur)]


def things_in_front(rng: np.random.Generator, place: Place, light: Light, stand: Placement, blur: float) -> list[Stamp]:
    """Things between the viewer and the animal. They usually hide only a little of it."""
    front: list[Stamp] = []
    kinds = FRONT_THINGS[place.setting]
    for _ in range(int(rng.integers(0, 5))):
        x = stand.x + (rng.random() - 0.5) * 210 * stand.scale
        spot = Placement(x, stand.y + 6 + 12 * rng.random(), (0.8 + 0.6 * rng.random()) * stand.scale)
        front += stamps(kinds[rng.integers(len(kinds))](rng, place), spot, light, blur)
    if rng.random() < 0.2:
        x = stand.x + (rng.random() - 0.5) * 180 * stand.scale
        front += stamps(post(rng, place), Placement(x, stand.y + 12, stand.scale), light, blur)
    if rng.random() < 0.3:
        side = -1.0 if rng.random() < 0.5 else 1.0
        edge = 0 if side > 0 else SIZE
        layers = twig(rng, place)
        front += stamps(layers, Placement(edge, 14 + 90 * rng.random(), 0.9 + 0.8 * rng.random(), side), light, blur)
    return front


def stamps(layers: list[Layer], placement: Placement, light: Light, blur: float) -> list[Stamp]:
    """The layers of one thing as stamps, without those outside the image."""
    brush = Brush(placement, light, blur=blur)
    return [stamp for stamp in map(brush.stamp, layers) if stamp is not None]
