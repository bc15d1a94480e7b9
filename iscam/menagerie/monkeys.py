"""Monkeys and similar animals: one build, and all values of every part."""

from __future__ import annotations

import numpy as np

from iscam.menagerie.paint import Form, Layer
from iscam.menagerie.parts import (
    BEHIND,
    BLACK,
    FAR,
    FRONT,
    HEAD_BEHIND,
    NEAR,
    ON_BODY,
    ON_HEAD,
    SKIN,
    WHITE,
    Painter,
    Pose,
    Rig,
    eye,
)
from iscam.menagerie.shapes import Colour, Limb, Points, closed_curve, darker, ellipse, mix


def monkey(pose: Pose) -> Rig:
    """An animal that sits upright or walks on four legs, with its face turned to the viewer."""
    s = 1.5 * pose.stout
    if pose.sitting:
        hip, shoulder, skull = (-16.0, 27.0), (6.0, 80.0), (16 + 4 * pose.reach, 120.0)
        trunk = Limb([(-18, 22, 21 + s), (-12, 44, 25 + s), (0, 70, 22 + s), (8, 92, 15)])
    else:
        hip, shoulder, skull = (-36.0, 66.0), (26.0, 72.0), (48 + 3 * pose.reach, 110.0)
        trunk = Limb([(-42, 64, 17 + s), (-24, 66, 21 + s), (6, 68, 20 + s), (28, 78, 19), (40, 92, 14)])
    body = Form([trunk.outline], 13, 0.09)
    rig = Rig(pose, body, Form([], 10, 0.06), skull, 0.6 * pose.nod, 1.2, hip, shoulder)
    rig.head.polygons.append(rig.on_head(ellipse(0, 0, 22.5, 23.5)))
    return rig


# ------------------------------------------------------------------------------------------------------- arms and legs


def limb_with_hand(
    part: str,
    order: int,
    points: list[tuple[float, float, float]],
    tone: float,
    coat: Colour,
    skin: Colour,
    glove: Colour | None = None,
) -> list[Layer]:
    """An arm or a leg, with a hand at its last point. A `glove` is the colour of its lower half."""
    x, y, _ = points[-1]
    fingers = [Limb([(x - 1, y + 1, 4.8), (x + 6, y, 4.2)]).outline]
    fingers += [Limb([(x + 5, y + 1.5 - i * 1.6, 1.8), (x + 12, y + 0.5 - i * 1.8, 1.4)]).outline for i in range(3)]
    melt = ellipse(points[0][0], points[0][1] + 6, 22, 17) if order == NEAR else None
    limb = Limb(points)
    marks = [] if glove is None else [(limb.band(0.5, 1), darker(glove, tone))]
    return [
        Layer(part, order, Form(fingers, 3, 0.02), darker(skin, tone)),
        Layer(part, order, Form([limb.outline], 7, 0.09), darker(coat, tone), melt=melt, marks=marks),
    ]


def arm_points(rig: Rig, swing: float, shift: float) -> list[tuple[float, float, float]]:
    """Points of an arm: the shoulder, two at the elbow, and the wrist."""
    x, y = rig.shoulder
    if rig.pose.sitting:
        hand = (x + 13 + 0.3 * swing + shift, 45.0)  # on the knee
        elbow = (x - 4 + 0.2 * swing + shift, y * 0.64)
    else:
        hand = (x + 4 + swing + shift, 5.0)
        elbow = (x - 3 + 0.4 * swing + shift, y * 0.55)
    return [
        (x + shift * 0.5, y, 12),
        (elbow[0], elbow[1] + 8, 9.6),
        (elbow[0] + 2, elbow[1] - 10, 8.2),
        (hand[0] - 1, hand[1] + 3, 6),
    ]


def leg_points(rig: Rig, swing: float, shift: float) -> list[tuple[float, float, float]]:
    """Points of a leg from the hip to the ankle."""
    x, y = rig.hip
    if rig.pose.sitting:
        knee = x + 27 + 0.3 * swing + shift
        return [
            (x - 2, y - 4, 16),
            (x + 14 + shift, y + 8, 15),
            (knee, 42, 11),
            (knee + 1, 22, 8.5),
            (knee - 1, 6, 6),
        ]
    return [
        (x, y, 16),
        (x + 8 + 0.3 * swing + shift, y * 0.66, 13),
        (x + 4 + 0.6 * swing + shift, y * 0.4, 9.5),
        (x - 5 + swing + shift, 18, 7.4),
        (x - 4 + swing + shift, 6, 6),
    ]


def arms(rig: Rig, coat: Colour, skin: Colour, glove: Colour | None = None) -> list[Layer]:
    layers = []
    for order, tone, swing, shift in ((FAR, 0.72, rig.pose.stride[1], 8.0), (NEAR, 1.0, rig.pose.stride[0], 0.0)):
        layers += limb_with_hand("arms", order, arm_points(rig, swing, shift), tone, coat, skin, glove)
    return layers


def legs(rig: Rig, coat: Colour, skin: Colour, glove: Colour | None = None) -> list[Layer]:
    layers = []
    for order, tone, swing, shift in ((FAR, 0.72, rig.pose.stride[3], 9.0), (NEAR, 1.0, rig.pose.stride[2], 0.0)):
        layers += limb_with_hand("legs", order, leg_points(rig, swing, shift), tone, coat, skin, glove)
    return layers


def long_arms(rig: Rig) -> list[Layer]:
    """The colour of the coat, with brown hands."""
    return arms(rig, darker(rig.pose.coat, 0.92), mix(rig.pose.dark, SKIN, 0.25))


def gloved_arms(rig: Rig) -> list[Layer]:
    """Black from the elbow to the hand."""
    return arms(rig, darker(rig.pose.coat, 0.92), BLACK, glove=BLACK)


def long_legs(rig: Rig) -> list[Layer]:
    """The colour of the coat, with brown feet."""
    return legs(rig, darker(rig.pose.coat, 0.92), mix(rig.pose.dark, SKIN, 0.25))


def gloved_legs(rig: Rig) -> list[Layer]:
    """Black from the knee to the foot."""
    return legs(rig, darker(rig.pose.coat, 0.92), BLACK, glove=BLACK)


# ---------------------------------------------------------------------------------------------------------------- caps


def small_ears(rig: Rig, order: int = HEAD_BEHIND) -> list[Layer]:
    """Two round ears. They belong to the cap."""
    p = rig.pose
    layers = []
    for x, turn in ((-22.5, 12), (22.5, -12)):
        outer, inner = ellipse(x, 1 + p.ear, 7, 9.5, turn), ellipse(x * 1.02, 1 + p.ear, 4.2, 6.4, turn)
        marks = [(rig.on_head(inner), mix(SKIN, p.coat, 0.2))]
        layers.append(Layer("cap", order, Form([rig.on_head(outer)], 4, 0.03), darker(p.coat, 0.85), marks=marks))
    return layers


def dark_cap(rig: Rig) -> list[Layer]:
    """Short black hair with a peak above the nose, and small ears."""
    patch = rig.on_head(closed_curve([
        (-26, 2), (-19, 7), (-13, 13), (-6, 12), (0, 7), (6, 12),
        (13, 13), (19, 7), (26, 2), (24, 28), (0, 32), (-24, 28),
    ]))  # fmt: skip
    return [*small_ears(rig), Layer("cap", ON_HEAD, rig.head, BLACK, patch=[patch], feather=0.5)]


def crested_cap(rig: Rig) -> list[Layer]:
    """A large fan of long white hair."""
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
    nape = closed_curve([
        (-32, 8), (-35, -8), (-30, -26), (-25, -20), (-20, -31), (0, -26),
        (20, -31), (25, -20), (30, -26), (35, -8), (32, 8), (0, 20),
    ])  # fmt: skip
    return [
        Layer("cap", ON_BODY, Form([rig.on_head(nape)], 8, 0.12), darker(WHITE, 0.93)),
        Layer("cap", FRONT, Form([hair], 9, 0.12), WHITE, marks=strands),
    ]


def hooded_cap(rig: Rig) -> list[Layer]:
    """A shaggy hood around the face that rises to a peak, in a dark tone of the coat."""
    p = rig.pose
    tips = []
    for i, angle in enumerate(np.deg2rad(np.linspace(90, 450, 61)[:-1])):
        reach = 26 + (0.6 + 1.4 * p.spots[i, 1] if i % 2 else 0) + 8 * max(0.0, np.sin(angle)) ** 6
        tips.append((reach * np.cos(angle) * (1.22 - 0.1 * np.sin(angle)), reach * np.sin(angle)))
    brow = closed_curve([(-24, 6), (-10, 13), (0, 9), (10, 13), (24, 6), (22, 28), (0, 32), (-22, 28)])
    tone = mix(darker(p.coat, 0.6), BLACK, 0.2)
    return [
        Layer("cap", HEAD_BEHIND, Form([rig.on_head(closed_curve(tips))], 8, 0.18), tone),
        Layer("cap", ON_HEAD, rig.head, tone, patch=[rig.on_head(brow)], feather=1.5),
    ]


# --------------------------------------------------------------------------------------------------------------- faces


def heart_face(rig: Rig, colour: Colour, rim: Colour, feather: float = 0.7) -> Layer:
    """A heart-shaped face with two eyes."""
    patch = rig.on_head(closed_curve([
        (0, 8), (8, 12), (16, 8), (18, -4), (12, -17), (0, -22), (-12, -17), (-18, -4), (-16, 8), (-8, 12),
    ]))  # fmt: skip
    marks: list[tuple[Points, Colour]] = []
    for x in (-8.5, 8.5):
        marks.append((rig.on_head(ellipse(x, 1, 5.2, 4.6)), rim))
        marks += eye(rig, x + 0.8 * rig.pose.gaze, 1, 3.4)
    return Layer("face", ON_HEAD, rig.head, colour, patch=[patch], feather=feather, marks=marks)


def snub(rig: Rig, skin: Colour, mouth: Colour) -> Layer:
    """A short round muzzle with nostrils and a mouth."""
    outline = rig.on_head(closed_curve([
        (0, -3), (6, -5), (10.5, -12), (7, -19), (0, -21), (-7, -19), (-10.5, -12), (-6, -5),
    ]))  # fmt: skip
    marks = [(rig.on_head(ellipse(x, -8.5, 1.5, 1.1, t)), darker(mouth, 0.6)) for x, t in ((-2.6, 30), (2.6, -30))]
    marks.append((rig.head_limb([(-6, -14, 0.5), (0, -15.6, 0.9), (6, -14, 0.5)]).outline, mouth))
    return Layer("face", FRONT, Form([outline], 6, 0.02), skin, marks=marks)


def pale_face(rig: Rig) -> list[Layer]:
    """A cream face with a pink muzzle."""
    p = rig.pose
    skin = mix(SKIN, p.dark, 0.12)
    return [heart_face(rig, mix(p.pale, SKIN, 0.12), mix(SKIN, p.dark, 0.25)), snub(rig, skin, (112, 64, 60))]


def masked_face(rig: Rig) -> list[Layer]:
    """A black face with a pointed snout and amber eyes."""
    face = heart_face(rig, (66, 58, 60), (40, 34, 36))
    marks = list(face.marks)
    for x in (-8.5, 8.5):
        x += 0.8 * rig.pose.gaze
        marks += [
            (rig.on_head(ellipse(x, 1, 4.6, 4.4)), (232, 150, 40)),
            (rig.on_head(ellipse(x, 1, 2.0, 2.2)), (18, 14, 16)),
            (rig.on_head(ellipse(x - 1.1, 2.4, 1.1, 1.1)), (255, 252, 244)),
        ]
    face.marks = marks
    outline = rig.on_head(closed_curve([
        (0, -1), (5, -5), (9, -12), (6, -20), (0, -23), (-6, -20), (-9, -12), (-5, -5),
    ]))  # fmt: skip
    details = [
        (rig.on_head(ellipse(0, -9, 4.4, 3.2)), (24, 20, 22)),
        (rig.head_limb([(-5, -16, 0.5), (0, -17.4, 0.9), (5, -16, 0.5)]).outline, (28, 22, 24)),
    ]
    return [face, Layer("face", FRONT, Form([outline], 6, 0.02), (92, 82, 82), marks=details)]


def red_face(rig: Rig) -> list[Layer]:
    """A bare red face with a snub muzzle."""
    return [
        heart_face(rig, (208, 104, 92), (176, 78, 70)),
        snub(rig, (222, 130, 112), (122, 46, 44)),
    ]


def mandrill_face(rig: Rig) -> list[Layer]:
    """A long blue muzzle with ridges and a red stripe, above a yellow beard."""
    outline = rig.on_head(closed_curve([
        (0, 5), (6, 2), (12, -8), (15, -22), (9, -31), (0, -33), (-9, -31), (-15, -22), (-12, -8), (-6, 2),
    ]))  # fmt: skip
    beard = rig.on_head(closed_curve([
        (-19, -14), (-14, -32), (-6, -40), (0, -44), (6, -40), (14, -32), (19, -14), (0, -10),
    ]))  # fmt: skip
    stripe = rig.on_head(closed_curve([
        (-2.4, 6), (2.4, 6), (3.2, -10), (7.5, -20), (5, -25), (-5, -25), (-7.5, -20), (-3.2, -10),
    ]))  # fmt: skip
    blue, red = (92, 138, 206), (208, 54, 48)
    marks: list[tuple[Points, Colour]] = []
    for side in (-1, 1):
        for i, x in enumerate((5.5, 8.8, 12)):
            ridge = rig.head_limb([
                (side * (x - 1.5), -3 - 3 * i, 0.7), (side * x, -13 - i, 1.0), (side * (x + 0.6), -22 + i, 0.6),
            ])  # fmt: skip
            marks.append((ridge.outline, (54, 84, 152)))
    marks.append((stripe, red))
    marks += [(rig.on_head(ellipse(x, -22, 1.6, 1.3)), (92, 22, 24)) for x in (-3, 3)]
    marks.append((rig.head_limb([(-7, -27, 0.5), (0, -28.5, 0.9), (7, -27, 0.5)]).outline, (84, 44, 48)))
    return [
        heart_face(rig, mix(rig.pose.dark, SKIN, 0.2), mix(rig.pose.dark, SKIN, 0.35)),
        Layer("face", FRONT, Form([beard], 6, 0.2), (232, 176, 84)),
        Layer("face", FRONT, Form([outline], 7, 0.02), blue, marks=marks),
    ]


# ------------------------------------------------------------------------------------------------------------- mantles


def bib_mantle(rig: Rig) -> list[Layer]:
    """Cream shoulders and breast."""
    x, y = rig.shoulder
    patch = ellipse(x + (4 if rig.pose.sitting else 12), y + 6, 26, 25)
    return [Layer("mantle", ON_BODY, rig.body, rig.pose.pale, patch=[patch], feather=2.5)]


def shaded_mantle(rig: Rig) -> list[Layer]:
    """A dark back."""
    if rig.pose.sitting:
        patch = [(-50, 20), (-24, 24), (-14, 48), (-2, 74), (14, 100), (-10, 118), (-40, 90), (-52, 50)]
    else:
        patch = [(-66, 92), (-62, 66), (-30, 66), (4, 72), (28, 84), (44, 104), (30, 118), (-30, 106)]
    return [Layer("mantle", ON_BODY, rig.body, darker(rig.pose.coat, 0.55), patch=[closed_curve(patch)], feather=3.0)]


def caped_mantle(rig: Rig) -> list[Layer]:
    """A cape of long white hair around the shoulders."""
    p = rig.pose
    x, y = rig.shoulder[0] + (-4 if p.sitting else -2), rig.shoulder[1] + (-2 if p.sitting else 4)
    tips = []
    for i, angle in enumerate(np.deg2rad(np.linspace(90, 450, 61)[:-1])):
        reach = 1 + (0.02 + 0.05 * p.spots[i, 2] if i % 2 else 0)
        tips.append((x + 36 * reach * np.cos(angle), y + (32 if i < 15 or i > 45 else 42) * reach * np.sin(angle)))
    strands = []
    for i, angle in enumerate(np.deg2rad(np.linspace(150, 390, 15))):
        c, s = np.cos(angle), np.sin(angle)
        start = 14 + 6 * (i % 2)
        line = Limb([(x + start * c, y + start * s, 0.4), (x + 34 * c, y + 34 * s, 0.9)])
        strands.append((line.outline, (206, 200, 192)))
    return [Layer("mantle", NEAR, Form([closed_curve(tips)], 11, 0.18), darker(WHITE, 0.95), marks=strands)]


# --------------------------------------------------------------------------------------------------------------- tails


def tail_line(rig: Rig, wide: float, tall: float, curl: bool) -> list[tuple[float, float, float]]:
    """Points (x, y, radius) of a long raised tail, with a curled or a straight end."""
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
    if not curl:
        return [*line, (x - 40, low + 96 * tall, wide), (x - 46, low + 116 * tall, wide * 0.8)]
    return [
        *line,
        (x - 32, low + 84 * tall, wide * 0.9),
        (x - 19, low + 74 * tall, wide * 0.8),
        (x - 22, low + 60 * tall, wide * 0.7),
        (x - 34, low + 62 * tall, wide * 0.5),
    ]


def prehensile_tail(rig: Rig) -> list[Layer]:
    tail = Limb(tail_line(rig, 5.2, 1.0, curl=True))
    return [Layer("tail", BEHIND, Form([tail.outline], 5, 0.09), darker(rig.pose.coat, 0.85))]


def ringed_tail(rig: Rig) -> list[Layer]:
    tail = Limb(tail_line(rig, 8.2, 1.12, curl=False), shag=0.06)
    rings = [(tail.band(a, a + 0.055), BLACK) for a in np.arange(0.06, 0.98, 0.115)]
    return [Layer("tail", BEHIND, Form([tail.outline], 6, 0.12), WHITE, marks=rings)]


def stub_tail(rig: Rig) -> list[Layer]:
    """A short raised tail above a bare red rump."""
    p = rig.pose
    x, y = rig.hip
    tail = Limb([(x - 12, y + 10, 9), (x - 26, y + 20, 9), (x - 33, y + 32, 7.5), (x - 33, y + 42, 3)], shag=0.1)
    rump = closed_curve(
        [(x - 30, y - 12), (x - 28, y + 6), (x - 20, y + 14), (x - 8, y + 8), (x - 6, y - 8), (x - 16, y - 18)]
    )
    cheek = ellipse(x - 20, y - 4, 6, 10, 14)
    return [
        Layer("tail", BEHIND, Form([tail.outline], 6, 0.12), p.coat),
        Layer("tail", NEAR, Form([rump], 7, 0.02), (206, 92, 104), marks=[(cheek, (226, 126, 132))]),
    ]


def tasselled_tail(rig: Rig) -> list[Layer]:
    """A long raised tail with a black tassel."""
    line = tail_line(rig, 6.2, 1.0, curl=False)
    tail = Limb(line)
    (x1, y1, _), (x2, y2, _) = line[-2:]
    hair = Limb([(x1, y1, 6), (0.5 * (x1 + x2), 0.5 * (y1 + y2), 10), (x2, y2 + 4, 9), (x2 - 2, y2 + 14, 2)], shag=0.15)
    return [
        Layer("tail", BEHIND, Form([tail.outline], 5, 0.09), darker(rig.pose.coat, 0.85)),
        Layer("tail", BEHIND, Form([hair.outline], 5, 0.16), BLACK),
    ]


#: (part, value) -> the function that draws it.
PAINTERS: dict[tuple[str, str], Painter] = {
    ("cap", "dark"): dark_cap,
    ("cap", "crest"): crested_cap,
    ("cap", "hood"): hooded_cap,
    ("face", "pale"): pale_face,
    ("face", "mask"): masked_face,
    ("face", "mandrill"): mandrill_face,
    ("face", "red"): red_face,
    ("mantle", "bib"): bib_mantle,
    ("mantle", "shade"): shaded_mantle,
    ("mantle", "cape"): caped_mantle,
    ("arms", "long"): long_arms,
    ("arms", "gloved"): gloved_arms,
    ("legs", "long"): long_legs,
    ("legs", "gloved"): gloved_legs,
    ("tail", "prehensile"): prehensile_tail,
    ("tail", "ringed"): ringed_tail,
    ("tail", "stub"): stub_tail,
    ("tail", "tasselled"): tasselled_tail,
}
