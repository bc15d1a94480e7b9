"""Painting with soft shading: layers of paint become stamps, which are blended onto the image one after the other.

A `Form` is a silhouette with its shading. A `Layer` is paint on a form, on all of it or on a patch. A `Brush` turns
layers into `Stamp`s: small crops of colour with an 8-bit alpha. Alpha 255 replaces what lies below exactly, and alpha 0
leaves it unchanged. So the pixels that show a part are known exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from iscam.menagerie.shapes import Colour, Points

#: Height and width of an image in pixels.
SIZE = 224

#: Polygons are filled at this multiple of the resolution and then averaged.
SUPERSAMPLING = 3


class Placement(NamedTuple):
    """Where a thing stands in the image: the pixel of its origin, its scale in pixels per unit, and its direction."""

    x: float
    y: float
    scale: float
    flip: float = 1.0  # -1 looks to the left

    def to_pixels(self, points: Points) -> Points:
        """From a thing's units, where y points up, to pixels, where y points down."""
        return points * (self.scale * self.flip, -self.scale) + (self.x, self.y)


class Light(NamedTuple):
    """The direction towards the light in the image (y points down), and its colour."""

    dx: float
    dy: float
    colour: Colour = (1.0, 1.0, 1.0)


@dataclass(eq=False)
class Form:
    """A silhouette: the union of polygons in a thing's units, how round it looks and how strong its fur texture is."""

    polygons: list[Points]
    roundness: float = 9.0
    fur: float = 0.06


@dataclass(eq=False)
class Layer:
    """Paint on a form. `part` is the part it belongs to, and layers of a smaller `order` lie further back."""

    part: str | None
    order: int
    form: Form
    colour: Colour
    below: Colour | None = None  # the colour at the lower edge of the form
    patch: list[Points] | None = None  # polygons that the paint is limited to
    feather: float = 0.0  # width of the patch's soft edge
    melt: Points | None = None  # where the paint fades softly into what lies below
    marks: Sequence[tuple[Points, Colour]] = ()  # polygons of other colours on top


class Stamp(NamedTuple):
    """A crop of colour and 8-bit alpha, and its place in the image."""

    left: int
    top: int
    rgb: np.ndarray
    alpha: np.ndarray

    def window(self) -> tuple[slice, slice]:
        """The rows and columns of the image that the crop covers."""
        height, width = self.alpha.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


class Shading(NamedTuple):
    """A form in pixels: its place, its coverage in [0, 1], a factor on the colour and a bright rim to add."""

    left: int
    top: int
    mask: np.ndarray
    factor: np.ndarray
    rim: np.ndarray


def fur_tile() -> np.ndarray:
    """Fixed noise in about [-1, 1], the same for every drawing: fine hairs over larger soft clouds."""
    rng = np.random.default_rng(20)
    tile = np.zeros((384, 384), np.float32)
    for rows, columns, weight in ((384, 384, 0.35), (128, 256, 0.4), (40, 40, 0.35)):
        noise = Image.fromarray(rng.integers(0, 256, (rows, columns), dtype=np.uint8))
        grown = noise.resize((384, 384), Image.Resampling.BICUBIC)
        tile += weight * (np.asarray(grown, np.float32) / 127.5 - 1)
    return tile


FUR = fur_tile()


class Brush:
    """A painter that turns layers into stamps for one placement, light and blur. It shades each form only once."""

    def __init__(
        self, placement: Placement, light: Light, fur_offset: tuple[int, int] = (0, 0), blur: float = 0.0
    ) -> None:
        self.placement, self.light, self.fur_offset, self.blur = placement, light, fur_offset, blur
        self.shadings: dict[Form, Shading | None] = {}

    def stamp(self, layer: Layer) -> Stamp | None:
        """The layer as a stamp, or None if nothing of it lies inside the image."""
        if layer.form not in self.shadings:
            self.shadings[layer.form] = self.shade(layer.form)
        shading = self.shadings[layer.form]
        if shading is None:
            return None
        alpha = to_alpha(self.coverage(layer, shading))
        window = painted_window(alpha, shading.left, shading.top)
        if window is None:
            return None
        rgb = self.colours(layer, shading, window) * shading.factor[window][:, :, None]
        rgb += shading.rim[window][:, :, None]
        rgb *= np.asarray(self.light.colour, np.float32)
        np.clip(rgb, 0, 255, out=rgb)
        rgb += np.float32(0.5)
        rows, columns = window
        return Stamp(shading.left + columns.start, shading.top + rows.start, rgb.astype(np.uint8), alpha[window])

    def shade(self, form: Form) -> Shading | None:
        """The shading of a form, or None if it lies outside the image."""
        pixels = [self.placement.to_pixels(p) for p in form.polygons]
        low = np.min([p.min(0) for p in pixels], axis=0)
        high = np.max([p.max(0) for p in pixels], axis=0)
        if high.min() < 0 or low.max() > SIZE:
            return None
        reach = max(2, round(form.roundness * self.placement.scale))
        # Pixels far outside the image do not influence the shading inside.
        low = np.maximum(np.floor(low).astype(int), -2 * reach) - reach - 2
        high = np.minimum(np.ceil(high).astype(int), SIZE + 2 * reach) + reach + 2
        width, height = (high - low).tolist()
        left, top = low.tolist()
        image = self.fill(form.polygons, left, top, width, height)
        mask = np.asarray(image, np.float32) / 255
        soft = np.asarray(image.filter(ImageFilter.BoxBlur(reach * 0.6)), np.float32) / 255
        dx, dy = self.light.dx, self.light.dy
        far = (round(dx * reach * 0.7), round(dy * reach * 0.7))
        slope = moved(soft, -far[0], -far[1]) - moved(soft, *far)
        slope *= np.where(slope > 0, np.float32(0.20), np.float32(0.42))
        ox, oy = (self.fur_offset[0] + left) % 64, (self.fur_offset[1] + top) % 64
        fur = FUR[oy : oy + height, ox : ox + width]
        factor = 1 + slope
        factor += fur * form.fur
        rim = mask - moved(mask, round(dx * 2), round(dy * 2))
        np.maximum(rim, 0, out=rim)
        rim *= 26
        return Shading(left, top, mask, factor, rim)

    def fill(self, polygons: list[Points], left: int, top: int, width: int, height: int) -> Image.Image:
        """The polygons' coverage (0 to 255) of a crop of the image."""
        big = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
        pen = ImageDraw.Draw(big)
        for polygon in polygons:
            pen.polygon(self.fine_pixels(polygon, left, top), fill=255)
        return big.reduce(SUPERSAMPLING)

    def fine_pixels(self, polygon: Points, left: int, top: int) -> list[int]:
        """Supersampled pixels as integers. The rounding removes platform differences of sin and cos."""
        pixels = (self.placement.to_pixels(polygon) - (left, top)) * SUPERSAMPLING
        return np.rint(pixels).astype(int).ravel().tolist()

    def coverage(self, layer: Layer, shading: Shading) -> np.ndarray:
        """The share of each pixel, in [0, 1], that the layer's paint covers."""
        height, width = shading.mask.shape
        crop = (shading.left, shading.top, width, height)
        alpha = shading.mask
        if layer.patch is not None:
            patch = self.fill(layer.patch, *crop)
            if layer.feather:
                patch = patch.filter(ImageFilter.BoxBlur(float(layer.feather * self.placement.scale)))
            alpha = shading.mask * (np.asarray(patch, np.float32) / 255)
        if layer.melt is not None:
            faded = self.fill([layer.melt], *crop)
            faded = faded.filter(ImageFilter.BoxBlur(float(6 * self.placement.scale)))
            alpha = alpha * (1 - np.asarray(faded, np.float32) / 255)
        if self.blur:
            sharp = Image.fromarray((alpha * 255 + 0.5).astype(np.uint8))
            alpha = np.asarray(sharp.filter(ImageFilter.BoxBlur(self.blur)), np.float32) / 255
        return alpha

    def colours(self, layer: Layer, shading: Shading, window: tuple[slice, slice]) -> np.ndarray:
        """The unshaded colours of a layer with its marks, in a window of the crop, as an array (height, width, 3)."""
        height, width = shading.mask.shape
        rgb: np.ndarray = np.asarray(layer.colour, np.float32)[None, None]
        if layer.marks:
            base = tuple(int(c + 0.5) for c in layer.colour)
            big = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING), base)
            pen = ImageDraw.Draw(big)
            for polygon, colour in layer.marks:
                outline = self.fine_pixels(polygon, shading.left, shading.top)
                pen.polygon(outline, fill=tuple(int(c + 0.5) for c in colour))
            image = big.reduce(SUPERSAMPLING)
            image = image.filter(ImageFilter.BoxBlur(self.blur)) if self.blur else image
            rgb = np.asarray(image)[window].astype(np.float32)
        if layer.below is not None:
            ramp = np.linspace(0, 1, height, dtype=np.float32)[window[0]]
            change = np.asarray(layer.below, np.float32) - np.asarray(layer.colour, np.float32)
            rgb = rgb + (ramp * ramp)[:, None, None] * change
        return rgb


def moved(values: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """The values at (x + dx, y + dy), 0 outside the crop."""
    height, width = values.shape
    result = np.zeros_like(values)
    rows, columns = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    result[rows, columns] = values[max(0, dy) : height + min(0, dy), max(0, dx) : width + min(0, dx)]
    return result


def to_alpha(coverage: np.ndarray) -> np.ndarray:
    """8-bit alpha. Almost no coverage becomes 0 and almost full coverage 255, so that parts have sharp borders."""
    return np.clip(coverage * 272 - 8.5, 0, 255).astype(np.uint8)


def painted_window(alpha: np.ndarray, left: int, top: int) -> tuple[slice, slice] | None:
    """The smallest window of a crop that holds its paint inside the image, or None if there is none."""
    r0, c0 = max(0, -top), max(0, -left)
    inside = alpha[r0 : max(0, SIZE - top), c0 : max(0, SIZE - left)]
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return None
    return (slice(int(r0 + rows[0]), int(r0 + rows[-1] + 1)), slice(int(c0 + columns[0]), int(c0 + columns[-1] + 1)))


def blend(canvas: np.ndarray, stamp: Stamp) -> None:
    """Blend a stamp onto the canvas in integer arithmetic: a division by 255, rounded."""
    target = canvas[stamp.window()]
    alpha = stamp.alpha[:, :, None].astype(np.uint16)
    total: np.ndarray = stamp.rgb * alpha + target * (255 - alpha) + np.uint16(128)
    target[:] = (total + (total >> 8)) >> 8
