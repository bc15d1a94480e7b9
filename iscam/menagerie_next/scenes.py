"""Backgrounds: a place, its light, things on the ground and things in front of the animal.

A scene is drawn from the seed alone. It knows where an animal stands, for the shadow on the ground, but not which
species it is. So a scene reveals nothing about the species.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from iscam.menagerie.paint import SIZE, Light, Placement, Stamp, blend
from iscam.menagerie.places import PLACES, Place
from iscam.menagerie.scenes import (
    Scene,
    background,
    cast_shadow,
    smooth_noise,
    stamps,
    things_on_the_ground,
    with_details,
)
from iscam.menagerie.things import FRONT_THINGS, post, twig


def scene(rng: np.random.Generator, stand: Placement, light: Light, blur: float = 0.0) -> Scene:
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


def random_spots(rng: np.random.Generator, horizon: int) -> list[Placement]:
    """Where things lie on the ground, the farthest first. Distant things are smaller."""
    spots = sorted(rng.random((int(rng.integers(1, 6)), 2)).tolist())
    return [Placement(x * SIZE, horizon + 10 + depth * (SIZE - horizon - 14), 0.7 + 1.1 * depth) for depth, x in spots]


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
