"""Things in a scene: what lies on the ground, and what stands in front of the animal."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from iscam.menagerie.paint import Form, Layer
from iscam.menagerie.places import Place
from iscam.menagerie.shapes import Limb, blob, closed_curve, darker, ellipse, jitter, mix

#: A function that makes the layers of one thing in a kind of place.
Thing = Callable[[np.random.Generator, Place], list[Layer]]


def stone(rng: np.random.Generator, place: Place) -> list[Layer]:
    outline = closed_curve([
        (-11, 0), (-10, 7 + 4 * rng.random()), (-2, 11 + 4 * rng.random()), (7, 8 + 4 * rng.random()), (12, 0), (0, -2),
    ])  # fmt: skip
    tone = jitter(rng, mix((150, 144, 136), place.ground[0], 0.3), 50)
    return [Layer(None, 0, Form([outline], 6, 0.10), tone, below=darker(tone, 0.7))]


def ball(rng: np.random.Generator, place: Place) -> list[Layer]:
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


def log(rng: np.random.Generator, place: Place) -> list[Layer]:
    bark = jitter(rng, (124, 92, 66), 40)
    trunk = Limb([(-22, 6, 6), (0, 7 + 2 * rng.random(), 6.5), (22, 6, 6)])
    rings = [(trunk.band(a, a + 0.04), darker(bark, 0.7)) for a in (0.2, 0.45, 0.75)]
    end = Form([ellipse(-22, 6, 3.5, 6)], 3, 0.03)
    core = [(ellipse(-22, 6, 1.6, 3), (170, 128, 90))]
    return [
        Layer(None, 0, Form([trunk.outline], 5, 0.14), bark, marks=rings),
        Layer(None, 1, end, (206, 172, 128), marks=core),
    ]


def shrub(rng: np.random.Generator, place: Place) -> list[Layer]:
    green = jitter(rng, place.clutter, 44)
    blobs = [blob(rng, x, y, 9, 9) for x, y in ((-9, 8), (8, 8), (0, 15))]
    return [Layer(None, 0, Form(blobs, 6, 0.16), mix(green, (236, 226, 150), 0.15), below=darker(green, 0.75))]


def mushroom(rng: np.random.Generator, place: Place) -> list[Layer]:
    cap = jitter(rng, (190, 92, 62), 60)
    stalk = Form([Limb([(0, 0, 3.4), (0, 8, 2.6)]).outline], 3, 0.03)
    top = Form([closed_curve([(-10, 8), (-6, 15), (0, 17), (6, 15), (10, 8), (0, 6.5)])], 5, 0.03)
    dots = [(ellipse(x, y, 1.6, 1.3), (240, 226, 206)) for x, y in ((-4, 12), (1, 14), (5, 10))]
    return [Layer(None, 0, stalk, (228, 214, 190)), Layer(None, 1, top, cap, marks=dots)]


def cushion(rng: np.random.Generator, place: Place) -> list[Layer]:
    cloth = jitter(rng, (176, 132, 112), 90)
    outline = closed_curve([(-15, 0), (-14, 10), (-16, 17), (-6, 15), (6, 15), (16, 17), (14, 10), (15, 0), (0, 1)])
    stripes = [(ellipse(x, 8, 1.2, 14), mix(cloth, (244, 236, 220), 0.5)) for x in (-9, -3, 3, 9)]
    return [Layer(None, 0, Form([outline], 8, 0.05), cloth, marks=stripes)]


def potted_plant(rng: np.random.Generator, place: Place) -> list[Layer]:
    clay, green = jitter(rng, (190, 118, 82), 50), jitter(rng, (106, 142, 84), 40)
    pot = closed_curve([(-8, 10), (-8.5, 7), (-6, 0), (0, -1), (6, 0), (8.5, 7), (8, 10), (0, 9)])
    leaves = [
        ellipse(0.55 * (turn - 90) * 0.16, 17, 9, 2.8, turn + 8 * (rng.random() - 0.5))
        for turn in (40.0, 65.0, 90.0, 115.0, 140.0)
    ]
    return [Layer(None, 0, Form(leaves, 3, 0.08), green), Layer(None, 1, Form([pot], 6, 0.04), clay)]


def grass(rng: np.random.Generator, place: Place) -> list[Layer]:
    """A tuft of grass in front of the animal."""
    green = jitter(rng, mix(place.clutter, (112, 140, 72), 0.6), 36)
    blades = []
    for x, lean, tall in zip(np.linspace(-9, 9, 7), rng.random(7) - 0.5, rng.random(7), strict=True):
        top = 12 + 16 * tall
        blade = Limb([(x * 0.6, -2, 1.6), (x * 0.8 + lean * 4, top * 0.5, 1.4), (x + lean * 16, top, 0.3)])
        blades.append(blade.outline)
    return [Layer(None, 0, Form(blades, 3, 0.08), mix(green, (240, 236, 160), 0.2), below=darker(green, 0.8))]


def reeds(rng: np.random.Generator, place: Place) -> list[Layer]:
    """A few tall thin blades in front of the animal."""
    green = jitter(rng, mix(place.clutter, (150, 150, 84), 0.5), 44)
    blades = []
    for x, lean, tall in zip(np.linspace(-12, 12, 5), rng.random(5) - 0.5, rng.random(5), strict=True):
        top = 40 + 50 * tall
        blades.append(Limb([(x, -2, 1.9), (x + lean * 10, top * 0.5, 1.7), (x + lean * 34, top, 0.4)]).outline)
    return [Layer(None, 0, Form(blades, 3, 0.08), mix(green, (240, 236, 160), 0.2), below=darker(green, 0.8))]


def post(rng: np.random.Generator, place: Place) -> list[Layer]:
    """A thin trunk or a post that reaches out of the image."""
    bark = jitter(rng, (118, 96, 76) if place.setting != "room" else (176, 150, 122), 60)
    lean = 16 * (rng.random() - 0.5)
    wide = 3.5 + 4 * rng.random()
    trunk = Limb([(0, -4, wide * 1.15), (lean * 0.3, 90, wide), (lean, 260, wide * 0.9)])
    knots = [(trunk.band(a, a + 0.012), darker(bark, 0.75)) for a in (0.15, 0.3, 0.42, 0.6, 0.75)]
    return [Layer(None, 0, Form([trunk.outline], 5, 0.12), bark, marks=knots)]


def twig(rng: np.random.Generator, place: Place) -> list[Layer]:
    """A twig with leaves that hangs into the image."""
    bark, green = (104, 80, 62), jitter(rng, mix(place.clutter, (112, 140, 72), 0.6), 36)
    leaves = []
    for i in range(6):
        x = 6 + i * 9
        turn = (38 if i % 2 else -38) + 30 * (rng.random() - 0.5)
        leaves.append(ellipse(x + 4, (5 if i % 2 else -5) - 0.05 * x, 8, 3.4, turn))
    stem = Form([Limb([(-12, 4, 1.6), (20, 0, 1.2), (58, -5, 0.6)]).outline], 2, 0.05)
    return [Layer(None, 0, stem, bark), Layer(None, 1, Form(leaves, 3, 0.08), green)]


#: Setting of a place -> the things that may stand in front of the animal.
FRONT_THINGS: dict[str, tuple[Thing, ...]] = {
    "open": (grass, grass, grass, reeds, stone),
    "trees": (grass, grass, shrub, reeds, stone),
    "room": (ball, ball, cushion, potted_plant),
}

#: Setting of a place -> the things that may lie there, common ones more than once.
THINGS: dict[str, tuple[Thing, ...]] = {
    "open": (stone, stone, ball, log, shrub, mushroom),
    "trees": (stone, ball, log, log, shrub, mushroom),
    "room": (ball, ball, cushion, cushion, potted_plant, potted_plant),
}
