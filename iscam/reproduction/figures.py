"""Figures of images, maps and drawings. The module `charts` draws figures of numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from iscam.data import LabelledImage
from iscam.menagerie.draw import Drawing
from iscam.plots import COLOURS, LINE_COLOURS, new_figure, show_image, show_overlay, to_pixels
from iscam.reproduction.comparator import View
from iscam.reproduction.names import method_summary, method_title


def grid(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of the given size in inches and an array of axes (rows, columns)."""
    figure = new_figure(width, height)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def hero(image: Tensor, label: str, maps: Mapping[str, Tensor]) -> Figure:
    """Draw the image and the overlay of each method in two rows, with a line on the origin of the method's weights."""
    columns = -(-(len(maps) + 1) // 2)
    figure, axes = grid(2, columns, 3 * columns, 7.4)
    show_image(axes.flat[0], image)
    axes.flat[0].set_title(label, fontsize=16)
    for axis, (method, saliency_map) in zip(axes.flat[1:], maps.items(), strict=False):
        show_overlay(axis, image, saliency_map)
        axis.set_title(method_title(method), fontsize=16)
        axis.set_xlabel(textwrap.fill(method_summary(method), 28), fontsize=13)
    for axis in axes.flat:
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure


def strip(panels: Mapping[str, Tensor], columns: int = 7, most: float = 1.0, label: str = "saliency") -> Figure:
    """Draw images (3, height, width) and maps (height, width) side by side. Maps share one scale from 0 to `most`."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = grid(rows, columns, 1.5 * columns + 0.8, 1.75 * rows)
    scale = None
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        if panel.ndim == 3:
            axis.imshow(to_pixels(panel))
        else:
            scale = axis.imshow(panel.cpu().numpy(), cmap=COLOURS, vmin=0, vmax=most)
        axis.set_title(title, fontsize=9)
    hide_axes(axes)
    if scale is not None:
        figure.colorbar(scale, ax=axes, shrink=0.85, label=label, aspect=15)
    return figure


def hide_axes(axes: Any) -> None:
    for axis in axes.flat:
        axis.set_axis_off()


def titled_drawings(drawings: Sequence[Drawing], titles: Sequence[str], columns: int = 5) -> Figure:
    """Show drawings with one title each, in rows of at most `columns`."""
    rows = -(-len(drawings) // columns)
    figure, axes = grid(rows, columns, 1.7 * columns, 1.95 * rows)
    hide_axes(axes)
    for axis, drawing, title in zip(axes.flat, drawings, titles, strict=False):
        axis.imshow(drawing.image)
        axis.set_title(title, fontsize=10)
    return figure


def part_bars(drawing: Drawing, values: pd.DataFrame, xlabel: str) -> Figure:
    """Show a drawing beside horizontal bars, with one group per part and one colour per column of `values`."""
    figure, axes = grid(1, 2, 9, 3.6, width_ratios=[1, 1.6])
    left, right = axes[0]
    left.imshow(drawing.image)
    left.set_title(drawing.species)
    left.set_axis_off()
    values[::-1].plot.barh(ax=right, color=LINE_COLOURS[: values.shape[1]], xlabel=xlabel)
    right.axvline(0, color="black", linewidth=0.8)
    right.legend(frameon=False)
    return figure


def pair_matrix(drawing: Drawing, single: pd.Series, pairs: pd.Series, label: str) -> Figure:
    """Show a drawing beside the importance of its parts (on the diagonal) and of its pairs of parts (below it)."""
    parts = list(single.index)
    values = pd.DataFrame(np.diag(single), parts, parts)
    for (one, other), value in pairs.items():
        values.loc[other, one] = value
    figure, axes = grid(1, 2, 9, 3.9, width_ratios=[1, 1.4])
    left, right = axes[0]
    left.imshow(drawing.image)
    left.set_title(drawing.species)
    left.set_axis_off()
    hidden = np.triu(np.ones_like(values, dtype=bool), k=1)
    sns.heatmap(values, mask=hidden, cmap="vlag", center=0, annot=True, fmt=".1f", cbar=False, square=True, ax=right)
    right.set_xlabel(label)
    right.tick_params(axis="x", rotation=45)
    right.tick_params(axis="y", rotation=0)
    return figure


def truth_beside_map(
    image: LabelledImage, saliency_map: Tensor, saliency: pd.Series, importance: pd.Series, title: str
) -> Figure:
    """Show a drawing, its map, and bars of two quantities per part: the mean of the map and the true importance.

    The values of each quantity are divided by its largest absolute value.
    """
    figure, axes = grid(1, 3, 10, 3.2, width_ratios=[1, 1, 1.5])
    left, middle, right = axes[0]
    show_image(left, image.image, image.name)
    show_overlay(middle, image.image, saliency_map, "map")
    shares = pd.DataFrame({"mean of the map": saliency, "true importance": importance[saliency.index]})
    (shares / shares.abs().max()).iloc[::-1].plot.barh(ax=right, color=LINE_COLOURS[:2])
    right.set(xlabel="share of the largest size", xlim=(-1.05, 1.05), xticks=(-1, -0.5, 0, 0.5, 1))
    right.axvline(0, color="black", linewidth=0.8)
    right.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    figure.suptitle(title)
    return figure


def contours(views: Mapping[str, View], maps: Mapping[str, Mapping[str, Tensor]], levels: Sequence[float]) -> Figure:
    """Draw a row per network: the image with the prediction, and each method's map with a contour at every level."""
    methods = list(dict.fromkeys(method for row in maps.values() for method in row))
    figure, axes = grid(len(views), 1 + len(methods), 2.2 * (1 + len(methods)), 2.5 * len(views))
    hide_axes(axes)
    for row, (name, view) in zip(axes, views.items(), strict=True):
        title = f"{name}\n{view.category()} ({float(view.probabilities.max()):.2f})"
        show_image(row[0], view.image, transform=view.net.transform)
        row[0].set_title(title, fontsize=9, parse_math=False)
        for axis, method in zip(row[1:], methods, strict=True):
            if method in maps[name]:
                show_contours(axis, view, maps[name][method], levels)
                axis.set_title(method_title(method), fontsize=9)
    return figure


def show_contours(axis: Any, view: View, saliency_map: Tensor, levels: Sequence[float]) -> None:
    """Draw the contours of a map at several levels over the image of a view."""
    show_image(axis, view.image, transform=view.net.transform)
    lines = axis.contour(saliency_map.numpy(), levels=sorted(levels), cmap=COLOURS, vmin=0, vmax=1, linewidths=1.5)
    axis.clabel(lines, fontsize=7)


def matrices(shown: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw matrices of rank correlations side by side, with one colour scale from -1 to 1."""
    side = 0.62 * max(len(matrix) for matrix in shown.values()) + 0.5
    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    figure, axes = grid(rows, columns, side * columns + 1.5, (side + 1.1) * rows)
    for axis, (title, matrix) in zip(axes.flat, shown.items(), strict=False):
        sns.heatmap(matrix, vmin=-1, vmax=1, cmap="vlag", annot=True, fmt=".2f", square=True, cbar=False, ax=axis)
        axis.set_title(title, fontsize=10)
        axis.set_xticks(axis.get_xticks(), matrix.columns, rotation=45, ha="right", fontsize=9)
        axis.set_yticks(axis.get_yticks(), matrix.index, rotation=0, fontsize=9)
    for number, matrix in enumerate(shown.values()):
        left = number - number % columns
        if number > left and list(matrix.index) == list(list(shown.values())[left].index):
            axes.flat[number].set_yticks([])  # the labels on the left hold for the whole row
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    return figure
