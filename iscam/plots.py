"""Figures from pictures, maps and results."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

from iscam import results
from iscam.data import Picture
from iscam.menagerie.draw import Drawing
from iscam.metrics import Curves
from iscam.network import MEAN, STD

#: Perceptually uniform and safe for colour-blind readers.
COLOURS = "inferno"

#: Method -> how a reader knows it.
TITLES = {
    "cam": "CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_pp": "Grad-CAM++",
    "smooth_grad_cam_pp": "Smooth Grad-CAM++",
    "score_cam": "Score-CAM",
    "ss_cam": "SS-CAM",
    "is_cam": "IS-CAM",
    "is_cam_linear": "IS-CAM, linear",
    "identity": "identity",
    "part_area": "part area",
    "ceiling": "ceiling",
    "random": "random",
}

#: Method -> its weights in one line.
LINES = {
    "cam": "weights of the class in the last layer",
    "grad_cam": "mean gradient of the class's logit",
    "grad_cam_pp": "positive gradients, weighted by place",
    "smooth_grad_cam_pp": "the same, averaged over noisy copies",
    "score_cam": "probability of the picture behind each mask",
    "ss_cam": "the same, averaged over noise",
    "is_cam": "the same, averaged as the masked picture grows",
}

#: Metric -> its column's heading; the arrow points to the better values.
HEADINGS = {
    "model": "network",
    "insertion": "insertion AUC (%) ↑",
    "deletion": "deletion AUC (%) ↓",
    "average_drop": "average drop (%) ↓",
    "average_increase": "average increase (%) ↑",
    "average_gain": "average gain (%) ↑",
    "win": "IS-CAM wins (%) ↑",
    "tie": "ties (%)",
    "win:ss_cam": "win over SS-CAM (%) ↑",
    "win:score_cam": "win over Score-CAM (%) ↑",
    "insertion:blur": "insertion from a blur (%) ↑",
    "coherency": "coherency (%) ↑",
    "complexity": "complexity (%) ↓",
    "adcc": "ADCC (%) ↑",
    "energy": "energy inside the box (%) ↑",
}

#: " to " where a line must not end.
UNBROKEN = "\u00a0to\u00a0"

#: Columns of names, which stand to the left; all others are numbers.
NAMES = {
    "network",
    "method",
    "compared",
    "metric",
    "verdict",
    "variant",
    "paper",
    "convention",
    "class",
    "of",
    "rule",
}

#: Columns of sentences, to the left as well, which may break into lines.
SENTENCES = {"line", "claim", "quantity"}


def to_pixels(image: Tensor) -> np.ndarray:
    """A normalised picture (3, height, width) as RGB in [0, 1] for display, (height, width, 3)."""
    mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (MEAN, STD))
    return (image.float() * std + mean).clamp(0, 1).permute(1, 2, 0).cpu().numpy()


def show_picture(axes: Any, image: Tensor, title: str = "") -> None:
    """A normalised picture (3, height, width) without ticks."""
    axes.imshow(to_pixels(image))
    axes.set_title(title)
    axes.set_axis_off()


def show_overlay(axes: Any, image: Tensor, map: Tensor, title: str = "") -> None:
    """A map (height, width) in [0, 1] over its picture, on the fixed scale 0 to 1, with the contour at one half."""
    pixels, values = to_pixels(image), map.cpu().numpy()
    axes.imshow(pixels.mean(2), cmap="gray", vmin=0, vmax=1)
    axes.imshow(values, cmap=COLOURS, vmin=0, vmax=1, alpha=0.85 * values)  # so that the rest stays visible
    if values.min() < 0.5 < values.max():
        axes.contour(values, levels=[0.5], colors="white", linewidths=1)
    axes.set_title(title)
    axes.set_axis_off()


def explanation(image: Tensor, map: Tensor, title: str) -> Figure:
    """Picture, map with its scale, and overlay of one explanation, side by side."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained")
    show_picture(axes[0], image, "picture")
    scale = axes[1].imshow(map.cpu().numpy(), cmap=COLOURS, vmin=0, vmax=1)
    axes[1].set_title("map")
    axes[1].set_axis_off()
    figure.colorbar(scale, ax=axes[1], shrink=0.8, label="saliency")
    show_overlay(axes[2], image, map, "overlay, contour at 0.5")
    figure.suptitle(title)
    return figure


def gallery(images: Sequence[Tensor], maps: Mapping[str, Sequence[Tensor]], labels: Sequence[str]) -> Figure:
    """One row a picture, one column a method: the picture with its label, then each method's overlay."""
    columns = len(maps) + 1
    size = (1.75 * columns, 2.05 * len(images))
    figure, axes = plt.subplots(len(images), columns, figsize=size, squeeze=False, layout="constrained")
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        show_picture(axes[row, 0], image, label)
        for column, (method, its_maps) in enumerate(maps.items(), start=1):
            title = TITLES.get(method, method) if row == 0 else ""
            show_overlay(axes[row, column], image, its_maps[row], title)
    for axis in axes.flat:
        axis.title.set_fontsize(9)
    return figure


def hero(image: Tensor, label: str, maps: Mapping[str, Tensor]) -> Figure:
    """The picture and each method's overlay in two rows, with one line on where its weights come from."""
    columns = -(-(len(maps) + 1) // 2)
    figure, axes = plt.subplots(2, columns, figsize=(3 * columns, 7.4), layout="constrained")
    show_picture(axes.flat[0], image)
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


def curve_bands(curves: Mapping[str, Curves], xlabel: str) -> Figure:
    """Mean curve of each method with a 95 % interval of the mean over pictures."""
    figure, axes = plt.subplots(figsize=(9.6, 4.8), layout="constrained")
    looks = zip(sns.color_palette("colorblind", len(curves)), itertools.cycle(["-", "--", "-.", ":"]), strict=False)
    for (method, found), (colour, dashes) in zip(curves.items(), looks, strict=True):
        scores, fraction = found.scores.cpu().numpy(), found.fraction.cpu().numpy()
        mean, error = scores.mean(0), 1.96 * scores.std(0, ddof=min(1, len(scores) - 1)) / np.sqrt(len(scores))
        label = f"{TITLES.get(method, method)} (area {mean_area(found):.3f})"
        axes.plot(fraction, mean, color=colour, linestyle=dashes, label=label)
        low, high = (mean - error).clip(0), (mean + error).clip(max=1)
        axes.fill_between(fraction, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set(xlabel=xlabel, ylabel="probability of the class", xlim=(0, 1), ylim=(0, None))
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def mean_area(found: Curves) -> float:
    return float(found.auc.mean())


def intervals(summary: pd.DataFrame, metric: str, xlabel: str) -> Figure:
    """One dot a method with its 95 % interval, one panel a model; `summary` as `results.summary` gives it."""
    chosen = summary[summary["metric"] == metric]
    models = list(dict.fromkeys(chosen["model"]))
    size = (2.9 * len(models) + 1.5, 0.36 * chosen["method"].nunique() + 1.3)
    figure, axes = plt.subplots(1, len(models), figsize=size, squeeze=False, sharey=True, layout="constrained")
    for axis, model in zip(axes[0], models, strict=True):
        rows = chosen[chosen["model"] == model].iloc[::-1]
        middle, low, high = (100 * rows[key].to_numpy(float) for key in ("mean", "low", "high"))
        axis.errorbar(middle, [TITLES.get(m, m) for m in rows["method"]], xerr=[middle - low, high - middle], fmt="o")
        axis.set(title=model)
        axis.grid(axis="x", alpha=0.3)
    figure.supxlabel(xlabel, fontsize="medium")
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
    """Pictures (3, height, width) and maps (height, width) side by side, maps on one scale from 0 to `most`."""
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
    """Means over pictures with 95 % bootstrap intervals against N, a line a schedule, a panel a quantity.

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
    """Means over pictures, 95 % bootstrap intervals, against the share of layers: a panel a method, a line a network.

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


def table(rows: pd.DataFrame, caption: str = "") -> Styler:
    """A table to read: methods and metrics by the names readers know, no index, numbers to the right."""
    shown = rows.copy()
    shown.columns = pd.Index([headed(column) for column in shown.columns])
    named = [bool({*column} & NAMES if isinstance(column, tuple) else column in NAMES) for column in shown.columns]
    shown = shown.map(lambda cell: titled(cell).replace(" to ", UNBROKEN) if isinstance(cell, str) else cell)
    style = shown.style.hide(axis="index").format(precision=2, na_rep="–").set_caption(caption)
    style.format_index(breakable, axis="columns")
    gap = 0.6 if len(shown.columns) < 5 else 0.35  # so that seven columns of intervals fit the book's pages
    styles = {"th, td": f"text-align: right; padding: 0.15em {gap}em", "caption": "text-align: left"}
    for i in np.flatnonzero(named):
        styles[f"th.col{i}, td.col{i}"] = "text-align: left; white-space: nowrap"
    for i in np.flatnonzero([column in SENTENCES for column in shown.columns]):
        styles[f"th.col{i}, td.col{i}"] = "text-align: left; min-width: 8em"
    rules = [(part.strip(), props) for selectors, props in styles.items() for part in selectors.split(",")]
    return style.set_table_styles([{"selector": selector, "props": props} for selector, props in rules])


def breakable(heading: Any) -> Any:
    """A heading that may break after a slash, unless but a letter follows.

    >>> breakable("menagerie/vgg"), breakable("passes/s")
    ('menagerie/<wbr>vgg', 'passes/s')
    """
    return re.sub(r"/(?=\w\w)", "/<wbr>", heading) if isinstance(heading, str) else heading


def titled(name: str) -> str:
    """A method of a table by the name readers know, its variant behind it.

    >>> titled("is_cam zero baseline")
    'IS-CAM zero baseline'
    """
    first, space, rest = name.partition(" ")
    return TITLES.get(first, first) + space + rest


def verdicts(rows: pd.DataFrame, caption: str) -> Styler:
    """Rows of `results.verdicts` to read: what was compared, the difference in points, corrected p, and the verdict."""
    shown = pd.DataFrame(
        {
            "claim": rows["claim"].mask(rows["claim"].duplicated(), ""),
            "compared": [f"{TITLES[row.method]} − {TITLES[row.other]}" for row in rows.itertuples()],
            "metric": rows["metric"].str.replace("_", " "),
            "difference (points)": [
                results.cell(*row) for row in (100 * rows[["mean", "low", "high"]].astype(float)).to_numpy()
            ],
            "p": rows["p"].map(lambda p: "–" if np.isnan(p) else f"{p:.4f}"),
            "verdict": rows["verdict"],
        }
    )
    return table(shown, caption)


def headed(column: Any) -> Any:
    """A column's name, or each level of it, as `HEADINGS` has it."""
    return tuple(map(headed, column)) if isinstance(column, tuple) else HEADINGS.get(column, column)


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


def truth_beside_map(picture: Picture, map: Tensor, saliency: pd.Series, importance: pd.Series, title: str) -> Figure:
    """A drawing, its map, and per part the map's mean and the true importance, each as a share of its largest size."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), width_ratios=[1, 1, 1.5], layout="constrained")
    show_picture(axes[0], picture.image, picture.name)
    show_overlay(axes[1], picture.image, map, "map")
    shares = pd.DataFrame({"mean of the map": saliency, "true importance": importance[saliency.index]})
    (shares / shares.abs().max()).iloc[::-1].plot.barh(ax=axes[2], color=sns.color_palette("colorblind", 2))
    axes[2].set(xlabel="share of the largest size", xlim=(-1.05, 1.05), xticks=(-1, -0.5, 0, 0.5, 1))
    axes[2].axvline(0, color="black", linewidth=0.8)
    axes[2].legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    figure.suptitle(title)
    return figure
