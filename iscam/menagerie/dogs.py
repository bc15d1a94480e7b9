"""Dogs and similar animals: two builds, and all values of their ears, faces and chests."""

from __future__ import annotations

from iscam.menagerie.paint import Form, Layer
from iscam.menagerie.parts import (
    CREAM,
    FRONT,
    HEAD_BEHIND,
    NOSE,
    ON_BODY,
    ON_HEAD,
    SKIN,
    Painter,
    Pose,
    Rig,
    eye,
)
from iscam.menagerie.shapes import Colour, Limb, Points, closed_curve, darker, ellipse, mix


def square_dog(pose: Pose) -> Rig:
    """A short-backed dog on long legs, with an arched neck and a broad head."""
    s = 2.5 * pose.stout
    skull = (52 + 4 * pose.reach, 127 - 4 * pose.reach)
    trunk = closed_curve([
        (-47, 90), (-22, 96), (8, 95), (32, 98), (46, 88), (51, 70),
        (42, 54 - s), (15, 50 - s), (-14, 57 - s), (-36, 60), (-50, 72),
    ])  # fmt: skip
    neck = Limb([(24, 76, 25), (36, 98, 20.5), (skull[0] - 6, skull[1] - 6, 16)]).outline
    head = closed_curve([(-14, -2), (-11, 10), (0, 14.5), (11, 11), (17, 3), (15, -8), (4, -13.5), (-8, -12)])
    rig = Rig(pose, Form([trunk, neck], 13), Form([head], 9), skull, pose.nod, 1.5, (-35, 76), (34, 74))
    return with_head(rig)


def arched_dog(pose: Pose) -> Rig:
    """A slender running dog: deep chest, arched loin, narrow waist, long neck, narrow head."""
    s = 2 * pose.stout
    skull = (54 + 4 * pose.reach, 138 - 4 * pose.reach)
    trunk = closed_curve([
        (-50, 82), (-38, 97), (-16, 105), (8, 103), (32, 103), (46, 92), (50, 74),
        (40, 51 - s), (22, 46 - s), (4, 56 - s), (-14, 70 - s), (-30, 74), (-46, 70),
    ])  # fmt: skip
    neck = Limb([(28, 84, 22), (42, 110, 15), (skull[0] - 5, skull[1] - 5, 11.5)]).outline
    head = closed_curve([(-12, 0), (-8, 8), (1, 11), (10, 8.5), (18, 3), (17, -7), (6, -11), (-7, -9)])
    rig = Rig(pose, Form([trunk, neck], 12), Form([head], 8), skull, pose.nod, 1.45, (-36, 84), (36, 78))
    return with_head(rig)


def with_head(rig: Rig) -> Rig:
    """Move the head of the rig from its own coordinates to its place on the body."""
    rig.head.polygons[:] = [rig.on_head(polygon) for polygon in rig.head.polygons]
    return rig


# ---------------------------------------------------------------------------------------------------------------- ears


def upright_ears(rig: Rig, tall: float, wide: float, apart: float) -> list[Layer]:
    """A far and a near ear that stand up. The far one leans forward, the near one back by `apart`."""
    p = rig.pose
    layers = []
    for order, x, tone, lean in ((HEAD_BEHIND, 5, 0.74, 4 + 0.5 * apart), (FRONT, -6, 1.0, -apart)):
        tip = x + lean + 3 * p.ear
        middle = x + 0.5 * lean
        outer = closed_curve([
            (x - 0.7 * wide, 4), (middle - wide, 0.55 * tall), (tip, tall), (middle + wide, 0.6 * tall),
            (x + 0.8 * wide, 6), (x, 3),
        ])  # fmt: skip
        inner = closed_curve([
            (x - 0.2 * wide, 9), (middle - 0.5 * wide, 0.55 * tall), (tip, 0.85 * tall),
            (middle + 0.65 * wide, 0.56 * tall), (x + 0.5 * wide, 9),
        ])  # fmt: skip
        marks = [(rig.on_head(inner), darker(mix(SKIN, p.coat, 0.25), tone * 0.98))]
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 5), darker(p.coat, tone), marks=marks))
    return layers


def pricked_ears(rig: Rig) -> list[Layer]:
    return upright_ears(rig, 31, 7.5, 2)


def huge_ears(rig: Rig) -> list[Layer]:
    """Ears that are larger than the head."""
    return upright_ears(rig, 43, 13, 11)


def rose_ears(rig: Rig) -> list[Layer]:
    """Ears that are folded back along the neck."""
    p = rig.pose
    layers = []
    for order, x, tone in ((HEAD_BEHIND, 6, 0.6), (FRONT, -2, 0.72)):
        outer = closed_curve([
            (x + 3, 8), (x - 3, 15), (x - 14, 17 + 2 * p.ear), (x - 33, 10 + 4 * p.ear),
            (x - 22, 3 + 2 * p.ear), (x - 10, 0), (x + 1, 1),
        ])  # fmt: skip
        fold = closed_curve([(x - 2, 10), (x - 12, 12 + 2 * p.ear), (x - 24, 9 + 3 * p.ear), (x - 12, 6), (x - 3, 6)])
        marks = [(rig.on_head(fold), darker(mix(SKIN, p.coat, 0.4), tone))]
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 4), darker(p.coat, tone), marks=marks))
    return layers


def drop_ears(rig: Rig) -> list[Layer]:
    """Long ears that hang beside the cheeks."""
    p = rig.pose
    layers = []
    for order, x, tone in ((HEAD_BEHIND, 4, 0.5), (FRONT, -8, 0.62)):
        sway = 3 * p.ear
        outer = closed_curve([
            (x + 5, 10), (x - 3, 12), (x - 10, 5), (x - 12 + sway, -14), (x - 8 + sway, -27),
            (x + 2 + sway, -27), (x + 8, -13), (x + 7, 2),
        ])  # fmt: skip
        layers.append(Layer("ears", order, Form([rig.on_head(outer)], 6, 0.1), darker(p.coat, tone)))
    return layers


# --------------------------------------------------------------------------------------------------------------- faces


def face(
    rig: Rig, brow: Layer, muzzle: Points, melt: Points, colour: Colour, marks: list[tuple[Points, Colour]]
) -> list[Layer]:
    """The brow with the eye, and in front of it the muzzle."""
    return [brow, Layer("face", ON_HEAD, Form([rig.on_head(muzzle)], 6), colour, melt=rig.on_head(melt), marks=marks)]


def brow(rig: Rig, patch: Points, colour: Colour, marks: list[tuple[Points, Colour]]) -> Layer:
    """The brow, painted on the head."""
    return Layer("face", ON_HEAD, rig.head, colour, patch=[rig.on_head(patch)], feather=1.2, marks=marks)


def wedge_face(rig: Rig) -> list[Layer]:
    """A wrinkled brow, a white blaze and a short wedge-shaped muzzle."""
    p = rig.pose
    patch = closed_curve([(-3, 4), (-1, 13), (6, 15), (13, 10), (14, 0), (8, -4), (1, -3)])
    marks: list[tuple[Points, Colour]] = []
    for i, x in enumerate((0.5, 4, 7.5)):
        line = rig.head_limb([(x - 2, 7, 0.7), (x, 10.5, 0.9), (x + 2.5, 13, 0.6)])
        marks.append((line.outline, darker(p.coat, 0.55 + 0.05 * i)))
    marks.append((rig.on_head(closed_curve([(9, 16), (16, 8), (22, 0), (13, 0), (10.5, 7), (6, 15)])), p.pale))
    marks += eye(rig, 6.5, 3.2, 3.2)
    outline = closed_curve([
        (9, 1), (16, 2), (25, 1.2), (31, -1), (31.5, -5), (28, -9.5), (20, -13), (9, -12), (6, -5),
    ])  # fmt: skip
    blaze = closed_curve([(6, -5), (12, -1), (16, 4), (25, 3), (34, -6), (30, -14), (16, -17), (4, -13)])
    mouth = rig.head_limb([(30.5, -6.5, 0.6), (24, -7.8, 0.7), (16, -7.2, 0.4)]).outline
    nose = rig.on_head(ellipse(29.8, -1.2, 3.8, 3.3))
    details = [(rig.on_head(blaze), p.pale), (mouth, (96, 66, 58)), (nose, NOSE)]
    return face(rig, brow(rig, patch, darker(p.coat, 0.88), marks), outline, ellipse(6, -4, 5, 10), p.coat, details)


def fox_face(rig: Rig) -> list[Layer]:
    """White cheeks below a dark tear line, and a thin pointed muzzle."""
    p = rig.pose
    cheek = closed_curve([(-16, -4), (-8, 2), (2, 0), (10, 1), (18, -4), (14, -18), (-6, -18)])
    marks: list[tuple[Points, Colour]] = []
    marks.append((rig.head_limb([(2, 2, 2.2), (9, 2.2, 2.4), (18, -1, 1.0)]).outline, darker(p.coat, 0.45)))
    marks += eye(rig, 6, 3.6, 3.0)
    upper = closed_curve([(-2, 2), (2, 9), (10, 9), (17, 2), (12, -1), (2, -1)])
    outline = closed_curve(
        [(10, 5), (18, 3), (28, -0.5), (36, -3), (36.5, -6), (30, -9), (18, -11.5), (9, -11), (6, -4)]
    )
    white = closed_curve([(2, -2), (14, -2.5), (26, -4), (40, -6), (34, -14), (8, -18), (0, -10)])
    mouth = rig.head_limb([(35, -6.6, 0.5), (27, -7.4, 0.6), (19, -7, 0.4)]).outline
    details = [(rig.on_head(white), p.pale), (mouth, (96, 66, 58)), (rig.on_head(ellipse(35, -3.4, 3, 2.6)), NOSE)]
    over = Layer("face", ON_HEAD, rig.head, p.pale, patch=[rig.on_head(cheek)], feather=1.2)
    layers = face(rig, brow(rig, upper, darker(p.coat, 0.9), marks), outline, ellipse(5, -3, 4, 8), p.coat, details)
    return [over, *layers]


def long_face(rig: Rig) -> list[Layer]:
    """A dark mask around the eye and a long narrow muzzle."""
    p = rig.pose
    patch = closed_curve([(-3, 3), (2, 10), (10, 8.5), (16, 2), (11, -4), (2, -4)])
    outline = closed_curve([
        (11, 4.5), (20, 4), (31, 1), (39, -1.5), (40, -6), (36, -10), (25, -12.5), (12, -11.5), (8, -5),
    ])  # fmt: skip
    pale = closed_curve([(16, -6), (28, -4), (48, -3), (48, -14), (20, -16)])
    mouth = rig.head_limb([(38.5, -6.6, 0.5), (31, -7.6, 0.6), (22, -7, 0.4)]).outline
    details = [(rig.on_head(pale), p.pale), (mouth, (96, 66, 58)), (rig.on_head(ellipse(38.6, -2.4, 3.3, 2.9)), NOSE)]
    marks = eye(rig, 6, 3.4, 2.9)
    dark = darker(p.coat, 0.6)
    return face(rig, brow(rig, patch, dark, marks), outline, ellipse(8, -4, 4, 8), darker(p.coat, 0.7), details)


# -------------------------------------------------------------------------------------------------------------- chests


def chest_bib(rig: Rig) -> list[Layer]:
    """White from the throat to between the forelegs."""
    x, y = rig.skull
    patch = closed_curve([
        (x - 12, y - 14), (x + 10, y - 18), (64, 88), (60, 56), (42, 40), (12, 42), (22, 62), (24, 88),
    ])  # fmt: skip
    pale = rig.pose.pale
    return [Layer("chest", ON_BODY, rig.body, pale, below=mix(pale, CREAM, 0.5), patch=[patch], feather=1.0)]


def chest_ruff(rig: Rig) -> list[Layer]:
    """A shaggy collar of long dark-tipped hair around the neck."""
    p = rig.pose
    x, y = rig.skull
    hair = closed_curve([
        (x - 10, y - 2), (x + 12, y - 12), (x + 8, y - 26), (x + 10, y - 38), (x + 3, y - 42), (x + 2, y - 52),
        (x - 8, y - 50), (x - 14, y - 58), (x - 21, y - 48), (x - 30, y - 50), (x - 31, y - 38), (x - 38, y - 33),
        (x - 30, y - 20), (x - 22, y - 6),
    ])  # fmt: skip
    strands = []
    for i in range(7):
        sx, sy = x - 25 + 5 * i, y - 30 - 6 * (i % 2)
        strands.append(
            (Limb([(sx, sy, 0.5), (sx - 1, sy - 7, 0.9), (sx + 1, sy - 14, 0.4)]).outline, darker(p.coat, 0.8))
        )
    colour = mix(p.pale, p.coat, 0.1)
    return [Layer("chest", ON_BODY, Form([hair], 9, 0.16), colour, marks=strands)]


def chest_shirt(rig: Rig) -> list[Layer]:
    """White from the breast to the belly."""
    patch = closed_curve([(46, 106), (62, 96), (60, 58), (40, 38), (12, 38), (0, 52), (20, 60), (34, 72)])
    return [Layer("chest", ON_BODY, rig.body, rig.pose.pale, patch=[patch], feather=1.0)]


#: (part, value) -> the function that draws it.
PAINTERS: dict[tuple[str, str], Painter] = {
    ("ears", "pricked"): pricked_ears,
    ("ears", "huge"): huge_ears,
    ("ears", "rose"): rose_ears,
    ("ears", "drop"): drop_ears,
    ("face", "wedge"): wedge_face,
    ("face", "fox"): fox_face,
    ("face", "long"): long_face,
    ("chest", "bib"): chest_bib,
    ("chest", "ruff"): chest_ruff,
    ("chest", "shirt"): chest_shirt,
}
