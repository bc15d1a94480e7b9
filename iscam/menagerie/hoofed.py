"""Hoofed animals: their build, and all values of their ears, faces and chests."""

from __future__ import annotations

import numpy as np

from iscam.menagerie.dogs import brow, face, with_head
from iscam.menagerie.paint import Form, Layer
from iscam.menagerie.parts import BEHIND, BLACK, FRONT, HEAD_BEHIND, NOSE, ON_BODY, SKIN, Painter, Pose, Rig, eye
from iscam.menagerie.shapes import Limb, closed_curve, darker, ellipse


def hoofed(pose: Pose) -> Rig:
    """A barrel-shaped trunk, a long neck and a long head."""
    s = 2 * pose.stout
    skull = (60 + 4 * pose.reach, 138 - 4 * pose.reach)
    trunk = closed_curve([
        (-51, 84), (-38, 97), (-10, 96), (16, 97), (36, 98), (50, 82),
        (44, 58 - s), (18, 49 - s), (-12, 51 - s), (-36, 62), (-50, 72),
    ])  # fmt: skip
    neck = Limb([(24, 80, 24), (44, 108, 17), (skull[0] - 4, skull[1] - 3, 13)]).outline
    head = closed_curve([(-11, -1), (-9, 9), (0, 12.5), (9, 10), (18, 2), (17, -8), (7, -11.5), (-6, -10)])
    rig = Rig(pose, Form([trunk, neck], 13), Form([head], 8), skull, pose.nod - 12, 1.35, (-36, 78), (34, 76))
    return with_head(rig)


def leaf_ears(rig: Rig, long: float) -> list[Layer]:
    """Leaf-shaped ears that point back and up."""
    p = rig.pose
    layers = []
    for order, x, tone in ((HEAD_BEHIND, 8, 0.72), (FRONT, -1, 1.0)):
        tip = (x - 20 * long, 13 + 12 * long + 3 * p.ear)
        leaf = closed_curve([(x + 1, 6), (x - 5, 8 + 11 * long), tip, (x - 17 * long, 6 + 4 * long), (x - 6, 2)])
        inner = closed_curve(
            [(x - 3, 7), (x - 6, 7 + 8 * long), (tip[0] + 4, tip[1] - 3), (x - 13 * long, 6 + 4 * long)]
        )
        marks = [(rig.on_head(inner), darker(SKIN, tone))]
        layers.append(Layer("ears", order, Form([rig.on_head(leaf)], 4), darker(p.coat, tone), marks=marks))
    return layers


def horned_ears(rig: Rig) -> list[Layer]:
    """Small leaf-shaped ears below long ringed horns."""
    layers = leaf_ears(rig, 0.75)
    for order, x, tone in ((HEAD_BEHIND, 11, 0.75), (FRONT, 5, 1.0)):
        horn = rig.head_limb([(x, 7, 4.8), (x + 2, 20, 4.4), (x - 5, 36, 3.6), (x - 16, 46, 2.4), (x - 14, 56, 0.8)])
        rings = [(horn.band(a, a + 0.03), darker((166, 146, 124), tone)) for a in np.arange(0.1, 0.75, 0.11)]
        layers.append(Layer("ears", order, Form([horn.outline], 3, 0.02), darker((70, 56, 50), tone), marks=rings))
    return layers


def maned_ears(rig: Rig) -> list[Layer]:
    """Large leaf-shaped ears and an erect black mane from the forehead to the withers."""
    x, y = rig.skull
    crest = Limb([
        (x + 6, y + 16, 5), (x - 8, y + 14, 10), (x - 24, y - 6, 12), (24, 108, 11), (6, 98, 5),
    ], shag=0.22)  # fmt: skip
    return [Layer("ears", BEHIND, Form([crest.outline], 6, 0.18), BLACK), *leaf_ears(rig, 1.15)]


def muzzled_face(rig: Rig) -> list[Layer]:
    """A long head with a black nose and a white ring behind it."""
    p = rig.pose
    patch = closed_curve([(-2, 3), (2, 9), (9, 8), (14, 2), (10, -4), (2, -3)])
    outline = closed_curve([
        (8, 7), (18, 4), (29, 0), (36, -2), (39, -6), (37, -12), (31, -14), (20, -13), (8, -11), (4, -4),
    ])  # fmt: skip
    ring = closed_curve([(23, 6), (30, 4), (32, -8), (30, -18), (21, -18), (24, -6)])
    snout = closed_curve([(31, 4), (44, 0), (44, -12), (38, -18), (31, -17), (33, -7)])
    mouth = rig.head_limb([(37, -9.6, 0.5), (32, -10, 0.6), (27, -9, 0.4)]).outline
    details = [(rig.on_head(ring), p.pale), (rig.on_head(snout), NOSE), (mouth, (120, 96, 90))]
    marks = [(rig.on_head(ellipse(6.5, 2.4, 6.5, 5)), p.pale), *eye(rig, 6.5, 2.6, 3.0)]
    colour = darker(p.coat, 0.8)
    return face(rig, brow(rig, patch, colour, marks), outline, ellipse(4, -3, 4, 8), colour, details)


def chest_collar(rig: Rig) -> list[Layer]:
    """Two white shields on the throat and the breast."""
    x, y = rig.skull
    throat = closed_curve([(x - 14, y - 4), (x + 16, y - 12), (x + 12, y - 26), (x - 12, y - 22)])
    breast = closed_curve([(30, 98), (64, 108), (64, 66), (46, 52), (34, 72)])
    return [Layer("chest", ON_BODY, rig.body, rig.pose.pale, patch=[throat, breast], feather=0.7)]


#: (part, value) -> the function that draws it.
PAINTERS: dict[tuple[str, str], Painter] = {
    ("ears", "horns"): horned_ears,
    ("ears", "mane"): maned_ears,
    ("face", "muzzled"): muzzled_face,
    ("chest", "collar"): chest_collar,
}
