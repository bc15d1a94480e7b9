"""Outlines of things, as polygons (n, 2) of floats, and colours."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import ArrayLike

#: Red, green and blue, each from 0 to 255.
Colour = tuple[float, ...]

#: Points (n, 2) of a polygon or of a line.
Points = np.ndarray

#: Number of curve points from one given point to the next.
CURVE_STEPS = 7


def catmull_rom_basis(steps: int) -> np.ndarray:
    """Weights (steps, 4) of four neighbouring points on the stretch between the second and the third."""
    t = np.arange(steps) / steps
    t2, t3 = t * t, t * t * t
    return 0.5 * np.stack([-t + 2 * t2 - t3, 2 - 5 * t2 + 3 * t3, t + 4 * t2 - 3 * t3, t3 - t2], axis=1)


BASIS = catmull_rom_basis(CURVE_STEPS)

#: A circle of radius 1 and the inner points of half a circle, as (cos, sin) and (sin, cos).
CIRCLE = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 2 * np.pi, 29)[:-1]])
CAP = np.array([[np.sin(a), np.cos(a)] for a in np.linspace(0, np.pi, 7)[1:-1]])


def closed_curve(points: ArrayLike) -> Points:
    """A smooth closed outline through the points (Catmull-Rom spline)."""
    p = np.asarray(points, float)
    return np.einsum("sn,nd->sd", closed_weights(len(p)), p)


def open_curve(points: ArrayLike) -> Points:
    """A smooth line from the first point to the last. Further columns, such as a radius, are interpolated too."""
    p = np.asarray(points, float)
    return np.einsum("sn,nd->sd", open_weights(len(p)), p)


@cache
def closed_weights(count: int) -> np.ndarray:
    """The weight of each of `count` given points for each point of a closed outline."""
    p = np.eye(count)
    corners = np.stack([np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)], axis=1)
    return np.einsum("sk,nkd->nsd", BASIS, corners).reshape(-1, count)


@cache
def open_weights(count: int) -> np.ndarray:
    """The weight of each of `count` given points for each point of a line."""
    p = np.eye(count)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    corners = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], axis=1)
    curve = np.einsum("sk,nkd->nsd", BASIS, corners).reshape(-1, count)
    return np.concatenate([curve, p[-2:-1]])


class Limb:
    """A tapering tube along a smooth line through points (x, y, radius). `shag` adds hair tips along both edges."""

    def __init__(self, points: ArrayLike, shag: float = 0.0) -> None:
        line = open_curve(points)
        self.centre = line[:, :2]
        along = np.empty_like(self.centre)
        along[1:-1] = self.centre[2:] - self.centre[:-2]
        along[0], along[-1] = self.centre[1] - self.centre[0], self.centre[-1] - self.centre[-2]
        along /= np.sqrt((along * along).sum(1, keepdims=True)) + 1e-9
        radius = np.maximum(line[:, 2:3], 0.3)
        if shag:
            radius = radius * (1 + shag * (np.arange(len(line)) % 2)[:, None])
        side = np.stack([-along[:, 1], along[:, 0]], axis=1) * radius
        self.left, self.right = self.centre + side, self.centre - side
        end = self.centre[-1] + CAP[:, :1] * along[-1] * radius[-1] + CAP[:, 1:] * side[-1]
        start = self.centre[0] - CAP[:, :1] * along[0] * radius[0] - CAP[:, 1:] * side[0]
        self.outline = np.concatenate([self.left, end, self.right[::-1], start])

    def band(self, start: float, stop: float) -> Points:
        """The section between two fractions of the tube's length, a little wider than the tube."""
        last = len(self.centre) - 1
        a, b = round(start * last), round(stop * last) + 1
        wider = 1.25
        left = self.centre[a:b] + (self.left - self.centre)[a:b] * wider
        right = self.centre[a:b] + (self.right - self.centre)[a:b] * wider
        if stop >= 1:  # include the rounded end
            tip = self.centre[-1] + (self.centre[-1] - self.centre[-2]) * 4
            left = np.concatenate([left, tip + (left[-1:] - self.centre[-1])])
            right = np.concatenate([right, tip + (right[-1:] - self.centre[-1])])
        return np.concatenate([left, right[::-1]])


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Points:
    """An ellipse with its centre at (x, y), turned by that many degrees."""
    points = CIRCLE * (rx, ry)
    return (rotate(points, turn) if turn else points) + (x, y)


def rotate(points: Points, degrees: float) -> Points:
    """Points turned around the origin, anticlockwise where y points up."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """The colour a, with that share of colour b."""
    return tuple(x + (y - x) * share for x, y in zip(a, b, strict=True))


def darker(colour: Colour, factor: float) -> Colour:
    """The colour, with all three values multiplied by the factor."""
    return tuple(x * factor for x in colour)


def jitter(rng: np.random.Generator, colour: Colour, amount: float) -> Colour:
    """A random colour near the given one, between 6 and 250."""
    shift = (rng.random(3) - 0.5) * amount + (rng.random() - 0.5) * amount
    return tuple(float(min(250, max(6, c + s))) for c, s in zip(colour, shift, strict=True))


def blob(rng: np.random.Generator, x: float, y: float, rx: float, ry: float) -> Points:
    """An irregular round outline."""
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    reach = 0.75 + 0.5 * rng.random(8)
    return closed_curve(np.stack([x + rx * reach * np.cos(angles), y + ry * reach * np.sin(angles)], axis=1))
