"""The parts that dogs and hoofed animals share: all values of legs, coats and tails.

The trunks of all four-legged builds lie between x = -50 and x = 52. The back is near y = 97 and the belly near y = 50.
"""

from __future__ import annotations

import numpy as np

from iscam.menagerie.paint import Form, Layer
from iscam.menagerie.parts import BEHIND, BLACK, FAR, HEAD, NEAR, ON_BODY, Painter, Rig
from iscam.menagerie.shapes import Colour, Limb, Points, closed_curve, darker, ellipse, mix

# ---------------------------------------------------------------------------------------------------------------- legs


def foreleg(rig: Rig, swing: float, shift: float, width: float) -> Limb:
    x, y = rig.shoulder[0] + shift, rig.shoulder[1]
    raised = max(0.0, abs(swing) - 11) * 0.8
    return Limb([
        (x - 2, y, 14 * width),
        (x - 5 + 0.2 * swing, y * 0.68, 10 * width),
        (x - 1 + 0.7 * swing, y * 0.34 + raised, 7 * width),
        (x - 1 + swing, 8 + raised, 5.8 * width),
        (x + 7 + swing, 4.5 + raised, 5 * width),
    ])  # fmt: skip


def hindleg(rig: Rig, swing: float, shift: float, width: float) -> Limb:
    x, y = rig.hip[0] + shift, rig.hip[1]
    raised = max(0.0, abs(swing) - 11) * 0.6
    return Limb([
        (x - 2, y + 2, 15 * width),
        (x + 6 + 0.15 * swing, y * 0.72, 14 * width),
        (x + 5 + 0.4 * swing, y * 0.52, 9.5 * width),
        (x - 9 + 0.75 * swing, y * 0.31 + raised, 6.5 * width),
        (x - 5 + swing, 8 + raised, 5.6 * width),
        (x + 4 + swing, 4.5 + raised, 5 * width),
    ])  # fmt: skip


def below(height: float) -> Points:
    """The area below a height, with an uneven upper edge."""
    return np.array([(-200, -20), (200, -20), (200, height), (60, height + 4), (0, height - 3), (-200, height)])


def legs(rig: Rig, width: float, colour: Colour, bands: list[tuple[Points, Colour]]) -> list[Layer]:
    """Four legs of a colour, with bands of other colours."""
    near_fore, far_fore, near_hind, far_hind = rig.pose.stride
    layers = []
    for order, tone, fore, hind, shift in (
        (FAR, 0.74, far_fore, far_hind, 8.0),
        (NEAR, 1.0, near_fore, near_hind, 0.0),
    ):
        for leg in (hindleg(rig, hind, shift, width), foreleg(rig, fore, shift, width)):
            melt = ellipse(leg.centre[0, 0], leg.centre[0, 1] + 8, 26, 21) if order == NEAR else None
            marks = [(area, darker(band, tone)) for area, band in bands]
            layers.append(Layer("legs", order, Form([leg.outline], 7), darker(colour, tone), melt=melt, marks=marks))
    return layers


def socked_legs(rig: Rig) -> list[Layer]:
    """The colour of the coat, with white feet."""
    return legs(rig, 1.0, rig.pose.coat, [(below(0.32 * rig.hip[1]), rig.pose.pale)])


def black_legs(rig: Rig) -> list[Layer]:
    """Long black stockings."""
    return legs(rig, 1.08, rig.pose.coat, [(below(0.66 * rig.hip[1]), BLACK)])


def pale_legs(rig: Rig) -> list[Layer]:
    """Cream legs."""
    return legs(rig, 1.08, mix(rig.pose.pale, rig.pose.coat, 0.12), [(below(0.66 * rig.hip[1]), rig.pose.pale)])


def slender_legs(rig: Rig) -> list[Layer]:
    return legs(rig, 0.84, rig.pose.coat, [(below(0.16 * rig.hip[1]), rig.pose.pale)])


def hoofed_legs(rig: Rig) -> list[Layer]:
    """The colour of the coat, paler below, with black hooves."""
    shin = mix(rig.pose.coat, rig.pose.pale, 0.55)
    return legs(rig, 0.94, rig.pose.coat, [(below(0.5 * rig.hip[1]), shin), (below(9), BLACK)])


def banded_legs(rig: Rig) -> list[Layer]:
    """White legs with black bands all the way down."""
    bands: list[tuple[Points, Colour]] = []
    for y in range(18, 86, 12):
        band = np.array([(-200, y), (-40, y + 1), (0, y - 1), (40, y + 1), (200, y), (200, y + 6), (-200, y + 6)])
        bands.append((band, BLACK))
    return legs(rig, 0.98, rig.pose.pale, [*bands, (below(9), BLACK)])


# --------------------------------------------------------------------------------------------------------------- coats


def saddled_coat(rig: Rig) -> list[Layer]:
    """A darker back that fades into the flanks."""
    patch = closed_curve([(-62, 112), (34, 116), (30, 84), (10, 74), (-14, 72), (-40, 72), (-60, 70)])
    return [Layer("coat", ON_BODY, rig.body, darker(rig.pose.coat, 0.72), patch=[patch], feather=3.5)]


def black_backed_coat(rig: Rig) -> list[Layer]:
    """A black back with silver hairs, from the nape to the tail."""
    p = rig.pose
    patch = closed_curve([
        (-64, 112), (10, 118), (38, 128), (34, 100), (24, 78), (8, 64), (-14, 70), (-34, 66), (-62, 74),
    ])  # fmt: skip
    marks = []
    for a, b, c in p.spots[:24]:
        x, y = -48 + 78 * a, 72 + 30 * b
        hair = Limb([(x, y, 0.4), (x - 4 - 2 * c, y - 1.5, 0.6), (x - 9, y - 4, 0.3)])
        marks.append((hair.outline, (160, 156, 156)))
    return [Layer("coat", ON_BODY, rig.body, BLACK, patch=[patch], feather=0.8, marks=marks)]


def blotched_coat(rig: Rig) -> list[Layer]:
    """Large black and white blotches."""
    p = rig.pose
    blotches, tones = [], (BLACK, p.pale, BLACK, p.pale, BLACK)
    for i in range(15):
        a, b, c = p.spots[i]
        x, y = -46 + 72 * ((i % 5) + 0.2 + 0.6 * a) / 5, 54 + 46 * ((i // 5) + 0.2 + 0.6 * b) / 3
        blotches.append((spot(rig, i, x, y, 8.5 + 4 * c), tones[(i + i // 5) % 5]))
    patch = [outline for outline, _ in blotches]
    return [Layer("coat", ON_BODY, rig.body, p.dark, patch=patch, marks=blotches)]


def spotted_coat(rig: Rig) -> list[Layer]:
    """A white coat with round black spots."""
    p = rig.pose
    spots = []
    for i in range(30):
        a, b, c = p.spots[i]
        x, y = -50 + 92 * ((i % 7) + 0.5 * (i // 7 % 2) + 0.5 * a) / 7, 50 + 50 * ((i // 7) + 0.1 + 0.6 * b) / 4
        spots.append((spot(rig, i, x, y, 3.4 + 1.8 * c), BLACK))
    x, y = rig.skull
    spots += [(spot(rig, i, x - 12 - 5 * i, y - 14 - 8 * i, 3.6), BLACK) for i in range(3)]
    dots = [
        spot(rig, i, x, y, 2.6) for i, (x, y) in enumerate(((-9, 4), (-3, 9), (-2, -2), (4, 5), (-10, -5), (3, -8)))
    ]
    head = [(rig.on_head(dot), BLACK) for dot in dots]
    return [
        Layer("coat", ON_BODY, rig.body, p.pale, patch=[behind_the_chest(rig)], feather=1.0, marks=spots),
        Layer("coat", HEAD, rig.head, p.pale, marks=head),
    ]


def behind_the_chest(rig: Rig) -> Points:
    """The trunk and the neck without the chest and the throat."""
    x, y = rig.skull
    return closed_curve([
        (-70, 112), (0, 118), (x - 30, y + 10), (x + 2, y + 16), (x - 2, y - 12), (38, 94), (34, 72), (28, 30),
        (-20, 38), (-70, 50),
    ])  # fmt: skip


def spot(rig: Rig, number: int, x: float, y: float, size: float) -> Points:
    """An irregular round outline. Its shape depends on the pose and the number."""
    angles = np.linspace(0, 2 * np.pi, 8)[:-1]
    reach = size * (0.75 + 0.5 * rig.pose.spots[32 + number, [0, 1, 2, 0, 2, 1, 0]])
    return closed_curve(np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1))


def banded_coat(rig: Rig) -> list[Layer]:
    """A black band along the flank above a white belly."""
    band = Limb([(43, 71, 4), (24, 68, 8), (0, 71, 9), (-22, 76, 8), (-44, 80, 5)]).outline
    belly = closed_curve([(48, 66), (24, 64), (0, 67), (-24, 72), (-46, 76), (-46, 48), (0, 34), (40, 34)])
    return [Layer("coat", ON_BODY, rig.body, rig.pose.pale, patch=[band, belly], feather=0.4, marks=[(band, BLACK)])]


def striped_coat(rig: Rig) -> list[Layer]:
    """White and black stripes across the trunk."""
    p = rig.pose
    stripes = []
    for i, x in enumerate(np.linspace(-50, 22, 8)):
        lean = -8 + 1.6 * i
        wide = 3.1 + 1.2 * p.spots[i, 0]
        stripe = Limb([
            (x + lean, 110, wide), (x + 2 * p.spots[i, 1], 86, wide), (x + 1, 66, wide * 0.8), (x - 2, 44, 0.8),
        ])  # fmt: skip
        stripes.append((stripe.outline, BLACK))
    x, y = rig.skull
    for share in (0.3, 0.55, 0.8):
        cx, cy = 34 + share * (x - 38), 92 + share * (y - 96)
        stripes.append((Limb([(cx - 26, cy + 2, 3.2), (cx, cy, 3.2), (cx + 18, cy - 6, 1.2)]).outline, BLACK))
    head = []
    for i in range(4):
        line = [(-12.0 + 6 * i, 16.0, 1.5), (-10.0 + 5 * i, 4.0, 1.5), (-6 + 4.5 * i, -12.0, 0.5)]
        head.append((rig.head_limb(line).outline, BLACK))
    return [
        Layer("coat", ON_BODY, rig.body, p.pale, patch=[behind_the_chest(rig)], feather=1.0, marks=stripes),
        Layer("coat", HEAD, rig.head, p.pale, marks=head),
    ]


# --------------------------------------------------------------------------------------------------------------- tails


def curled_tail(rig: Rig) -> list[Layer]:
    """A tight ring above the back."""
    p = rig.pose
    x, y = rig.hip[0] - 3, rig.hip[1] + 37
    angles = np.deg2rad(np.array([222, 180, 135, 90, 45, 0, -45, -90, -140]) - 6 * p.tail)
    radius = np.linspace(22, 9, 9) + p.tail
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles), np.linspace(9, 5.5, 9)], 1)
    tail = Limb(np.concatenate([[[rig.hip[0] - 8, rig.hip[1] + 10, 9]], points]))
    return [Layer("tail", NEAR, Form([tail.outline], 5, 0.1), p.coat, marks=[(tail.band(0.72, 1), p.pale)])]


def brush_tail(rig: Rig) -> list[Layer]:
    """A bushy hanging tail with a white tip, like a fox's."""
    p = rig.pose
    x, y = rig.hip
    s = 7 * p.tail
    tail = Limb([
        (x - 8, y + 10, 7), (x - 20, y + 2, 11), (x - 33, y - 18 + s * 0.5, 17),
        (x - 42, y - 40 + s, 17), (x - 49, y - 56 + 1.6 * s, 11), (x - 55, y - 64 + 2 * s, 2),
    ], shag=0.09)  # fmt: skip
    return [Layer("tail", BEHIND, Form([tail.outline], 9, 0.18), p.coat, marks=[(tail.band(0.66, 1), p.pale)])]


def whip_tail(rig: Rig) -> list[Layer]:
    """A thin tail that hangs down and turns up at its end."""
    x, y = rig.hip
    s = 5 * rig.pose.tail
    tail = Limb([
        (x - 10, y + 6, 7), (x - 22 - s, y - 12, 5.6), (x - 27 - s, y - 36, 4.6),
        (x - 33 - 2 * s, y - 54, 4), (x - 46 - 2 * s, y - 58, 3.2), (x - 54 - 2 * s, y - 48, 1.6),
    ])  # fmt: skip
    return [Layer("tail", BEHIND, Form([tail.outline], 4), darker(rig.pose.coat, 0.86))]


def plume_tail(rig: Rig) -> list[Layer]:
    """A raised curved tail of long hair with a white tip."""
    p = rig.pose
    x, y = rig.hip
    s = 5 * p.tail
    tail = Limb([
        (x - 6, y + 12, 8), (x - 22, y + 18 + s, 11), (x - 38, y + 34 + s, 15),
        (x - 46, y + 56 + s, 14), (x - 45, y + 76 + s, 9), (x - 38, y + 90 + s, 2),
    ], shag=0.1)  # fmt: skip
    return [
        Layer("tail", BEHIND, Form([tail.outline], 9, 0.18), darker(p.coat, 0.9), marks=[(tail.band(0.64, 1), p.pale)])
    ]


def tufted_tail(rig: Rig) -> list[Layer]:
    """A thin tail with a large black tuft."""
    x, y = rig.hip
    s = 6 * rig.pose.tail
    tail = Limb([(x - 10, y + 12, 5), (x - 22 - s, y - 2, 4), (x - 27 - s, y - 24, 3.4), (x - 30 - s, y - 34, 3)])
    tuft = Limb([
        (x - 29 - s, y - 28, 4), (x - 32 - s, y - 42, 9.5), (x - 34 - 1.4 * s, y - 56, 8.5),
        (x - 38 - 1.6 * s, y - 70, 1.5),
    ], shag=0.12)  # fmt: skip
    return [
        Layer("tail", BEHIND, Form([tail.outline], 4), darker(rig.pose.coat, 0.86)),
        Layer("tail", BEHIND, Form([tuft.outline], 6, 0.16), BLACK),
    ]


#: (part, value) -> the function that draws it.
PAINTERS: dict[tuple[str, str], Painter] = {
    ("legs", "socked"): socked_legs,
    ("legs", "black"): black_legs,
    ("legs", "pale"): pale_legs,
    ("legs", "slender"): slender_legs,
    ("legs", "hoofed"): hoofed_legs,
    ("legs", "banded"): banded_legs,
    ("coat", "saddle"): saddled_coat,
    ("coat", "black back"): black_backed_coat,
    ("coat", "blotched"): blotched_coat,
    ("coat", "spotted"): spotted_coat,
    ("coat", "flank band"): banded_coat,
    ("coat", "striped"): striped_coat,
    ("tail", "curled"): curled_tail,
    ("tail", "brush"): brush_tail,
    ("tail", "whip"): whip_tail,
    ("tail", "plume"): plume_tail,
    ("tail", "tufted"): tufted_tail,
}
