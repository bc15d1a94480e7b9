"""Shapes and soft-shaded layers: the brush work under the menagerie's drawings.

Shapes are polygons, (n, 2) float arrays. A `Form` is a silhouette with its own soft shading; a `Layer` is
paint on a form (all of it, or a patch of it). Layers are turned into `Stamp`s, small crops of colour and
8-bit alpha, which are laid on the canvas one after the other. An alpha of 255 replaces what lies below
exactly and an alpha of 0 leaves it exactly: what a part shows is therefore known to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFilter

SIZE = 224
SUPERSAMPLING = 3
Colour = tuple[float, ...]  # red, green and blue, 0 to 255
Points = np.ndarray


def _catmull_rom_basis(steps: int) -> np.ndarray:
    t = np.arange(steps) / steps
    t2, t3 = t * t, t * t * t
    return 0.5 * np.stack([-t + 2 * t2 - t3, 2 - 5 * t2 + 3 * t3, t + 4 * t2 - 3 * t3, t3 - t2], axis=1)


_STEPS = 7
_BASIS = _catmull_rom_basis(_STEPS)


def closed_curve(points: ArrayLike) -> Points:
    """A smooth closed outline through the points."""
    p = np.asarray(points, float)
    corners = np.stack([np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)], axis=1)
    return np.einsum("sk,nkd->nsd", _BASIS, corners).reshape(-1, p.shape[1])


def open_curve(points: ArrayLike) -> Points:
    """A smooth curve from the first point to the last; extra columns (a radius) are carried along."""
    p = np.asarray(points, float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    corners = np.stack([p[:-3], p[1:-2], p[2:-1], p[3:]], axis=1)
    curve = np.einsum("sk,nkd->nsd", _BASIS, corners).reshape(-1, p.shape[1])
    return np.concatenate([curve, p[-2:-1]])


_CAP = np.array([[np.sin(a), np.cos(a)] for a in np.linspace(0, np.pi, 7)[1:-1]])


class Limb:
    """A tapering tube along a smooth line, given by points (x, y, radius)."""

    def __init__(self, points: ArrayLike, shag: float = 0.0):
        line = open_curve(points)
        self.centre = line[:, :2]
        along = np.gradient(self.centre, axis=0)
        along /= np.sqrt((along * along).sum(1, keepdims=True)) + 1e-9
        radius = np.maximum(line[:, 2:3], 0.3)
        if shag:  # a zigzag of hair tips along both edges
            radius = radius * (1 + shag * (np.arange(len(line)) % 2)[:, None])
        side = np.stack([-along[:, 1], along[:, 0]], axis=1) * radius
        self.left, self.right = self.centre + side, self.centre - side
        end = self.centre[-1] + _CAP[:, :1] * along[-1] * radius[-1] + _CAP[:, 1:] * side[-1]
        start = self.centre[0] - _CAP[:, :1] * along[0] * radius[0] - _CAP[:, 1:] * side[0]
        self.outline = np.concatenate([self.left, end, self.right[::-1], start])

    def band(self, start: float, stop: float) -> Points:
        """The stretch of the tube between two fractions of its length, a little wider than the tube."""
        last = len(self.centre) - 1
        a, b = round(start * last), round(stop * last) + 1
        out = 1.25
        left = self.centre[a:b] + (self.left - self.centre)[a:b] * out
        right = self.centre[a:b] + (self.right - self.centre)[a:b] * out
        if stop >= 1:  # take the rounded end along
            tip = self.centre[-1] + (self.centre[-1] - self.centre[-2]) * 4
            left = np.concatenate([left, tip + (left[-1:] - self.centre[-1])])
            right = np.concatenate([right, tip + (right[-1:] - self.centre[-1])])
        return np.concatenate([left, right[::-1]])


_CIRCLE = np.array([[np.cos(a), np.sin(a)] for a in np.linspace(0, 2 * np.pi, 29)[:-1]])


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Points:
    points = _CIRCLE * (rx, ry)
    return (rotate(points, turn) if turn else points) + (x, y)


def rotate(points: Points, degrees: float) -> Points:
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """Colour a with that share of colour b."""
    return tuple(x + (y - x) * share for x, y in zip(a, b, strict=True))


def darker(colour: Colour, factor: float) -> Colour:
    return tuple(x * factor for x in colour)


class View(NamedTuple):
    """Where and how an animal (or a thing) stands in the image: unit coordinates, y up, to pixels."""

    x: float
    y: float
    scale: float
    flip: float = 1.0  # -1 looks to the left

    def to_pixels(self, points: Points) -> Points:
        return points * (self.scale * self.flip, -self.scale) + (self.x, self.y)


class Light(NamedTuple):
    """The direction towards the light in the image (y down), its colour and how strong it models."""

    dx: float
    dy: float
    colour: Colour = (1.0, 1.0, 1.0)
    strength: float = 1.0


@dataclass(eq=False)
class Form:
    """A silhouette (the union of polygons, in units) and how round and furry it is shaded."""

    polygons: list[Points]
    roundness: float = 9.0
    fur: float = 0.06


@dataclass(eq=False)
class Layer:
    """Paint on a form: on all of it, or on the patch polygons only, with flat marks on top."""

    part: str | None
    order: int
    form: Form
    colour: Colour
    below: Colour | None = None  # the colour the paint turns to at the lower edge of the form
    patch: list[Points] | None = None
    feather: float = 0.0
    melt: Points | None = None  # where the paint melts softly into what lies below
    marks: Sequence[tuple[Points, Colour]] = ()


class Stamp(NamedTuple):
    """A crop of colour and 8-bit alpha at its place (left, top) in the image."""

    left: int
    top: int
    rgb: np.ndarray
    alpha: np.ndarray

    def window(self) -> tuple[slice, slice]:
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def _fur_tile() -> np.ndarray:
    """Fixed noise in about [-1, 1], the same for every drawing: fine hairs over soft, larger clouds."""
    rng = np.random.default_rng(20)
    tile = np.zeros((384, 384), np.float32)
    for rows, columns, weight in ((384, 384, 0.35), (128, 256, 0.4), (40, 40, 0.35)):
        noise = Image.fromarray(rng.integers(0, 256, (rows, columns), dtype=np.uint8))
        grown = noise.resize((384, 384), Image.Resampling.BICUBIC)
        tile += weight * (np.asarray(grown, np.float32) / 127.5 - 1)
    return tile


FUR = _fur_tile()


def _shift(values: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """values at (x + dx, y + dy); crops have an empty border, so rolling brings in nothing."""
    return np.roll(values, (-dy, -dx), (0, 1))


class Brush:
    """Turns layers into stamps for one view and light; forms shared by several layers are shaded once."""

    def __init__(self, view: View, light: Light, fur_offset: tuple[int, int] = (0, 0)):
        self.view, self.light, self.fur_offset = view, light, fur_offset
        self._forms: dict[int, tuple] = {}

    def _mask(self, polygons: list[Points], left: int, top: int, width: int, height: int) -> Image.Image:
        big = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
        pen = ImageDraw.Draw(big)
        for polygon in polygons:
            pen.polygon(self._fine(polygon, left, top), fill=255)
        return big.reduce(SUPERSAMPLING)

    def _fine(self, polygon: Points, left: int, top: int) -> list[int]:
        """Whole supersampled pixels: rounding here keeps platform differences of sin and cos out."""
        pixels = (self.view.to_pixels(polygon) - (left, top)) * SUPERSAMPLING
        return np.rint(pixels).astype(int).ravel().tolist()

    def _shaded(self, form: Form) -> tuple | None:
        """(left, top, mask, light factor, rim) of a form, or None when it lies outside the image."""
        if id(form) in self._forms:
            return self._forms[id(form)][0]
        shaded = self._shade(form)
        self._forms[id(form)] = (shaded, form)  # holding the form keeps its id from being used again
        return shaded

    def _shade(self, form: Form) -> tuple | None:
        pixels = [self.view.to_pixels(p) for p in form.polygons]
        low = np.min([p.min(0) for p in pixels], axis=0)
        high = np.max([p.max(0) for p in pixels], axis=0)
        if high.min() < 0 or low.max() > SIZE:
            return None
        reach = max(2, round(form.roundness * self.view.scale))
        # What is far outside the image does not matter even to the shading.
        low = np.maximum(np.floor(low).astype(int), -2 * reach) - reach - 2
        high = np.minimum(np.ceil(high).astype(int), SIZE + 2 * reach) + reach + 2
        width, height = (high - low).tolist()
        left, top = low.tolist()
        image = self._mask(form.polygons, left, top, width, height)
        mask = np.asarray(image, np.float32) / 255
        soft = np.asarray(image.filter(ImageFilter.BoxBlur(reach * 0.6)), np.float32) / 255
        dx, dy = self.light.dx, self.light.dy
        far = (round(dx * reach * 0.7), round(dy * reach * 0.7))
        slope = _shift(soft, -far[0], -far[1]) - _shift(soft, *far)
        lit = np.maximum(slope, 0) * 0.20 + np.minimum(slope, 0) * 0.42
        ox, oy = (self.fur_offset[0] + left) % 64, (self.fur_offset[1] + top) % 64
        fur = FUR[oy : oy + height, ox : ox + width]
        factor = 1 + lit * self.light.strength + fur * form.fur
        rim = np.maximum(mask - _shift(mask, round(dx * 2), round(dy * 2)), 0) * 26 * self.light.strength
        return left, top, mask, factor, rim

    def stamp(self, layer: Layer) -> Stamp | None:
        shaded = self._shaded(layer.form)
        if shaded is None:
            return None
        left, top, mask, factor, rim = shaded
        height, width = mask.shape
        alpha = mask
        if layer.patch is not None:
            patch = self._mask(layer.patch, left, top, width, height)
            if layer.feather:
                patch = patch.filter(ImageFilter.BoxBlur(float(layer.feather * self.view.scale)))
            alpha = mask * (np.asarray(patch, np.float32) / 255)
        if layer.melt is not None:
            gone = self._mask([layer.melt], left, top, width, height)
            gone = gone.filter(ImageFilter.BoxBlur(float(6 * self.view.scale)))
            alpha = alpha * (1 - np.asarray(gone, np.float32) / 255)
        alpha = _to_alpha(alpha)
        window = _cut(alpha, left, top)
        if window is None:
            return None
        rows, columns = window
        rgb = self._colours(layer, left, top, width, height)[rows, columns]
        rgb = rgb * factor[rows, columns, None] + rim[rows, columns, None]
        rgb = np.clip(rgb * np.asarray(self.light.colour, np.float32), 0, 255) + np.float32(0.5)
        return Stamp(left + columns.start, top + rows.start, rgb.astype(np.uint8), alpha[rows, columns])

    def _colours(self, layer: Layer, left: int, top: int, width: int, height: int) -> np.ndarray:
        if layer.marks:
            base = tuple(int(c + 0.5) for c in layer.colour)
            big = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING), base)
            pen = ImageDraw.Draw(big)
            for polygon, colour in layer.marks:
                pen.polygon(self._fine(polygon, left, top), fill=tuple(int(c + 0.5) for c in colour))
            rgb = np.asarray(big.reduce(SUPERSAMPLING), np.float32)
        else:
            rgb = np.empty((height, width, 3), np.float32)
            rgb[:] = layer.colour
        if layer.below is not None:
            ramp = np.linspace(0, 1, height, dtype=np.float32)
            change = np.asarray(layer.below, np.float32) - np.asarray(layer.colour, np.float32)
            rgb = rgb + (ramp * ramp)[:, None, None] * change
        return rgb


def _to_alpha(mask: np.ndarray) -> np.ndarray:
    """8-bit alpha; a trace counts as nothing and nearly full as full, so that parts have definite edges."""
    return np.clip(mask * 272 - 8.5, 0, 255).astype(np.uint8)


def _cut(alpha: np.ndarray, left: int, top: int) -> tuple[slice, slice] | None:
    """The smallest window of a crop that holds its paint inside the image."""
    r0, c0 = max(0, -top), max(0, -left)
    inside = alpha[r0 : max(0, SIZE - top), c0 : max(0, SIZE - left)]
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return None
    return (slice(int(r0 + rows[0]), int(r0 + rows[-1] + 1)), slice(int(c0 + columns[0]), int(c0 + columns[-1] + 1)))


def lay(canvas: np.ndarray, stamp: Stamp) -> None:
    """Blend a stamp onto the canvas, in whole numbers (rounded division by 255)."""
    target = canvas[stamp.window()]
    alpha = stamp.alpha[:, :, None].astype(np.uint16)
    total: np.ndarray = stamp.rgb * alpha + target * (255 - alpha) + np.uint16(128)
    target[:] = (total + (total >> 8)) >> 8
