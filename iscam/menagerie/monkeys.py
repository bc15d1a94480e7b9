"""Monkeys and similar animals: one build, and every part with each of its values."""

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


def monkey(pose: Pose, lift: float) -> Rig:
    """An animal that sits upright or walks on four legs, with its face turned to the viewer."""
    s = 1.5 * pose.stout
    if pose.sitting:
        hip, shoulder, skull = (-16, 27 + lift), (6, 80 + lift), (16 + 4 * pose.reach, 116 + lift)
        trunk = Limb([(-18, 22, 21 + s), (-12, 44, 25 + s), (0, 70, 21 + s), (8, 92, 13)])
    else:
        hip, shoulder, skull = (-36, 66 + lift), (26, 72 + lift), (50 + 3 * pose.reach, 104 + lift)
        trunk = Limb([(-42, 64, 16 + s), (-24, 66, 20 + s), (6, 68, 19 + s), (28, 78, 18), (40, 92, 12)])
    body = Form([trunk.outline], 13, 0.09)
    head = Form([ellipse(0, 0, 22.5, 23.5) + skull], 10, 0.06)
    return Rig(pose, body, head, skull, 0.6 * pose.nod, 1.0, hip, shoulder, lift)


# ------------------------------------------------------------------------------------------------------- arms and legs


def limb_with_hand(
    part: str, order: int, points: list[tuple[float, float, float]], tone: float, coat: Colour, skin: Colour
) -> list[Layer]:
    """An arm or a leg, with a hand at its last point."""
    x, y, _ = points[-1]
    fingers = [Limb([(x - 1, y + 1, 4.2), (x + 6, y, 3.6)]).outline]
    fingers += [Limb([(x + 5, y + 1.5 - i * 1.6, 1.6), (x + 11, y + 0.5 - i * 1.8, 1.2)]).outline for i in range(3)]
    melt = ellipse(points[0][0], points[0][1] + 6, 22, 17) if order == NEAR else None
    return [
        Layer(part, order, Form(fingers, 3, 0.02), darker(skin, tone)),
        Layer(part, order, Form([Limb(points).outline], 7, 0.09), darker(coat, tone), melt=melt),
    ]


def long_arms(rig: Rig) -> list[Layer]:
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
        layers += limb_with_hand("arms", order, points, tone, darker(p.coat, 0.92), mix(p.dark, SKIN, 0.25))
    return layers


def monkey_legs(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    x, y = rig.hip
    for order, tone, swing, shift in ((FAR, 0.72, p.stride[3], 8.0), (NEAR, 1.0, p.stride[2], 0.0)):
        if p.sitting:
            knee = x + 27 + 0.3 * swing + shift
            points = [
                (x - 2, y - 4, 16),
                (x + 14 + shift, y + 8, 14),
                (knee, 42, 10),
                (knee + 1, 22, 7.5),
                (knee - 1, 6, 5),
            ]
        else:
            points = [
                (x, y, 16),
                (x + 8 + 0.3 * swing + shift, y * 0.66, 12),
                (x + 4 + 0.6 * swing + shift, y * 0.4, 8),
                (x - 5 + swing + shift, 18, 6),
                (x - 4 + swing + shift, 6, 5),
            ]
        layers += limb_with_hand("legs", order, points, tone, darker(p.coat, 0.92), mix(p.dark, SKIN, 0.25))
    return layers


# ---------------------------------------------------------------------------------------------------------------- head


def small_ears(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    for x, turn in ((-22.5, 12), (22.5, -12)):
        outer, inner = ellipse(x, 1 + p.ear, 7, 9.5, turn), ellipse(x * 1.02, 1 + p.ear, 4.2, 6.4, turn)
        marks = [(rig.on_head(inner), mix(SKIN, p.coat, 0.2))]
        form = Form([rig.on_head(outer)], 4, 0.03)
        layers.append(Layer("ears", HEAD_BEHIND, form, darker(p.coat, 0.85), marks=marks))
    return layers


def pale_face(rig: Rig) -> list[Layer]:
    p = rig.pose
    patch = rig.on_head(closed_curve([
        (0, 8), (8, 12), (16, 8), (18, -4), (12, -17), (0, -22), (-12, -17), (-18, -4), (-16, 8), (-8, 12),
    ]))  # fmt: skip
    marks: list[tuple[Points, Colour]] = []
    look = 0.8 * p.gaze
    for x in (-8.5, 8.5):
        marks.append((rig.on_head(ellipse(x, 1, 5.0, 4.4)), mix(SKIN, p.dark, 0.25)))
        marks += eye(rig, x + look, 1, 3.4)
    return [Layer("face", ON_HEAD, rig.head, mix(p.pale, SKIN, 0.25), patch=[patch], feather=0.7, marks=marks)]


def snub_muzzle(rig: Rig) -> list[Layer]:
    outline = rig.on_head(closed_curve([
        (0, -3), (6, -5), (10.5, -12), (7, -19), (0, -21), (-7, -19), (-10.5, -12), (-6, -5),
    ]))  # fmt: skip
    skin = mix(SKIN, rig.pose.dark, 0.18)
    marks = [(rig.on_head(ellipse(x, -8.5, 1.5, 1.1, t)), (70, 44, 42)) for x, t in ((-2.6, 30), (2.6, -30))]
    marks.append((rig.head_limb([(-6, -14, 0.5), (0, -15.6, 0.9), (6, -14, 0.5)]).outline, (112, 64, 60)))
    return [Layer("muzzle", FRONT, Form([outline], 6, 0.02), skin, marks=marks)]


def mandrill_muzzle(rig: Rig) -> list[Layer]:
    """A blue muzzle with ridges and a red stripe, above a yellow beard."""
    outline = rig.on_head(closed_curve([
        (0, 5), (6, 2), (12, -8), (15, -22), (9, -31), (0, -33), (-9, -31), (-15, -22), (-12, -8), (-6, 2),
    ]))  # fmt: skip
    beard = rig.on_head(closed_curve([
        (-17, -18), (-12, -34), (-5, -42), (0, -46), (5, -42), (12, -34), (17, -18), (0, -10),
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
        Layer("muzzle", FRONT, Form([beard], 6, 0.2), (232, 176, 84)),
        Layer("muzzle", FRONT, Form([outline], 7, 0.02), blue, marks=marks),
    ]


def dark_cap(rig: Rig) -> list[Layer]:
    patch = rig.on_head(closed_curve([
        (-26, 4), (-19, 8), (-13, 13), (-6, 12), (0, 7), (6, 12),
        (13, 13), (19, 8), (26, 4), (24, 28), (0, 32), (-24, 28),
    ]))  # fmt: skip
    return [Layer("cap", ON_HEAD, rig.head, rig.pose.dark, patch=[patch], feather=0.5)]


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


# --------------------------------------------------------------------------------------------------- shoulders and tail


def pale_mantle(rig: Rig) -> list[Layer]:
    x, y = rig.shoulder
    patch = ellipse(x + (4 if rig.pose.sitting else 12), y + 6, 24, 24)
    return [Layer("mantle", ON_BODY, rig.body, rig.pose.pale, patch=[patch], feather=2.5)]


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
    x, y = rig.hip
    tail = Limb([(x - 8, y + 6, 7), (x - 22, y + 14, 6), (x - 28, y + 24, 3)], shag=0.1)
    return [Layer("tail", BEHIND, Form([tail.outline], 5, 0.12), rig.pose.coat)]


#: (part, value) -> the function that draws it.
PAINTERS: dict[tuple[str, str], Painter] = {
    ("ears", "small"): small_ears,
    ("face", "pale"): pale_face,
    ("muzzle", "snub"): snub_muzzle,
    ("muzzle", "mandrill"): mandrill_muzzle,
    ("cap", "dark"): dark_cap,
    ("cap", "crest"): crested_cap,
    ("mantle", "pale"): pale_mantle,
    ("arms", "long"): long_arms,
    ("legs", "monkey"): monkey_legs,
    ("tail", "prehensile"): prehensile_tail,
    ("tail", "ringed"): ringed_tail,
    ("tail", "stub"): stub_tail,
}
