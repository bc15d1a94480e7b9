"""The book's figures."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from iscam.data import LabelledImage
from iscam.menagerie.draw import Drawing
from iscam.plots import COLOURS, LINES, TITLES, show_image, show_overlay, to_pixels


def hero(image: Tensor, label: str, maps: Mapping[str, Tensor]) -> Figure:
    """The image and each method's overlay in two rows, with one line on where its weights come from."""
    columns = -(-(len(maps) + 1) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(3 * columns, 7.4), layout="constrained")
    show_image(axes.flat[0], image)
    axes.flat[0].set_title(label, fontsize=16)
    for axis, (method, map) in zip(axes.flat[1:], maps.items(), strict=False):
        show_overlay(axis, image, map)
        axis.set_title(TITLES[method], fontsize=16)
        axis.set_xlabel(textwrap.fill(LINES[method], 28), fontsize=13)
    for axis in axes.flat:
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    return figure


def speeds(table: pd.DataFrame, floors: Mapping[str, float]) -> Figure:
    """Passes a second of each line of a benchmark; the floor of each precision is where the bare network stands."""
    figure, axis = plt.subplots(figsize=(7.5, 0.32 * len(table) + 1.2), layout="constrained")
    colours = np.where(table["line"].str.startswith("iscam"), "C0", "C7")
    axis.barh(table["line"], table["passes/s"], color=colours)
    for (precision, floor), style in zip(floors.items(), ("--", ":"), strict=False):
        axis.axvline(floor, color="black", linestyle=style, label=f"floor: the bare network, {precision}")
    axis.invert_yaxis()
    axis.set(xlabel="passes a second (more is better)")
    figure.legend(loc="outside lower right", frameon=False)
    return figure


def strip(panels: Mapping[str, Tensor], columns: int = 7, most: float = 1.0, label: str = "saliency") -> Figure:
    """Images (3, height, width) and maps (height, width) side by side, maps on one scale from 0 to `most`."""
    rows = -(-len(panels) // columns)
    size = (1.5 * min(columns, len(panels)) + 0.8, 1.75 * rows)
    figure, axes = plt.subplots(rows, min(columns, len(panels)), figsize=size, squeeze=False, layout="constrained")
    scale = None
    for axis, (title, panel) in zip(axes.flat, panels.items(), strict=False):
        if panel.ndim == 3:
            axis.imshow(to_pixels(panel))
        else:
            scale = axis.imshow(panel.cpu().numpy(), cmap=COLOURS, vmin=0, vmax=most)
        axis.set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.set_axis_off()
    if scale is not None:
        figure.colorbar(scale, ax=axes, shrink=0.85, label=label, aspect=15)
    return figure


def scores(values: Tensor, factors: Tensor) -> Figure:
    """Scores (channels, steps) as an image, a row a channel and a column a step, and beside it the rows' means.

    `factors` (steps,): the t_i, written at the columns.
    """
    size = (max(6.5, 0.42 * len(factors) + 3.5), 3.8)
    figure, (left, right) = plt.subplots(1, 2, figsize=size, width_ratios=[3, 1], sharey=True, layout="constrained")
    image = left.imshow(values.cpu().numpy(), cmap=COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    left.set_xticks(range(len(factors)), [f"{factor:.1f}" for factor in factors], fontsize=8)
    left.set(xlabel="factor t, one column a step", ylabel="channels, largest weight first")
    right.plot(values.mean(1).cpu().numpy(), range(len(values)), color="black")
    right.set(xlabel="weight (mean of the row)", xlim=(0, 1))
    right.grid(alpha=0.3)
    figure.colorbar(image, ax=[left, right], label="score: probability of the class")
    return figure


def over_steps(frame: pd.DataFrame, quantities: Mapping[str, str], columns: int = 2) -> Figure:
    """Means over images with 95 % bootstrap intervals against N, a line a schedule, a panel a quantity.

    `frame` has the columns schedule, N and the quantities; `quantities`: column -> label of its axis.
    """
    rows = -(-len(quantities) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(9.6, 2.9 * rows), squeeze=False, layout="constrained")
    for axis, (column, label) in zip(axes.flat, quantities.items(), strict=False):
        sns.lineplot(
            frame, x="N", y=column, hue="schedule", style="schedule", markers=True, dashes=False,
            palette="colorblind", errorbar=("ci", 95), seed=0, ax=axis, legend=axis is axes.flat[0],
        )  # fmt: skip
        axis.set(xscale="log", xlabel="steps N", ylabel=label)
        if frame[column].min() < 0:
            axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xticks(sorted(frame["N"].unique()), sorted(frame["N"].unique()))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    for axis in list(axes.flat)[len(quantities) :]:
        axis.set_axis_off()
    return figure


#: The rules of benchmarks/nodes.py, each with a colour and a mark of its own in every chart.
RULES = (
    "Gauss", "midpoint", "trapezoid", "linear", "Score-CAM, t = 1", "t = 1/2", "equal weights",
    "all steps, bfloat16", "Gauss, bfloat16", "midpoint, bfloat16",
)  # fmt: skip


def over_passes(worst: pd.DataFrame, column: str, ylabel: str) -> Figure:
    """An error against the passes that a rule spends on a channel, a line a rule, a panel for each sum; log scale.

    `worst` has the columns of, rule (one of `RULES`), passes a channel and `column`.
    """
    figure, axes = plt.subplots(1, worst["of"].nunique(), figsize=(9.6, 3.6), squeeze=False, layout="constrained")
    looks = dict(zip(RULES, zip(sns.color_palette("colorblind", len(RULES)), "osX^P*Dv<>", strict=True), strict=True))
    there = [rule for rule in RULES if rule in set(worst["rule"])]
    for axis, (of, rows) in zip(axes[0], worst.groupby("of", sort=False), strict=True):
        for rule in there:
            line = rows[rows["rule"] == rule]
            axis.plot(line["passes a channel"], line[column], marker=looks[rule][1], color=looks[rule][0], label=rule)
        axis.set(title=of, xlabel="passes a channel", ylabel=ylabel, yscale="log")
        axis.locator_params(axis="x", integer=True)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), title="rule", loc="outside right center", frameon=False)
    return figure


def growth(frame: pd.DataFrame) -> Figure:
    """Seconds against each thing that grows, a panel each; dashed: in proportion to it, through the largest.

    `frame` has the columns grows, value and seconds.
    """
    groups = frame.groupby("grows", sort=False)
    figure, axes = plt.subplots(1, len(groups), figsize=(9.6, 2.9), squeeze=False, layout="constrained")
    for axis, (name, rows) in zip(axes[0], groups, strict=True):
        largest = rows.loc[rows["value"].idxmax()]
        axis.plot([0, largest["value"]], [0, largest["seconds"]], "--", color="C7", label="in proportion")
        axis.plot(rows["value"], rows["seconds"], "o-", color="C0", label="measured")
        axis.set(xlabel=name, xlim=0, ylim=0)
        axis.grid(alpha=0.3)
    axes[0][0].set(ylabel="seconds")
    axes[0][0].legend(frameon=False)
    return figure


def over_layers(frame: pd.DataFrame, margin: float, ylabel: str, columns: int = 4) -> Figure:
    """Means over images, 95 % bootstrap intervals, against the share of layers: a panel a method, a line a network.

    `frame` has the columns method, model, share (percent) and value. Values up to `margin` are shaded.
    """
    methods = list(dict.fromkeys(frame["method"]))
    rows = -(-len(methods) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(2.6 * columns, 2.5 * rows + 0.6), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, method in zip(axes.flat, methods, strict=False):
        sns.lineplot(
            frame[frame["method"] == method], x="share", y="value", hue="model", style="model", markers=True,
            dashes=False, palette="colorblind", errorbar=("ci", 95), seed=0, ax=axis, legend=axis is axes.flat[0],
        )  # fmt: skip
        axis.axhspan(-1.5, margin, color="0.9", linewidth=0, zorder=0)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=TITLES.get(method, method), xlabel="layers re-initialised (%)", ylabel=ylabel)
        axis.set(xlim=(0, 103), ylim=(-1, 1.3))
    for axis in list(axes.flat)[len(methods) :]:
        axis.set_axis_off()
    legend = axes.flat[0].get_legend()
    handles, labels = axes.flat[0].get_legend_handles_labels()
    legend.remove()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def drop_and_increase(groups: Mapping[str, pd.DataFrame]) -> Figure:
    """Average drop and increase of each row as a point, with the region shaded that no averages can reach.

    `groups`: name -> rows as `results.bounded` gives them, in percent.
    """
    figure, axes = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    axes.fill_between([0, 100], [100, 0], 100, color="0.85", linewidth=0, label="impossible: sum above 100 %")
    markers = itertools.cycle("osD^vP")
    for (name, rows), colour in zip(groups.items(), sns.color_palette("colorblind", len(groups)), strict=True):
        axes.scatter(rows["average_drop"], rows["average_increase"], color=colour, marker=next(markers), label=name)
    axes.set(xlabel="average drop (%), low is good", ylabel="average increase (%), high is good")
    axes.set(xlim=(-2, 100), ylim=(-2, 100))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def contact_sheet(drawings: Sequence[Sequence[Drawing]]) -> Figure:
    """Drawings in rows, each row with the name of its species."""
    size = (1.5 * len(drawings[0]) + 0.5, 1.55 * len(drawings))
    figure, axes = plt.subplots(len(drawings), len(drawings[0]), figsize=size, squeeze=False, layout="constrained")
    for row, line in zip(axes, drawings, strict=True):
        for axis, drawing in zip(row, line, strict=True):
            axis.imshow(drawing.image)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(line[0].species, fontsize=10)
    return figure


def drawings(shown: Sequence[Drawing], titles: Sequence[str], columns: int = 5) -> Figure:
    """Drawings with a title each, in rows of at most `columns`."""
    rows = -(-len(shown) // columns)
    size = (1.7 * columns, 1.95 * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, drawing, title in zip(axes.flat, shown, titles, strict=False):
        axis.imshow(drawing.image)
        axis.set_title(title, fontsize=10)
    return figure


def part_bars(drawing: Drawing, values: pd.DataFrame, xlabel: str) -> Figure:
    """A drawing beside horizontal bars, one group a part, one colour a column of `values`."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=[1, 1.6], layout="constrained")
    left.imshow(drawing.image)
    left.set_title(drawing.species)
    left.set_axis_off()
    values[::-1].plot.barh(ax=right, color=sns.color_palette("colorblind", values.shape[1]), xlabel=xlabel)
    right.axvline(0, color="black", linewidth=0.8)
    right.legend(frameon=False)
    return figure


def truth_beside_map(
    image: LabelledImage, map: Tensor, saliency: pd.Series, importance: pd.Series, title: str
) -> Figure:
    """A drawing, its map, and per part the map's mean and the true importance, each as a share of its largest size."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), width_ratios=[1, 1, 1.5], layout="constrained")
    show_image(axes[0], image.image, image.name)
    show_overlay(axes[1], image.image, map, "map")
    shares = pd.DataFrame({"mean of the map": saliency, "true importance": importance[saliency.index]})
    (shares / shares.abs().max()).iloc[::-1].plot.barh(ax=axes[2], color=sns.color_palette("colorblind", 2))
    axes[2].set(xlabel="share of the largest size", xlim=(-1.05, 1.05), xticks=(-1, -0.5, 0, 0.5, 1))
    axes[2].axvline(0, color="black", linewidth=0.8)
    axes[2].legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    figure.suptitle(title)
    return figure
