"""What the parts of all animals share: colours, poses, the body that parts are attached to, eyes.

Units: y points up, the ground is y = 0, and the animal looks to the right. A Basenji's shoulders are about 100 units
high. A function that draws a part does not know the species. It knows only how the animal is built and posed (`Rig`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from iscam.menagerie.paint import Form, Layer
from iscam.menagerie.shapes import Colour, Limb, Points, ellipse, mix, rotate

CREAM: Colour = (240, 228, 208)
WHITE: Colour = (246, 242, 234)
BLACK: Colour = (44, 38, 38)
NOSE: Colour = (38, 32, 34)
SKIN: Colour = (222, 176, 150)

#: Colours of the coat. Every animal can have each of them, so that the colour does not reveal the species.
COATS: tuple[Colour, ...] = (
    (178, 104, 58), (196, 124, 70), (208, 156, 100), (150, 92, 60),
    (168, 128, 92), (132, 104, 86), (186, 140, 88), (146, 126, 110),
)  # fmt: skip

#: The order of the layers, from back to front.
BEHIND, FAR, BODY, ON_BODY, NEAR, HEAD_BEHIND, HEAD, ON_HEAD, FRONT = range(9)


@dataclass
class Pose:
    """The random properties of an animal. They come from the seed alone, not from the species."""

    coat: Colour
    pale: Colour
    dark: Colour
    stride: tuple[float, float, float, float]  # paws, in units forward: near fore, far fore, near hind, far hind
    nod: float  # degrees, up is positive
    reach: float  # how far the head is stretched up and forward, -1 to 1
    tail: float  # -1 to 1
    ear: float  # -1 to 1
    stout: float  # -1 to 1
    sitting: bool  # monkeys sit or walk on four legs
    gaze: float  # -1 to 1
    spots: np.ndarray  # (64, 3) numbers in [0, 1) for coat patterns


def random_pose(rng: np.random.Generator) -> Pose:
    """Sample a pose. Every drawing depends on the order of the random numbers: do not change it."""
    coat = COATS[rng.integers(len(COATS))]
    tint = (rng.random(3) - 0.5) * 16 + (rng.random() - 0.5) * 34
    coat = tuple(float(c + t) for c, t in zip(coat, tint, strict=True))
    even = rng.random(12) * 2 - 1
    walk = even[0]
    stride = (12 * walk + 4 * even[1], -12 * walk + 4 * even[2], -11 * walk + 4 * even[3], 11 * walk + 4 * even[4])
    return Pose(
        coat,
        pale=mix(WHITE, CREAM, float(rng.random())),
        dark=mix(BLACK, coat, 0.05 + 0.18 * float(rng.random())),
        stride=stride,
        nod=9 * even[5] + 1,
        reach=even[6],
        tail=even[7],
        ear=even[8],
        stout=even[9],
        sitting=bool(rng.random() < 0.5),
        gaze=even[10],
        spots=rng.random((64, 3)),
    )


@dataclass
class Rig:
    """The built and posed body of one animal. Its parts are attached to it."""

    pose: Pose
    body: Form
    head: Form
    skull: tuple[float, float]
    turn: float  # degrees that the head is turned up
    size: float  # of the head
    hip: tuple[float, float]
    shoulder: tuple[float, float]

    def on_head(self, points: Points | list[tuple[float, float]]) -> Points:
        """From coordinates of the head (origin in the middle of the skull, looking right) to the animal's."""
        return rotate(np.asarray(points, float) * self.size, self.turn) + self.skull

    def head_limb(self, points: list[tuple[float, float, float]], shag: float = 0.0) -> Limb:
        """A limb given in coordinates of the head."""
        p = np.asarray(points, float)
        return Limb(np.concatenate([self.on_head(p[:, :2]), p[:, 2:] * self.size], axis=1), shag)


#: A function that draws one value of one part.
Painter = Callable[[Rig], list[Layer]]


def plain_body(rig: Rig) -> list[Layer]:
    """Trunk and head in the colour of the coat."""
    coat = rig.pose.coat
    return [
        Layer(None, BODY, rig.body, coat, below=mix(coat, CREAM, 0.25)),
        Layer(None, HEAD, rig.head, coat),
    ]


def eye(rig: Rig, x: float, y: float, size: float) -> list[tuple[Points, Colour]]:
    """Marks of one eye: rim, iris, pupil and a highlight."""
    return [
        (rig.on_head(ellipse(x, y, size * 1.25, size * 1.05)), (40, 30, 30)),
        (rig.on_head(ellipse(x, y, size * 0.9, size * 0.9)), (96, 62, 36)),
        (rig.on_head(ellipse(x + 0.2, y, size * 0.5, size * 0.55)), (18, 14, 16)),
        (rig.on_head(ellipse(x - size * 0.3, y + size * 0.4, size * 0.34, size * 0.34)), (255, 252, 244)),
    ]
