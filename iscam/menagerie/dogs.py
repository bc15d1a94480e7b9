"""Dogs and similar animals: two builds, and every part with each of its values."""

from __future__ import annotations

import numpy as np

from iscam.menagerie.paint import Form, Layer
from iscam.menagerie.parts import (
    BEHIND,
    BLACK,
    CREAM,
    FAR,
    FRONT,
    HEAD_BEHIND,
    NEAR,
    NOSE,
    ON_BODY,
    ON_HEAD,
    SKIN,
    Painter,
    Pose,
    Rig,
    eye,
    lifted,
)
from iscam.menagerie.shapes import Colour, Limb, Points, closed_curve, darker, ellipse, mix


def square_dog(pose: Pose, lift: float) -> Rig:
    """A short-backed dog on long legs, with an arched neck."""
    s = 2.5 * pose.stout
    skull = (59 + 5 * pose.reach, 121 + lift - 5 * pose.reach)
    trunk = closed_curve(lifted([
        (-47, 90), (-22, 96), (8, 95), (32, 98), (46, 88), (51, 70),
        (42, 54 - s), (15, 50 - s), (-14, 57 - s), (-36, 60), (-50, 72),
    ], lift))  # fmt: skip
    neck = Limb([(24, 76 + lift, 24), (40, 96 + lift, 17.5), (skull[0] - 6, skull[1] - 6, 13)]).outline
    head = closed_curve([(-14, -2), (-11, 10), (0, 14.5), (11, 11), (17, 3), (15, -8), (4, -13.5), (-8, -12)])
    return dog(pose, Form([trunk, neck], 13), Form([head], 8), skull, 1.17, lift, (-35, 76 + lift), (34, 74 + lift))


def arched_dog(pose: Pose, lift: float) -> Rig:
    """A slender running dog: deep chest, arched loin, narrow waist, long neck, narrow head."""
    s = 2 * pose.stout
    skull = (61 + 5 * pose.reach, 131 + lift - 5 * pose.reach)
    trunk = closed_curve(lifted([
        (-50, 78), (-38, 93), (-16, 101), (8, 99), (32, 99), (46, 88), (50, 70),
        (40, 47 - s), (22, 42 - s), (4, 52 - s), (-14, 66 - s), (-30, 70), (-46, 66),
    ], lift))  # fmt: skip
    neck = Limb([(28, 80 + lift, 21), (44, 104 + lift, 13.5), (skull[0] - 5, skull[1] - 5, 9.5)]).outline
    head = closed_curve([(-12, 0), (-8, 8), (1, 11), (10, 8.5), (18, 3), (17, -7), (6, -11), (-7, -9)])
    return dog(pose, Form([trunk, neck], 12), Form([head], 7), skull, 1.15, lift, (-36, 80 + lift), (36, 74 + lift))


def dog(
    pose: Pose,
    body: Form,
    head: Form,
    skull: tuple[float, float],
    size: float,
    lift: float,
    hip: tuple[float, float],
    shoulder: tuple[float, float],
) -> Rig:
    """A rig whose head, given in coordinates of the head, is put on the body."""
    rig = Rig(pose, body, head, skull, pose.nod, size, hip, shoulder, lift)
    rig.head.polygons[0] = rig.on_head(head.polygons[0])
    return rig


# ---------------------------------------------------------------------------------------------------------------- legs


def foreleg(rig: Rig, swing: float, shift: float, width: float) -> Limb:
    x, y = rig.shoulder[0] + shift, rig.shoulder[1]
    raised = max(0.0, abs(swing) - 11) * 0.8
    return Limb([
        (x - 2, y, 13 * width),
        (x - 5 + 0.2 * swing, y * 0.68, 8.6 * width),
        (x - 1 + 0.7 * swing, y * 0.34 + raised, 5.6 * width),
        (x - 1 + swing, 8 + raised, 4.6 * width),
        (x + 6 + swing, 4 + raised, 4.3 * width),
    ])  # fmt: skip


def hindleg(rig: Rig, swing: float, shift: float, width: float) -> Limb:
    x, y = rig.hip[0] + shift, rig.hip[1]
    raised = max(0.0, abs(swing) - 11) * 0.6
    return Limb([
        (x - 2, y + 2, 15 * width),
        (x + 6 + 0.15 * swing, y * 0.72, 13.5 * width),
        (x + 5 + 0.4 * swing, y * 0.52, 8 * width),
        (x - 9 + 0.75 * swing, y * 0.31 + raised, 5 * width),
        (x - 5 + swing, 8 + raised, 4.4 * width),
        (x + 3 + swing, 4 + raised, 4.3 * width),
    ])  # fmt: skip


def legs(rig: Rig, width: float, ends: Colour, ends_from: float, step: float = 1.0) -> list[Layer]:
    """Four legs. Below the share `ends_from` of the hip's height, they have the colour `ends`."""
    near_fore, far_fore, near_hind, far_hind = (step * stride for stride in rig.pose.stride)
    layers = []
    for order, tone, fore, hind, shift in (
        (FAR, 0.74, far_fore, far_hind, 6.0),
        (NEAR, 1.0, near_fore, near_hind, 0.0),
    ):
        for leg in (hindleg(rig, hind, shift, width), foreleg(rig, fore, shift, width)):
            coat = darker(rig.pose.coat, tone)
            top = rig.hip[1] * ends_from
            sock = np.array([(-200, -20), (200, -20), (200, top), (60, top + 4), (0, top - 3), (-200, top)])
            melt = ellipse(leg.centre[0, 0], leg.centre[0, 1] + 8, 26, 21) if order == NEAR else None
            marks = [(sock, darker(ends, tone))]
            layers.append(Layer("legs", order, Form([leg.outline], 7), coat, melt=melt, marks=marks))
    return layers


def socked_legs(rig: Rig) -> list[Layer]:
    return legs(rig, 1.0, rig.pose.pale, 0.30)


def stockinged_legs(rig: Rig) -> list[Layer]:
    return legs(rig, 1.0, rig.pose.dark, 0.48)


def slender_legs(rig: Rig) -> list[Layer]:
    return legs(rig, 0.86, rig.pose.pale, 0.16)


def short_legs(rig: Rig) -> list[Layer]:
    return legs(rig, 0.9, rig.pose.pale, 0.14, step=0.5)


# ---------------------------------------------------------------------------------------------------------------- ears


def pricked_ears(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    for order, x, tone, lean in ((HEAD_BEHIND, 5, 0.74, 7), (FRONT, -6, 1.0, -3)):
        tip = x + lean + 3 * p.ear
        outer = closed_curve([(x - 8, 4), (x - 7, 17), (tip, 33), (x + 7, 20), (x + 8, 7), (x, 3)])
        inner = closed_curve([(x - 2, 9), (x - 1, 17), (tip + 0.5, 27), (x + 5, 17), (x + 5, 9)])
        marks = [(rig.on_head(inner), darker(mix(SKIN, p.coat, 0.4), tone * 0.95))]
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 5), darker(p.coat, tone), marks=marks))
    return layers


def round_ears(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    y = 22
    for order, side, tone, turn in ((HEAD_BEHIND, 9, 0.74, -16), (FRONT, -9, 1.0, 14)):
        x = side + 2 * p.ear
        outer = ellipse(x, y, 13.5, 18, turn)
        inner = ellipse(x + 1, y - 1, 8, 12.5, turn)
        colour = darker(mix(p.dark, p.coat, 0.25), tone)
        marks = [(rig.on_head(inner), darker(mix(p.dark, SKIN, 0.45), tone))]
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 5), colour, marks=marks))
    return layers


def rose_ears(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    for order, x, tone in ((HEAD_BEHIND, 4, 0.7), (FRONT, -4, 0.82)):
        outer = closed_curve([
            (x + 3, 9), (x - 4, 14), (x - 15, 11 + 3 * p.ear), (x - 24, 3 + 4 * p.ear),
            (x - 13, 2), (x - 5, 0), (x + 2, 3),
        ])  # fmt: skip
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 4), darker(p.coat, tone)))
    return layers


def drop_ears(rig: Rig) -> list[Layer]:
    p = rig.pose
    layers = []
    for order, x, tone in ((HEAD_BEHIND, 3, 0.62), (FRONT, -7, 0.78)):
        sway = 4 * p.ear
        outer = closed_curve([
            (x + 5, 9), (x - 3, 11), (x - 10, 4), (x - 13 + sway, -16), (x - 8 + sway, -31),
            (x + 2 + sway, -30), (x + 8, -14), (x + 7, 1),
        ])  # fmt: skip
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 6, 0.1), darker(p.coat, tone)))
    return layers


def horned_ears(rig: Rig) -> list[Layer]:
    """Leaf-shaped ears below long ringed horns."""
    p = rig.pose
    layers = []
    for order, x, tone in ((HEAD_BEHIND, 9, 0.75), (FRONT, 2, 1.0)):
        leaf = closed_curve([(x - 9, 5), (x - 18, 13), (x - 32, 16 + 3 * p.ear), (x - 22, 5), (x - 12, 1)])
        marks = [(rig.on_head(ellipse(x - 18, 9, 8, 2, -18)), darker(SKIN, tone))]
        layers.append(Layer("ears", order, Form([rig.on_head(leaf)], 4), darker(p.coat, tone), marks=marks))
        horn = rig.head_limb([(x, 8, 4.2), (x - 3, 26, 3.8), (x - 10, 46, 3.0), (x - 9, 66, 0.8)])
        rings = [(horn.band(a, a + 0.03), darker((150, 130, 112), tone)) for a in np.arange(0.1, 0.75, 0.11)]
        layers.append(Layer("ears", order, Form([horn.outline], 3, 0.02), darker((74, 60, 54), tone), marks=rings))
    return layers


# ---------------------------------------------------------------------------------------------------- brows and muzzles


def wrinkled_brow(rig: Rig) -> list[Layer]:
    p = rig.pose
    patch = rig.on_head(closed_curve([(-3, 4), (-1, 13), (6, 15), (13, 10), (14, 0), (8, -4), (1, -3)]))
    marks = []
    for i, x in enumerate((0.5, 4, 7.5)):
        line = rig.head_limb([(x - 2, 7, 0.7), (x, 10.5, 0.9), (x + 2.5, 13, 0.6)])
        marks.append((line.outline, darker(p.coat, 0.55 + 0.05 * i)))
    marks += eye(rig, 7, 3.5, 3.2)
    return [Layer("brow", ON_HEAD, rig.head, darker(p.coat, 0.88), patch=[patch], feather=1.2, marks=marks)]


def masked_brow(rig: Rig) -> list[Layer]:
    p = rig.pose
    patch = rig.on_head(closed_curve([(-2, 3), (2, 9.5), (10, 8), (14, 2), (9, -3), (2, -3)]))
    marks = eye(rig, 6, 3.6, 2.9)
    return [Layer("brow", ON_HEAD, rig.head, darker(p.coat, 0.68), patch=[patch], feather=1.2, marks=marks)]


def wedge_muzzle(rig: Rig) -> list[Layer]:
    outline = rig.on_head(closed_curve([
        (9, 1), (16, 2), (25, 1.2), (31, -1), (31.5, -5), (28, -9.5), (20, -13), (9, -12), (6, -5),
    ]))  # fmt: skip
    mouth = rig.head_limb([(30.5, -6.5, 0.6), (24, -7.8, 0.7), (16, -7.2, 0.4)]).outline
    blaze = rig.on_head(closed_curve([(6, -5), (15, -2.5), (25, -2), (34, -6), (30, -14), (16, -17), (4, -13)]))
    nose = rig.on_head(ellipse(30.3, -1.2, 3.5, 3))
    return muzzle(rig, Form([outline], 6), blaze, mouth, nose, rig.on_head(ellipse(6, -4, 5, 10)))


def long_muzzle(rig: Rig) -> list[Layer]:
    outline = rig.on_head(closed_curve([
        (11, 3.5), (20, 3.2), (33, 0.4), (42, -2), (43, -5.8), (39, -9.2), (26, -12), (12, -11), (8, -5),
    ]))  # fmt: skip
    mouth = rig.head_limb([(41, -6.6, 0.5), (33, -7.6, 0.6), (23, -7, 0.4)]).outline
    pale = rig.on_head(closed_curve([(16, -6), (30, -4), (50, -3), (50, -14), (20, -15)]))
    nose = rig.on_head(ellipse(41.5, -2.4, 3.2, 2.7))
    return muzzle(rig, Form([outline], 5), pale, mouth, nose, rig.on_head(ellipse(7, -4, 5, 9)))


def muzzle(rig: Rig, form: Form, pale: Points, mouth: Points, nose: Points, melt: Points) -> list[Layer]:
    marks = [(pale, rig.pose.pale), (mouth, (96, 66, 58)), (nose, NOSE)]
    return [Layer("muzzle", ON_HEAD, form, rig.pose.coat, melt=melt, marks=marks)]


# ------------------------------------------------------------------------------------------------------ chest and coat


def chest_bib(rig: Rig) -> list[Layer]:
    x, y = rig.skull
    t = rig.lift
    patch = closed_curve([
        (x - 2, y - 12), (x + 10, y - 16), (60, 84 + t), (56, 62 + t),
        (40, 46 + t), (20, 45 + t), (30, 62 + t), (36, 84 + t),
    ])  # fmt: skip
    pale = rig.pose.pale
    return [Layer("chest", ON_BODY, rig.body, pale, below=mix(pale, CREAM, 0.5), patch=[patch], feather=1.0)]


def chest_shirt(rig: Rig) -> list[Layer]:
    patch = closed_curve(lifted([
        (46, 100), (60, 90), (58, 56), (40, 36), (14, 36), (2, 48), (20, 54), (34, 66),
    ], rig.lift))  # fmt: skip
    return [Layer("chest", ON_BODY, rig.body, rig.pose.pale, patch=[patch], feather=1.0)]


def saddled_coat(rig: Rig) -> list[Layer]:
    """A darker back that fades into the flanks."""
    patch = closed_curve(lifted([
        (-60, 112), (40, 116), (34, 90), (14, 82), (-12, 80), (-40, 78), (-58, 76),
    ], rig.lift))  # fmt: skip
    return [Layer("coat", ON_BODY, rig.body, darker(rig.pose.coat, 0.72), patch=[patch], feather=3.5)]


def blotched_coat(rig: Rig) -> list[Layer]:
    """Large black, white and tan blotches."""
    p, t = rig.pose, rig.lift
    blotches, tones = [], (p.dark, p.pale, p.dark, (214, 164, 88))
    for i in range(15):
        a, b, c = p.spots[i]
        x, y = -44 + 82 * ((i % 5) + a) / 5, 56 + 46 * ((i // 5) + b) / 3
        angles = np.linspace(0, 2 * np.pi, 8)[:-1]
        reach = (6.5 + 5 * c) * (0.7 + 0.6 * p.spots[16 + i, [0, 1, 2, 0, 2, 1, 0]])
        outline = closed_curve(np.stack([x + reach * np.cos(angles), y + t + reach * np.sin(angles)], 1))
        blotches.append((outline, tones[i % 4]))
    patch = [outline for outline, _ in blotches]
    return [Layer("coat", ON_BODY, rig.body, p.dark, patch=patch, marks=blotches)]


def banded_coat(rig: Rig) -> list[Layer]:
    """A black band along the flank above a white belly."""
    t = rig.lift
    band = Limb(lifted([(46, 66, 4), (24, 62, 6.5), (0, 68, 7), (-22, 77, 6), (-40, 80, 4)], t)).outline
    belly = closed_curve(lifted([
        (48, 62), (24, 58), (0, 64), (-24, 73), (-44, 76), (-46, 54), (0, 36), (40, 36),
    ], t))  # fmt: skip
    marks = [(band, BLACK)]
    return [Layer("coat", ON_BODY, rig.body, rig.pose.pale, patch=[band, belly], feather=0.4, marks=marks)]


# --------------------------------------------------------------------------------------------------------------- tails


def curled_tail(rig: Rig) -> list[Layer]:
    p = rig.pose
    x, y = rig.hip[0] - 3, rig.hip[1] + 34
    angles = np.deg2rad(np.array([222, 180, 135, 90, 45, 0, -45, -90, -140]) - 6 * p.tail)
    radius = np.linspace(20, 8, 9) + p.tail
    points = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles), np.linspace(7.5, 4.2, 9)], 1)
    tail = Limb(np.concatenate([[[rig.hip[0] - 8, rig.hip[1] + 10, 7]], points]))
    return [Layer("tail", NEAR, Form([tail.outline], 5, 0.1), p.coat, marks=[(tail.band(0.84, 1), p.pale)])]


def brush_tail(rig: Rig) -> list[Layer]:
    p = rig.pose
    x, y = rig.hip
    s = 7 * p.tail
    tail = Limb([
        (x - 8, y + 10, 6), (x - 24, y - 2, 9), (x - 38, y - 24 + s * 0.5, 15),
        (x - 50, y - 46 + s, 16), (x - 62, y - 62 + 1.6 * s, 10), (x - 70, y - 68 + 2 * s, 2),
    ], shag=0.09)  # fmt: skip
    return [Layer("tail", BEHIND, Form([tail.outline], 9, 0.18), p.coat, marks=[(tail.band(0.70, 1), p.pale)])]


def whip_tail(rig: Rig) -> list[Layer]:
    x, y = rig.hip
    s = 5 * rig.pose.tail
    end = max(5.0, y - 72)
    tail = Limb([
        (x - 10, y + 4, 5), (x - 20 - s, y - 16, 4.2), (x - 26 - s, y - 42, 3.4),
        (x - 30 - 2 * s, max(10.0, y - 62), 2.8), (x - 40 - 2 * s, end + 6, 1.8),
    ])  # fmt: skip
    return [Layer("tail", BEHIND, Form([tail.outline], 4), darker(rig.pose.coat, 0.86))]


#: (part, value) -> the function that draws it.
PAINTERS: dict[tuple[str, str], Painter] = {
    ("ears", "pricked"): pricked_ears,
    ("ears", "round"): round_ears,
    ("ears", "rose"): rose_ears,
    ("ears", "drop"): drop_ears,
    ("ears", "horned"): horned_ears,
    ("brow", "wrinkled"): wrinkled_brow,
    ("brow", "mask"): masked_brow,
    ("muzzle", "wedge"): wedge_muzzle,
    ("muzzle", "long"): long_muzzle,
    ("chest", "bib"): chest_bib,
    ("chest", "shirt"): chest_shirt,
    ("coat", "saddle"): saddled_coat,
    ("coat", "blotched"): blotched_coat,
    ("coat", "flank band"): banded_coat,
    ("legs", "socked"): socked_legs,
    ("legs", "stockings"): stockinged_legs,
    ("legs", "slender"): slender_legs,
    ("legs", "short"): short_legs,
    ("tail", "curled"): curled_tail,
    ("tail", "brush"): brush_tail,
    ("tail", "whip"): whip_tail,
}
