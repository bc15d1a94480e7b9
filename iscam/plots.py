"""Figures of images, saliency maps and metrics.

They are made without pyplot, so they open no window, need no backend and need not be closed. Dollar signs in titles are
plain text, because names of classes and files may contain them.
"""

from __future__ import annotations

import functools
import io
import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from iscam.errors import InputError
from iscam.methods import CONTROLS, METHODS
from iscam.transforms import canonical_transform, normalisation

if TYPE_CHECKING:  # matplotlib takes a second to import
    import pandas as pd
    from matplotlib.figure import Figure

#: Colour map of saliency. It is perceptually uniform and safe for colour-blind readers.
COLOURS = "inferno"

#: Colours of lines, safe for colour-blind readers.
LINE_COLOURS = ("#0173B2", "#DE8F05", "#029E73", "#D55E00", "#CC78BC", "#CA9161", "#FBAFE4", "#949494", "#ECE133")

#: Maximum number of characters in a line of the titles of a gallery. Longer titles have several lines.
TITLE_WIDTH = 24


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of the given size in inches. A notebook displays it as the output of a cell.

    Raises InputError if matplotlib cannot be imported because MPLBACKEND names an unknown backend.
    """
    try:
        return figure_class()(figsize=(width, height), layout="constrained")
    except ValueError as error:
        raise InputError(f"matplotlib cannot be imported: {error}") from error


@functools.cache
def figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return NotebookFigure


def title_of(method: str) -> str:
    """Return the title of a method or control. Any other name is returned unchanged."""
    entry = METHODS.get(method) or CONTROLS.get(method)
    return entry.title if entry else method


def to_pixels(image: Tensor, transform: Callable[..., Any] | None = canonical_transform) -> np.ndarray:
    """Convert an image (channels, height, width) to RGB in [0, 1] for display, (height, width, 3).

    The normalisation in the transform's Normalize step is undone. Without such a step, an image in [0, 1] stays
    unchanged, and any other image is scaled to [0, 1] by min-max. If the image has one or two channels, the first is
    shown in grey. If it has more than three channels, the first three are shown.

    Raises InputError if the image has another shape or pixels that are not finite.
    """
    if image.ndim != 3 or not image.isfinite().all():
        raise InputError(f"an image must be (channels, height, width) with finite pixels; got {tuple(image.shape)}")
    pixels = image.detach().cpu().float() / (1 if image.is_floating_point() else 255)
    known = normalisation(transform)
    if known and all(len(values) in (1, len(pixels)) for values in known):
        mean, std = (torch.tensor(values).float()[:, None, None] for values in known)
        pixels = (pixels * std + mean).clamp(0, 1)
    pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        pixels = (pixels - low) / ((high - low) or 1)
    return pixels.permute(1, 2, 0).numpy()


def show_image(
    axes: Any, image: Tensor, title: str = "", transform: Callable[..., Any] | None = canonical_transform
) -> None:
    """Draw an image (channels, height, width) without ticks. `transform` is that of `to_pixels`."""
    axes.imshow(to_pixels(image, transform))
    axes.set_title(title, parse_math=False)
    axes.set_axis_off()


def show_overlay(
    axes: Any,
    image: Tensor,
    saliency_map: Tensor,
    title: str = "",
    transform: Callable[..., Any] | None = canonical_transform,
) -> None:
    """Draw a map (height, width) in [0, 1] over its image in grey, with the contour at 0.5.

    The colour scale is fixed from 0 to 1. The opacity increases with the value of the map.
    """
    pixels, values = to_pixels(image, transform), map_values(image, saliency_map)
    axes.imshow(pixels.mean(2), cmap="gray", vmin=0, vmax=1)
    axes.imshow(values, cmap=COLOURS, vmin=0, vmax=1, alpha=0.85 * values)
    if values.min() < 0.5 < values.max():
        axes.contour(values, levels=[0.5], colors="white", linewidths=1)
    axes.set_title(title, parse_math=False)
    axes.set_axis_off()


def map_values(image: Tensor, saliency_map: Tensor) -> np.ndarray:
    """Return the map as an array in [0, 1].

    Raises InputError if the range of the map is not [0, 1] or its size differs from that of the image.
    """
    values = torch.as_tensor(saliency_map).detach().float().cpu()
    if values.shape != image.shape[1:]:
        raise InputError(f"a map must have its image's size {tuple(image.shape[1:])}; got {tuple(values.shape)}")
    if not ((values >= -1e-6) & (values <= 1 + 1e-6)).all():  # also rejects NaN
        raise InputError("a map must have values from 0 to 1; scale it with iscam.maps.min_max")
    return values.clamp(0, 1).numpy()


def explanation_figure(
    image: Tensor, saliency_map: Tensor, title: str, transform: Callable[..., Any] | None = canonical_transform
) -> Figure:
    """Draw the image, the map with its colour scale, and the overlay of one explanation, side by side.

    - `image` (channels, height, width): the input of the network.
    - `saliency_map` (height, width) in [0, 1].
    - `transform`: the transform of the network. `to_pixels` undoes its normalisation for display.

    Raises InputError if the image and the map differ in size, or if the map is not in [0, 1].
    """
    drawn = new_figure(10, 3.8)
    left, middle, right = drawn.subplots(1, 3)
    show_image(left, image, "image", transform)
    scale = middle.imshow(map_values(image, saliency_map), cmap=COLOURS, vmin=0, vmax=1)
    middle.set_title("map")
    middle.set_axis_off()
    drawn.colorbar(scale, ax=middle, shrink=0.8, label="saliency")
    show_overlay(right, image, saliency_map, "overlay, contour at 0.5", transform)
    drawn.suptitle(title, parse_math=False)
    return drawn


def gallery(
    images: Sequence[Tensor],
    maps: Mapping[str, Sequence[Tensor]],
    labels: Sequence[str],
    transform: Callable[..., Any] | None = canonical_transform,
) -> Figure:
    """Draw a gallery with one row per image: the image with its label, and then the overlay of each method.

    `maps` is a mapping from each method to one map (height, width) per image.
    """
    columns = len(maps) + 1
    drawn = new_figure(1.75 * columns, 2.05 * len(images))
    axes = drawn.subplots(len(images), columns, squeeze=False)
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        show_image(axes[row, 0], image, label, transform)
        for column, (method, its_maps) in enumerate(maps.items(), start=1):
            title = textwrap.fill(title_of(method), TITLE_WIDTH) if row == 0 else ""
            show_overlay(axes[row, column], image, its_maps[row], title, transform)
    for axis in axes.flat:
        axis.title.set_fontsize(9)
    return drawn


def curve_bands(curves: Mapping[str, Any], xlabel: str) -> Figure:
    """Draw the mean curve of each method with a 95 % interval over the images, which assumes a normal distribution.

    `curves` maps each method to the curves returned by `iscam.insertion` or `iscam.deletion`.
    """
    drawn = new_figure(9.6, 4.8)
    axes = drawn.subplots()
    looks = zip(itertools.cycle(LINE_COLOURS), itertools.cycle(["-", "--", "-.", ":"]), strict=False)
    for (method, found), (colour, dashes) in zip(curves.items(), looks, strict=False):
        scores, fraction = found.scores.cpu().numpy(), found.fraction.cpu().numpy()
        mean, error = scores.mean(0), 1.96 * scores.std(0, ddof=min(1, len(scores) - 1)) / np.sqrt(len(scores))
        label = f"{title_of(method)} (area {float(found.auc.mean()):.3f})"
        axes.plot(fraction, mean, color=colour, linestyle=dashes, label=label)
        low, high = (mean - error).clip(0), (mean + error).clip(max=1)
        axes.fill_between(fraction, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel=xlabel, ylabel="probability of the class", xlim=(0, 1), ylim=(0, None))
    legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for text in legend.get_texts():
        text.set_parse_math(False)
    return drawn


def intervals(summary: pd.DataFrame, metric: str, xlabel: str) -> Figure:
    """Draw the mean and 95 % interval of each method in percent, with one panel per model.

    `summary` is a frame returned by `iscam.summary`.
    """
    chosen = summary[summary["metric"] == metric]
    models = list(dict.fromkeys(chosen["model"]))
    drawn = new_figure(2.9 * len(models) + 1.5, 0.36 * chosen["method"].nunique() + 1.3)
    axes = drawn.subplots(1, len(models), squeeze=False, sharey=True)
    for axis, model in zip(axes[0], models, strict=True):
        rows = chosen[chosen["model"] == model].iloc[::-1]
        middle, low, high = (100 * rows[key].to_numpy(float) for key in ("mean", "low", "high"))
        axis.errorbar(middle, [title_of(m) for m in rows["method"]], xerr=[middle - low, high - middle], fmt="o")
        axis.set_title(model, parse_math=False)
        axis.grid(axis="x", alpha=0.3)
    drawn.supxlabel(xlabel, fontsize="medium")
    return drawn
