"""The animals' parts: for every part and every value it can have, the layers that show it.

Units: y is up, the ground is y = 0, the animal looks to the right, and a Basenji stands about 100 high at
the withers. A part never asks which species it belongs to, only how the animal is built and posed (`Rig`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from iscam.menagerie.paint import Colour, Form, Layer, Limb, Points, closed_curve, darker, ellipse, mix, rotate

CREAM: Colour = (240, 228, 208)
WHITE: Colour = (246, 242, 234)
BLACK: Colour = (44, 38, 38)
NOSE: Colour = (38, 32, 34)
SKIN: Colour = (222, 176, 150)

# Coats any of the animals may have, so that the colour of the coat does not tell the species.
COATS: tuple[Colour, ...] = (
    (178, 104, 58),
    (196, 124, 70),
    (208, 156, 100),
    (150, 92, 60),
    (168, 128, 92),
    (132, 104, 86),
    (186, 140, 88),
    (146, 126, 110),
)

# Orders of the layers, from the back to the front.
BEHIND, FAR, BODY, ON_BODY, NEAR, HEAD_BEHIND, HEAD, ON_HEAD, FRONT = range(9)


@dataclass
class Pose:
    """What chance decides about an animal, whatever the species: every number from the seed alone."""

    coat: Colour
    pale: Colour
    dark: Colour
    stride: tuple[float, float, float, float]  # paws, in units forward: near fore, far fore, near hind, far hind
    nod: float  # degrees, up is positive
    reach: float  # how far the head is stretched up and forward, -1 to 1
    tail: float  # -1 to 1
    ear: float  # -1 to 1
    stout: float  # -1 to 1
    sitting: bool  # monkeys sit or go on all fours
    gaze: float  # -1 to 1
    spots: np.ndarray  # (64, 3) numbers in [0, 1) for coat patterns


def random_pose(rng: np.random.Generator) -> Pose:
    coat = COATS[rng.integers(len(COATS))]
    tint = (rng.random(3) - 0.5) * 16 + (rng.random() - 0.5) * 34
    coat = tuple(float(c + t) for c, t in zip(coat, tint, strict=True))
    even = rng.random(12) * 2 - 1
    walk = even[0]
    stride = (12 * walk + 4 * even[1], -12 * walk + 4 * even[2], -11 * walk + 4 * even[3], 11 * walk + 4 * even[4])
    return Pose(
        coat,
        mix(WHITE, CREAM, float(rng.random())),
        mix(BLACK, coat, 0.05 + 0.18 * float(rng.random())),
        stride,
        9 * even[5] + 1,
        even[6],
        even[7],
        even[8],
        even[9],
        bool(rng.random() < 0.5),
        even[10],
        rng.random((64, 3)),
    )


@dataclass
class Rig:
    """How one animal is built and posed: what its parts are hung on."""

    pose: Pose
    body: Form
    head: Form
    skull: tuple[float, float]
    turn: float  # degrees the head is turned up
    size: float  # of the head
    lift: float  # how much higher than a Basenji's the body is
    hip: tuple[float, float]
    shoulder: tuple[float, float]

    def on_head(self, points: Points) -> Points:
        """From head coordinates (the middle of the skull, looking right) to the animal's."""
        return rotate(np.asarray(points, float) * self.size, self.turn) + self.skull

    def head_limb(self, points: list[tuple[float, float, float]], shag: float = 0.0) -> Limb:
        p = np.asarray(points, float)
        return Limb(np.concatenate([self.on_head(p[:, :2]), p[:, 2:] * self.size], axis=1), shag)


def _up(points: list[tuple[float, ...]], lift: float) -> list[tuple[float, ...]]:
    return [(p[0], p[1] + lift, *p[2:]) for p in points]


# --- dogs and their like -------------------------------------------------------------------------------


def square_dog(pose: Pose, lift: float) -> Rig:
    """A short-backed, high-standing dog with an arched neck."""
    s = 2.5 * pose.stout
    skull = (59 + 5 * pose.reach, 121 + lift - 5 * pose.reach)
    trunk = closed_curve(
        _up(
            [
                (-47, 90),
                (-22, 96),
                (8, 95),
                (32, 98),
                (46, 88),
                (51, 70),
                (42, 54 - s),
                (15, 50 - s),
                (-14, 57 - s),
                (-36, 60),
                (-50, 72),
            ],
            lift,
        )
    )
    neck = Limb([(24, 76 + lift, 24), (40, 96 + lift, 17.5), (skull[0] - 6, skull[1] - 6, 13)]).outline
    head = closed_curve([(-14, -2), (-11, 10), (0, 14.5), (11, 11), (17, 3), (15, -8), (4, -13.5), (-8, -12)])
    rig = Rig(
        pose, Form([trunk, neck], 13), Form([head], 8), skull, pose.nod, 1.17, lift, (-35, 76 + lift), (34, 74 + lift)
    )
    rig.head.polygons[0] = rig.on_head(head)
    return rig


def arched_dog(pose: Pose, lift: float) -> Rig:
    """A slender running dog: deep chest, arched loin, tucked belly, long neck, narrow head."""
    s = 2 * pose.stout
    skull = (61 + 5 * pose.reach, 131 + lift - 5 * pose.reach)
    trunk = closed_curve(
        _up(
            [
                (-50, 78),
                (-38, 93),
                (-16, 101),
                (8, 99),
                (32, 99),
                (46, 88),
                (50, 70),
                (40, 47 - s),
                (22, 42 - s),
                (4, 52 - s),
                (-14, 66 - s),
                (-30, 70),
                (-46, 66),
            ],
            lift,
        )
    )
    neck = Limb([(28, 80 + lift, 21), (44, 104 + lift, 13.5), (skull[0] - 5, skull[1] - 5, 9.5)]).outline
    head = closed_curve([(-12, 0), (-8, 8), (1, 11), (10, 8.5), (18, 3), (17, -7), (6, -11), (-7, -9)])
    rig = Rig(
        pose, Form([trunk, neck], 12), Form([head], 7), skull, pose.nod, 1.15, lift, (-36, 80 + lift), (36, 74 + lift)
    )
    rig.head.polygons[0] = rig.on_head(head)
    return rig


def _plain_body(rig: Rig) -> list[Layer]:
    pose = rig.pose
    return [
        Layer(None, BODY, rig.body, pose.coat, below=mix(pose.coat, CREAM, 0.25)),
        Layer(None, HEAD, rig.head, pose.coat),
    ]


def _foreleg(rig: Rig, swing: float, shift: float, width: float) -> Limb:
    x, y = rig.shoulder[0] + shift, rig.shoulder[1]
    raised = max(0.0, abs(swing) - 11) * 0.8
    return Limb(
        [
            (x - 2, y, 13 * width),
            (x - 5 + 0.2 * swing, y * 0.68, 8.6 * width),
            (x - 1 + 0.7 * swing, y * 0.34 + raised, 5.6 * width),
            (x - 1 + swing, 8 + raised, 4.6 * width),
            (x + 6 + swing, 4 + raised, 4.3 * width),
        ]
    )


def _hindleg(rig: Rig, swing: float, shift: float, width: float) -> Limb:
    x, y = rig.hip[0] + shift, rig.hip[1]
    raised = max(0.0, abs(swing) - 11) * 0.6
    return Limb(
        [
            (x - 2, y + 2, 15 * width),
            (x + 6 + 0.15 * swing, y * 0.72, 13.5 * width),
            (x + 5 + 0.4 * swing, y * 0.52, 8 * width),
            (x - 9 + 0.75 * swing, y * 0.31 + raised, 5 * width),
            (x - 5 + swing, 8 + raised, 4.4 * width),
            (x + 3 + swing, 4 + raised, 4.3 * width),
        ]
    )


def _legs(rig: Rig, width: float, ends: Colour, ends_from: float, step: float = 1.0) -> list[Layer]:
    """Four legs; from that share of the hip's height downwards they have the colour of the ends."""
    near_fore, far_fore, near_hind, far_hind = (step * stride for stride in rig.pose.stride)
    layers = []
    for order, tone, swings, shift in (
        (FAR, 0.74, (far_fore, far_hind), 6.0),
        (NEAR, 1.0, (near_fore, near_hind), 0.0),
    ):
        for leg in (_hindleg(rig, swings[1], shift, width), _foreleg(rig, swings[0], shift, width)):
            coat = darker(rig.pose.coat, tone)
            top = rig.hip[1] * ends_from
            sock = np.array([(-200, -20), (200, -20), (200, top), (60, top + 4), (0, top - 3), (-200, top)])
            melt = ellipse(leg.centre[0, 0], leg.centre[0, 1] + 8, 26, 21) if order == NEAR else None
            layers.append(
                Layer("legs", order, Form([leg.outline], 7), coat, melt=melt, marks=[(sock, darker(ends, tone))])
            )
    return layers


def legs_socked(rig: Rig) -> list[Layer]:
    return _legs(rig, 1.0, rig.pose.pale, 0.30)


def legs_stockings(rig: Rig) -> list[Layer]:
    return _legs(rig, 1.0, rig.pose.dark, 0.48)


def legs_slender(rig: Rig) -> list[Layer]:
    return _legs(rig, 0.86, rig.pose.pale, 0.16)


def legs_short(rig: Rig) -> list[Layer]:
    return _legs(rig, 0.9, rig.pose.pale, 0.14, step=0.5)


def ears_pricked(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    for order, x, tone, lean in ((HEAD_BEHIND, 5, 0.74, 7), (FRONT, -6, 1.0, -3)):
        tip = x + lean + 3 * p.ear
        outer = closed_curve([(x - 8, 4), (x - 7, 17), (tip, 33), (x + 7, 20), (x + 8, 7), (x, 3)])
        inner = closed_curve([(x - 2, 9), (x - 1, 17), (tip + 0.5, 27), (x + 5, 17), (x + 5, 9)])
        layers.append(
            Layer(
                "ears",
                order,
                Form([rig.on_head(outer)], 5),
                darker(p.coat, tone),
                marks=[(rig.on_head(inner), darker(mix(SKIN, p.coat, 0.4), tone * 0.95))],
            )
        )
    return layers


def ears_round(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    y = 22
    for order, side, tone, turn in ((HEAD_BEHIND, 9, 0.74, -16), (FRONT, -9, 1.0, 14)):
        x = side + 2 * p.ear
        outer = ellipse(x, y, 13.5, 18, turn)
        inner = ellipse(x + 1, y - 1, 8, 12.5, turn)
        layers.append(
            Layer(
                "ears",
                order,
                Form([rig.on_head(outer)], 5),
                darker(mix(p.dark, p.coat, 0.25), tone),
                marks=[(rig.on_head(inner), darker(mix(p.dark, SKIN, 0.45), tone))],
            )
        )
    return layers


def ears_rose(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    for order, x, tone in ((HEAD_BEHIND, 4, 0.7), (FRONT, -4, 0.82)):
        outer = closed_curve(
            [
                (x + 3, 9),
                (x - 4, 14),
                (x - 15, 11 + 3 * p.ear),
                (x - 24, 3 + 4 * p.ear),
                (x - 13, 2),
                (x - 5, 0),
                (x + 2, 3),
            ]
        )
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 4), darker(p.coat, tone)))
    return layers


def ears_drop(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    for order, x, tone in ((HEAD_BEHIND, 3, 0.62), (FRONT, -7, 0.78)):
        sway = 4 * p.ear
        outer = closed_curve(
            [
                (x + 5, 9),
                (x - 3, 11),
                (x - 10, 4),
                (x - 13 + sway, -16),
                (x - 8 + sway, -31),
                (x + 2 + sway, -30),
                (x + 8, -14),
                (x + 7, 1),
            ]
        )
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 6, 0.1), darker(p.coat, tone)))
    return layers


def ears_horned(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    horn_colour = (74, 60, 54)
    for order, x, tone in ((HEAD_BEHIND, 9, 0.75), (FRONT, 2, 1.0)):
        leaf = closed_curve([(x - 9, 5), (x - 18, 13), (x - 32, 16 + 3 * p.ear), (x - 22, 5), (x - 12, 1)])
        layers.append(
            Layer(
                "ears",
                order,
                Form([rig.on_head(leaf)], 4),
                darker(p.coat, tone),
                marks=[(rig.on_head(ellipse(x - 18, 9, 8, 2, -18)), darker(SKIN, tone))],
            )
        )
        horn = rig.head_limb([(x, 8, 4.2), (x - 3, 26, 3.8), (x - 10, 46, 3.0), (x - 9, 66, 0.8)])
        rings = [(horn.band(a, a + 0.03), darker((150, 130, 112), tone)) for a in np.arange(0.1, 0.75, 0.11)]
        layers.append(Layer("ears", order, Form([horn.outline], 3, 0.02), darker(horn_colour, tone), marks=rings))
    return layers


def _eye(rig: Rig, x: float, y: float, size: float) -> list[tuple[Points, Colour]]:
    iris = (96, 62, 36)
    return [
        (rig.on_head(ellipse(x, y, size * 1.25, size * 1.05)), (40, 30, 30)),
        (rig.on_head(ellipse(x, y, size * 0.9, size * 0.9)), iris),
        (rig.on_head(ellipse(x + 0.2, y, size * 0.5, size * 0.55)), (18, 14, 16)),
        (rig.on_head(ellipse(x - size * 0.3, y + size * 0.4, size * 0.34, size * 0.34)), (255, 252, 244)),
    ]


def brow_wrinkled(rig: Rig) -> list[Layer]:
    p = rig.pose
    patch = rig.on_head(closed_curve([(-3, 4), (-1, 13), (6, 15), (13, 10), (14, 0), (8, -4), (1, -3)]))
    marks = []
    for i, x in enumerate((0.5, 4, 7.5)):
        line = rig.head_limb([(x - 2, 7, 0.7), (x, 10.5, 0.9), (x + 2.5, 13, 0.6)])
        marks.append((line.outline, darker(p.coat, 0.55 + 0.05 * i)))
    marks += _eye(rig, 7, 3.5, 3.2)
    return [Layer("brow", ON_HEAD, rig.head, darker(p.coat, 0.88), patch=[patch], feather=1.2, marks=marks)]


def brow_mask(rig: Rig) -> list[Layer]:
    p = rig.pose
    patch = rig.on_head(closed_curve([(-2, 3), (2, 9.5), (10, 8), (14, 2), (9, -3), (2, -3)]))
    return [
        Layer("brow", ON_HEAD, rig.head, darker(p.coat, 0.68), patch=[patch], feather=1.2, marks=_eye(rig, 6, 3.6, 2.9))
    ]


def muzzle_wedge(rig: Rig) -> list[Layer]:
    p = rig.pose
    outline = rig.on_head(
        closed_curve([(9, 1), (16, 2), (25, 1.2), (31, -1), (31.5, -5), (28, -9.5), (20, -13), (9, -12), (6, -5)])
    )
    mouth = rig.head_limb([(30.5, -6.5, 0.6), (24, -7.8, 0.7), (16, -7.2, 0.4)]).outline
    blaze = rig.on_head(closed_curve([(6, -5), (15, -2.5), (25, -2), (34, -6), (30, -14), (16, -17), (4, -13)]))
    nose = rig.on_head(ellipse(30.3, -1.2, 3.5, 3))
    marks = [(blaze, p.pale), (mouth, (96, 66, 58)), (nose, NOSE)]
    melt = rig.on_head(ellipse(6, -4, 5, 10))
    return [Layer("muzzle", ON_HEAD, Form([outline], 6), p.coat, melt=melt, marks=marks)]


def muzzle_long(rig: Rig) -> list[Layer]:
    p = rig.pose
    outline = rig.on_head(
        closed_curve([(11, 3.5), (20, 3.2), (33, 0.4), (42, -2), (43, -5.8), (39, -9.2), (26, -12), (12, -11), (8, -5)])
    )
    mouth = rig.head_limb([(41, -6.6, 0.5), (33, -7.6, 0.6), (23, -7, 0.4)]).outline
    pale = rig.on_head(closed_curve([(16, -6), (30, -4), (50, -3), (50, -14), (20, -15)]))
    nose = rig.on_head(ellipse(41.5, -2.4, 3.2, 2.7))
    marks = [(pale, p.pale), (mouth, (96, 66, 58)), (nose, NOSE)]
    melt = rig.on_head(ellipse(7, -4, 5, 9))
    return [Layer("muzzle", ON_HEAD, Form([outline], 5), p.coat, melt=melt, marks=marks)]


def chest_bib(rig: Rig) -> list[Layer]:
    x, y = rig.skull
    t = rig.lift
    patch = closed_curve(
        [
            (x - 2, y - 12),
            (x + 10, y - 16),
            (60, 84 + t),
            (56, 62 + t),
            (40, 46 + t),
            (20, 45 + t),
            (30, 62 + t),
            (36, 84 + t),
        ]
    )
    return [
        Layer(
            "chest", ON_BODY, rig.body, rig.pose.pale, below=mix(rig.pose.pale, CREAM, 0.5), patch=[patch], feather=1.0
        )
    ]


def chest_shirt(rig: Rig) -> list[Layer]:
    t = rig.lift
    patch = closed_curve(
        [(46, 100 + t), (60, 90 + t), (58, 56 + t), (40, 36 + t), (14, 36 + t), (2, 48 + t), (20, 54 + t), (34, 66 + t)]
    )
    return [Layer("chest", ON_BODY, rig.body, rig.pose.pale, patch=[patch], feather=1.0)]


def coat_saddle(rig: Rig) -> list[Layer]:
    """A darker back that fades into the flanks."""
    t = rig.lift
    patch = closed_curve(
        [(-60, 112 + t), (40, 116 + t), (34, 90 + t), (14, 82 + t), (-12, 80 + t), (-40, 78 + t), (-58, 76 + t)]
    )
    return [Layer("coat", ON_BODY, rig.body, darker(rig.pose.coat, 0.72), patch=[patch], feather=3.5)]


def coat_blotched(rig: Rig) -> list[Layer]:
    """Big black, white and tan blotches."""
    p, t = rig.pose, rig.lift
    blotches, tones = [], (p.dark, p.pale, p.dark, (214, 164, 88))
    for i in range(15):
        a, b, c = p.spots[i]
        x, y = -44 + 82 * ((i % 5) + a) / 5, 56 + 46 * ((i // 5) + b) / 3
        angles = np.linspace(0, 2 * np.pi, 8)[:-1]
        reach = (6.5 + 5 * c) * (0.7 + 0.6 * p.spots[16 + i, [0, 1, 2, 0, 2, 1, 0]])
        blotches.append(
            (closed_curve(np.stack([x + reach * np.cos(angles), y + t + reach * np.sin(angles)], 1)), tones[i % 4])
        )
    patch = [shape for shape, _ in blotches]
    return [Layer("coat", ON_BODY, rig.body, p.dark, patch=patch, marks=blotches)]


def coat_flank_band(rig: Rig) -> list[Layer]:
    """A black band along the flank above a white belly."""
    p, t = rig.pose, rig.lift
    band = Limb([(46, 66 + t, 4), (24, 62 + t, 6.5), (0, 68 + t, 7), (-22, 77 + t, 6), (-40, 80 + t, 4)])
    belly = closed_curve(
        [
            (48, 62 + t),
            (24, 58 + t),
            (0, 64 + t),
            (-24, 73 + t),
            (-44, 76 + t),
            (-46, 54 + t),
            (0, 36 + t),
            (40, 36 + t),
        ]
    )
    return [
        Layer(
            "coat", ON_BODY, rig.body, p.pale, patch=[band.outline, belly], feather=0.4, marks=[(band.outline, BLACK)]
        )
    ]


def tail_curled(rig: Rig) -> list[Layer]:
    p = rig.pose
    x, y = rig.hip[0] - 3, rig.hip[1] + 34
    angles = np.deg2rad(np.array([222, 180, 135, 90, 45, 0, -45, -90, -140]) - 6 * p.tail)
    radius = np.linspace(20, 8, 9) + p.tail
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles), np.linspace(7.5, 4.2, 9)], 1)
    tail = Limb(np.concatenate([[[rig.hip[0] - 8, rig.hip[1] + 10, 7]], points]))
    return [Layer("tail", NEAR, Form([tail.outline], 5, 0.1), p.coat, marks=[(tail.band(0.84, 1), p.pale)])]


def tail_brush(rig: Rig) -> list[Layer]:
    p = rig.pose
    x, y = rig.hip
    s = 7 * p.tail
    tail = Limb(
        [
            (x - 8, y + 10, 6),
            (x - 24, y - 2, 9),
            (x - 38, y - 24 + s * 0.5, 15),
            (x - 50, y - 46 + s, 16),
            (x - 62, y - 62 + 1.6 * s, 10),
            (x - 70, y - 68 + 2 * s, 2),
        ],
        shag=0.09,
    )
    return [Layer("tail", BEHIND, Form([tail.outline], 9, 0.18), p.coat, marks=[(tail.band(0.70, 1), p.pale)])]


def tail_whip(rig: Rig) -> list[Layer]:
    x, y = rig.hip
    s = 5 * rig.pose.tail
    end = max(5.0, y - 72)
    tail = Limb(
        [
            (x - 10, y + 4, 5),
            (x - 20 - s, y - 16, 4.2),
            (x - 26 - s, y - 42, 3.4),
            (x - 30 - 2 * s, max(10.0, y - 62), 2.8),
            (x - 40 - 2 * s, end + 6, 1.8),
        ]
    )
    return [Layer("tail", BEHIND, Form([tail.outline], 4), darker(rig.pose.coat, 0.86))]


# --- monkeys and their like ----------------------------------------------------------------------------


def monkey(pose: Pose, lift: float) -> Rig:
    """Sitting upright or on all fours; the face is turned to us."""
    s = 1.5 * pose.stout
    if pose.sitting:
        hip, shoulder, skull = (-16, 27 + lift), (6, 80 + lift), (16 + 4 * pose.reach, 116 + lift)
        trunk = Limb([(-18, 22, 21 + s), (-12, 44, 25 + s), (0, 70, 21 + s), (8, 92, 13)])
    else:
        hip, shoulder, skull = (-36, 66 + lift), (26, 72 + lift), (50 + 3 * pose.reach, 104 + lift)
        trunk = Limb([(-42, 64, 16 + s), (-24, 66, 20 + s), (6, 68, 19 + s), (28, 78, 18), (40, 92, 12)])
    head = ellipse(0, 0, 22.5, 23.5)
    return Rig(
        pose,
        Form([trunk.outline], 13, 0.09),
        Form([head + skull], 10, 0.06),
        skull,
        0.6 * pose.nod,
        1.0,
        lift,
        hip,
        shoulder,
    )


def _hand(x: float, y: float, tone: float, skin: Colour) -> Layer:
    fingers = [Limb([(x - 1, y + 1, 4.2), (x + 6, y, 3.6)]).outline]
    fingers += [Limb([(x + 5, y + 1.5 - i * 1.6, 1.6), (x + 11, y + 0.5 - i * 1.8, 1.2)]).outline for i in range(3)]
    return Layer(None, 0, Form(fingers, 3, 0.02), darker(skin, tone))


def _limb_with_hand(
    part: str, order: int, points: list[tuple[float, float, float]], tone: float, coat: Colour, skin: Colour
) -> list[Layer]:
    hand = _hand(points[-1][0], points[-1][1], tone, skin)
    hand.part, hand.order = part, order
    melt = ellipse(points[0][0], points[0][1] + 6, 22, 17) if order == NEAR else None
    return [hand, Layer(part, order, Form([Limb(points).outline], 7, 0.09), darker(coat, tone), melt=melt)]


def arms_long(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    x, y = rig.shoulder
    for order, tone, swing, shift in ((FAR, 0.72, p.stride[1], 7.0), (NEAR, 1.0, p.stride[0], 0.0)):
        if p.sitting:
            hand = (x + 13 + 0.3 * swing + shift, 45.0)  # on the knee
            elbow = (x - 4 + 0.2 * swing + shift, y * 0.64)
        else:
            hand = (x + 4 + swing + shift, 5.0)
            elbow = (x - 3 + 0.4 * swing + shift, y * 0.55)
        points = [
            (x + shift * 0.5, y, 11),
            (elbow[0], elbow[1] + 8, 8.2),
            (elbow[0] + 2, elbow[1] - 10, 6.8),
            (hand[0] - 1, hand[1] + 3, 5),
        ]
        layers += _limb_with_hand("arms", order, points, tone, darker(p.coat, 0.92), mix(p.dark, SKIN, 0.25))
    return layers


def legs_monkey(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    x, y = rig.hip
    for order, tone, swing, shift in ((FAR, 0.72, p.stride[3], 8.0), (NEAR, 1.0, p.stride[2], 0.0)):
        if p.sitting:
            knee = (x + 27 + 0.3 * swing + shift, 42)
            points = [
                (x - 2, y - 4, 16),
                (x + 14 + shift, y + 8, 14),
                (knee[0], knee[1], 10),
                (knee[0] + 1, 22, 7.5),
                (knee[0] - 1, 6, 5),
            ]
        else:
            points = [
                (x, y, 16),
                (x + 8 + 0.3 * swing + shift, y * 0.66, 12),
                (x + 4 + 0.6 * swing + shift, y * 0.4, 8),
                (x - 5 + swing + shift, 18, 6),
                (x - 4 + swing + shift, 6, 5),
            ]
        layers += _limb_with_hand("legs", order, points, tone, darker(p.coat, 0.92), mix(p.dark, SKIN, 0.25))
    return layers


def ears_small(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    for x, turn in ((-22.5, 12), (22.5, -12)):
        outer, inner = ellipse(x, 1 + p.ear, 7, 9.5, turn), ellipse(x * 1.02, 1 + p.ear, 4.2, 6.4, turn)
        layers.append(
            Layer(
                "ears",
                HEAD_BEHIND,
                Form([rig.on_head(outer)], 4, 0.03),
                darker(p.coat, 0.85),
                marks=[(rig.on_head(inner), mix(SKIN, p.coat, 0.2))],
            )
        )
    return layers


def face_pale(rig: Rig) -> list[Layer]:
    p = rig.pose
    patch = rig.on_head(
        closed_curve(
            [(0, 8), (8, 12), (16, 8), (18, -4), (12, -17), (0, -22), (-12, -17), (-18, -4), (-16, 8), (-8, 12)]
        )
    )
    marks: list[tuple[Points, Colour]] = []
    look = 0.8 * p.gaze
    for x in (-8.5, 8.5):
        marks.append((rig.on_head(ellipse(x, 1, 5.0, 4.4)), mix(SKIN, p.dark, 0.25)))
        marks += _eye(rig, x + look, 1, 3.4)
    return [Layer("face", ON_HEAD, rig.head, mix(p.pale, SKIN, 0.25), patch=[patch], feather=0.7, marks=marks)]


def muzzle_snub(rig: Rig) -> list[Layer]:
    p = rig.pose
    outline = rig.on_head(
        closed_curve([(0, -3), (6, -5), (10.5, -12), (7, -19), (0, -21), (-7, -19), (-10.5, -12), (-6, -5)])
    )
    skin = mix(SKIN, p.dark, 0.18)
    marks = [(rig.on_head(ellipse(x, -8.5, 1.5, 1.1, t)), (70, 44, 42)) for x, t in ((-2.6, 30), (2.6, -30))]
    marks.append((rig.head_limb([(-6, -14, 0.5), (0, -15.6, 0.9), (6, -14, 0.5)]).outline, (112, 64, 60)))
    return [Layer("muzzle", FRONT, Form([outline], 6, 0.02), skin, marks=marks)]


def muzzle_mandrill(rig: Rig) -> list[Layer]:
    outline = rig.on_head(
        closed_curve(
            [(0, 5), (6, 2), (12, -8), (15, -22), (9, -31), (0, -33), (-9, -31), (-15, -22), (-12, -8), (-6, 2)]
        )
    )
    beard = rig.on_head(
        closed_curve([(-17, -18), (-12, -34), (-5, -42), (0, -46), (5, -42), (12, -34), (17, -18), (0, -10)])
    )
    blue, red = (92, 138, 206), (208, 54, 48)
    marks: list[tuple[Points, Colour]] = []
    for side in (-1, 1):
        for i, x in enumerate((5.5, 8.8, 12)):
            ridge = rig.head_limb(
                [(side * (x - 1.5), -3 - 3 * i, 0.7), (side * x, -13 - i, 1.0), (side * (x + 0.6), -22 + i, 0.6)]
            )
            marks.append((ridge.outline, (54, 84, 152)))
    stripe = rig.on_head(
        closed_curve([(-2.4, 6), (2.4, 6), (3.2, -10), (7.5, -20), (5, -25), (-5, -25), (-7.5, -20), (-3.2, -10)])
    )
    marks.append((stripe, red))
    marks += [(rig.on_head(ellipse(x, -22, 1.6, 1.3)), (92, 22, 24)) for x in (-3, 3)]
    marks.append((rig.head_limb([(-7, -27, 0.5), (0, -28.5, 0.9), (7, -27, 0.5)]).outline, (84, 44, 48)))
    return [
        Layer("muzzle", FRONT, Form([beard], 6, 0.2), (232, 176, 84)),
        Layer("muzzle", FRONT, Form([outline], 7, 0.02), blue, marks=marks),
    ]


def cap_dark(rig: Rig) -> list[Layer]:
    patch = rig.on_head(
        closed_curve(
            [
                (-26, 4),
                (-19, 8),
                (-13, 13),
                (-6, 12),
                (0, 7),
                (6, 12),
                (13, 13),
                (19, 8),
                (26, 4),
                (24, 28),
                (0, 32),
                (-24, 28),
            ]
        )
    )
    return [Layer("cap", ON_HEAD, rig.head, rig.pose.dark, patch=[patch], feather=0.5)]


def cap_crest(rig: Rig) -> list[Layer]:
    """A great fan of long white hair."""
    tips: list[tuple[float, float]] = []
    for i, angle in enumerate(np.deg2rad(np.linspace(182, -2, 31))):
        reach = (36.5 + 6 * rig.pose.spots[i, 0] if i % 2 else 34) + 9 * np.sin(angle) ** 2
        tips.append((reach * np.cos(angle) * 0.9, 2 + reach * np.sin(angle)))
    tips += [(20, 6), (13, 11), (7, 9), (0, 12), (-7, 9), (-13, 11), (-20, 6)]
    hair = rig.on_head(closed_curve(tips))
    strands = []
    for angle in np.deg2rad(np.linspace(164, 16, 11)):
        c, s = np.cos(angle), np.sin(angle)
        strands.append((rig.head_limb([(16 * c, 8 + 14 * s, 0.3), (30 * c, 2 + 35 * s, 0.7)]).outline, (222, 214, 202)))
    nape = closed_curve(
        [
            (-32, 8),
            (-35, -8),
            (-30, -26),
            (-25, -20),
            (-20, -31),
            (0, -26),
            (20, -31),
            (25, -20),
            (30, -26),
            (35, -8),
            (32, 8),
            (0, 20),
        ]
    )
    return [
        Layer("cap", ON_BODY, Form([rig.on_head(nape)], 8, 0.12), darker(WHITE, 0.93)),
        Layer("cap", FRONT, Form([hair], 9, 0.12), WHITE, marks=strands),
    ]


def mantle_pale(rig: Rig) -> list[Layer]:
    x, y = rig.shoulder
    patch = ellipse(x + (4 if rig.pose.sitting else 12), y + 6, 24, 24)
    return [Layer("mantle", ON_BODY, rig.body, rig.pose.pale, patch=[patch], feather=2.5)]


def _monkey_tail_line(rig: Rig, wide: float, tall: float, curl: bool) -> list[tuple[float, float, float]]:
    x, y = rig.hip
    s = 5 * rig.pose.tail
    low = max(9.0, y - 16)
    line = [
        (x - 10, y - 2, wide),
        (x - 30, low, wide),
        (x - 50 - s, low + 16, wide),
        (x - 56 - s, low + 44 * tall, wide),
        (x - 48, low + 72 * tall, wide * 0.95),
    ]
    if curl:
        line += [
            (x - 32, low + 84 * tall, wide * 0.9),
            (x - 19, low + 74 * tall, wide * 0.8),
            (x - 22, low + 60 * tall, wide * 0.7),
            (x - 34, low + 62 * tall, wide * 0.5),
        ]
    else:
        line += [(x - 40, low + 96 * tall, wide), (x - 46, low + 116 * tall, wide * 0.8)]
    return line


def tail_prehensile(rig: Rig) -> list[Layer]:
    tail = Limb(_monkey_tail_line(rig, 5.2, 1.0, curl=True))
    return [Layer("tail", BEHIND, Form([tail.outline], 5, 0.09), darker(rig.pose.coat, 0.85))]


def tail_ringed(rig: Rig) -> list[Layer]:
    tail = Limb(_monkey_tail_line(rig, 8.2, 1.12, curl=False), shag=0.06)
    rings = [(tail.band(a, a + 0.055), BLACK) for a in np.arange(0.06, 0.98, 0.115)]
    return [Layer("tail", BEHIND, Form([tail.outline], 6, 0.12), WHITE, marks=rings)]


def tail_stub(rig: Rig) -> list[Layer]:
    x, y = rig.hip
    tail = Limb([(x - 8, y + 6, 7), (x - 22, y + 14, 6), (x - 28, y + 24, 3)], shag=0.1)
    return [Layer("tail", BEHIND, Form([tail.outline], 5, 0.12), rig.pose.coat)]


BUILDS: dict[str, tuple[Callable[[Pose, float], Rig], float]] = {
    "square dog": (square_dog, 0.0),
    "arched dog": (arched_dog, 4.0),
    "monkey": (monkey, 0.0),
}

PAINTERS: dict[tuple[str, str], Callable[[Rig], list[Layer]]] = {
    ("ears", "pricked"): ears_pricked,
    ("ears", "round"): ears_round,
    ("ears", "rose"): ears_rose,
    ("ears", "drop"): ears_drop,
    ("ears", "horned"): ears_horned,
    ("ears", "small"): ears_small,
    ("brow", "wrinkled"): brow_wrinkled,
    ("brow", "mask"): brow_mask,
    ("muzzle", "wedge"): muzzle_wedge,
    ("muzzle", "long"): muzzle_long,
    ("muzzle", "snub"): muzzle_snub,
    ("muzzle", "mandrill"): muzzle_mandrill,
    ("chest", "bib"): chest_bib,
    ("chest", "shirt"): chest_shirt,
    ("coat", "saddle"): coat_saddle,
    ("coat", "blotched"): coat_blotched,
    ("coat", "flank band"): coat_flank_band,
    ("legs", "socked"): legs_socked,
    ("legs", "stockings"): legs_stockings,
    ("legs", "slender"): legs_slender,
    ("legs", "short"): legs_short,
    ("legs", "monkey"): legs_monkey,
    ("tail", "curled"): tail_curled,
    ("tail", "brush"): tail_brush,
    ("tail", "whip"): tail_whip,
    ("tail", "prehensile"): tail_prehensile,
    ("tail", "ringed"): tail_ringed,
    ("tail", "stub"): tail_stub,
    ("cap", "dark"): cap_dark,
    ("cap", "crest"): cap_crest,
    ("face", "pale"): face_pale,
    ("mantle", "pale"): mantle_pale,
    ("arms", "long"): arms_long,
}

# Legs so short that they bring the whole body nearer to the ground.
LEG_LIFT: dict[str, float] = {"short": -36.0}


def assemble(build: str, values: dict[str, str], pose: Pose) -> list[Layer]:
    """All the layers of an animal, from the back to the front."""
    make, lift = BUILDS[build]
    rig = make(pose, lift + LEG_LIFT.get(values["legs"], 0.0))
    layers = _plain_body(rig)
    for part, value in values.items():
        layers += PAINTERS[part, value](rig)
    return sorted(layers, key=lambda layer: layer.order)
