"""A simulated camera: focus, exposure, contrast, colour cast, uneven light and grain.

All of it comes from the seed alone. What `develop` does to a pixel depends only on that pixel and its position. So it
changes nothing outside a part that was left out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from iscam.menagerie.paint import SIZE


class Camera(NamedTuple):
    """The properties of one shot."""

    blur: float  # radius in pixels, 0 if the image is sharp
    curves: np.ndarray  # (256, 3) uint8: the recorded value for each input value and channel
    light: np.ndarray | None  # (224, 224) factors of the uneven light
    grain: np.ndarray | None  # (224, 224) values to add


def random_camera(rng: np.random.Generator) -> Camera:
    """Sample a shot. Every drawing depends on the order of the random numbers: do not change it."""
    blur, gamma, contrast, level, uneven, cells, grainy = rng.random(7).tolist()
    cast = 1 + 0.14 * (rng.random(3) - 0.5)
    ramp = np.linspace(0, 1, 256)[:, None]
    curve = ramp ** (2.0 ** (1.3 * (gamma - 0.5))) * cast
    share = 1.1 - 0.5 * contrast**3
    middle = 0.3 + 0.45 * level
    curve = middle + (curve - middle) * share
    curves = np.clip(255 * curve + 0.5, 0, 255).astype(np.uint8)
    return Camera(
        blur=1.6 * max(0.0, blur - 0.6),
        curves=curves,
        light=uneven_light(rng, 2 + int(4 * cells), 0.7 * (uneven - 0.5)) if uneven > 0.5 else None,
        grain=rng.normal(0, 14 * (grainy - 0.5), (SIZE, SIZE)).astype(np.float32) if grainy > 0.5 else None,
    )


def uneven_light(rng: np.random.Generator, cells: int, strength: float) -> np.ndarray:
    """Patches of shade: factors between about 1 - strength and 1 + strength / 2."""
    grid = Image.fromarray(rng.integers(0, 256, (cells, cells), dtype=np.uint8))
    noise = np.asarray(grid.resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
    return 1 + np.float32(strength) * (noise / 170 - 1)


def develop(canvas: np.ndarray, camera: Camera) -> np.ndarray:
    """The image (224, 224, 3) uint8 that the camera records of a scene."""
    if camera.light is not None or camera.grain is not None:
        values = canvas.astype(np.float32)
        if camera.light is not None:
            values *= camera.light[:, :, None]
        if camera.grain is not None:
            values += camera.grain[:, :, None]
        canvas = np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)
    return np.stack([camera.curves[canvas[:, :, k], k] for k in range(3)], axis=2)
