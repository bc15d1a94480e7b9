"""Charts of numbers: speed, schedules, steps, rules, layers, drop and increase."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from iscam.methods.schedules import quadrature
from iscam.plots import COLOURS
from iscam.reproduction.figures import grid, hide_axes
from iscam.reproduction.names import column_heading, method_title

#: The rules of benchmarks/nodes.py. Each has one colour and one marker in every chart.
RULES = (
    "Gauss", "midpoint", "trapezoid", "linear", "Score-CAM, t = 1", "t = 1/2", "equal weights",
    "all steps, bfloat16", "Gauss, bfloat16", "midpoint, bfloat16",
)  # fmt: skip

RULE_MARKERS = "osX^P*Dv<>"

#: Options of seaborn's line plots: means with 95 % bootstrap intervals.
LINES = {"markers": True, "dashes": False, "palette": "colorblind", "errorbar": ("ci", 95), "seed": 0}


# ------------------------------------------------------------------------------------------------------------ speed


def speeds(table: pd.DataFrame, floors: Mapping[str, float], title: str) -> Figure:
    """Draw the passes per second of each measurement of a benchmark. Dashed lines mark the floor of each precision."""
    figure, axes = grid(1, 1, 7.5, 0.32 * len(table) + 1.2)
    axis = axes[0, 0]
    axis.barh(table["line"], table["passes/s"], color=np.where(table["line"].str.startswith("iscam"), "C0", "C7"))
    for (precision, floor), style in zip(floors.items(), ("--", ":"), strict=False):
        axis.axvline(floor, color="black", linestyle=style, label=f"floor: the bare network, {precision}")
    axis.invert_yaxis()
    axis.set(xlabel="passes per second (higher is better)", title=title)
    figure.legend(loc="outside lower right", frameon=False)
    return figure


def growth(frame: pd.DataFrame) -> Figure:
    """Draw the measured seconds against each varied quantity.

    A dashed line through the origin and the largest value shows proportional growth. `frame` has the columns grows,
    value and seconds. Each value of `grows` has its own panel.
    """
    groups = frame.groupby("grows", sort=False)
    figure, axes = grid(1, len(groups), 9.6, 2.9)
    for axis, (name, rows) in zip(axes[0], groups, strict=True):
        largest = rows.loc[rows["value"].idxmax()]
        axis.plot([0, largest["value"]], [0, largest["seconds"]], "--", color="C7", label="proportional")
        axis.plot(rows["value"], rows["seconds"], "o-", color="C0", label="measured")
        axis.set(xlabel=name, xlim=0, ylim=0)
        axis.grid(alpha=0.3)
    axes[0][0].set(ylabel="seconds")
    axes[0][0].legend(frameon=False)
    return figure


def over_passes(worst: pd.DataFrame, column: str, ylabel: str, title: str) -> Figure:
    """Draw an error against the passes per channel on a logarithmic scale.

    There is one line per rule and one panel per quantity.

    `worst` has the columns of, rule (one of `RULES`), passes a channel and `column`.
    """
    figure, axes = grid(1, worst["of"].nunique(), 9.6, 3.6)
    looks = dict(zip(RULES, zip(sns.color_palette("colorblind", len(RULES)), RULE_MARKERS, strict=True), strict=True))
    present = [rule for rule in RULES if rule in set(worst["rule"])]
    for axis, (of, rows) in zip(axes[0], worst.groupby("of", sort=False), strict=True):
        for rule in present:
            line = rows[rows["rule"] == rule]
            colour, marker = looks[rule]
            axis.plot(line["passes a channel"], line[column], marker=marker, color=colour, label=rule)
        axis.set(title=of, xlabel="passes per channel", ylabel=ylabel, yscale="log")
        axis.locator_params(axis="x", integer=True)
        axis.grid(alpha=0.3)
    figure.legend(*axes[0][0].get_legend_handles_labels(), title="rule", loc="outside right center", frameon=False)
    figure.suptitle(title)
    return figure


# ------------------------------------------------------------------------------------------------ steps and schedules


def scores(values: Tensor, factors: Tensor) -> Figure:
    """Draw the scores (channels, steps) as an image with one row per channel, and the means of the rows beside it.

    `factors` (steps,) are the t_i, which label the columns.
    """
    figure, axes = grid(1, 2, max(6.5, 0.42 * len(factors) + 3.5), 3.8, width_ratios=[3, 1], sharey=True)
    left, right = axes[0]
    image = left.imshow(values.cpu().numpy(), cmap=COLOURS, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    left.set_xticks(range(len(factors)), [f"{factor:.1f}" for factor in factors], fontsize=8)
    left.set(xlabel="factor t, one column per step", ylabel="channels, largest weight first")
    right.plot(values.mean(1).cpu().numpy(), range(len(values)), color="black")
    right.set(xlabel="weight (mean of the row)", xlim=(0, 1))
    right.grid(alpha=0.3)
    figure.colorbar(image, ax=[left, right], label="score: probability of the class")
    return figure


def factors(counts: Sequence[int], linear: int) -> Figure:
    """Draw the factors t_i of equation 7 against the step for several N, and those of the linear schedule for one N."""
    figure, axes = grid(1, 1, 7, 3.6)
    axis = axes[0, 0]
    axis.axhspan(0, 1, color="0.88", label="t in [0, 1]: the image, dimmed")
    for n in counts:
        axis.plot(
            range(1, n + 1), quadrature(n, "cumulative", None)[0], "o-", markersize=4, label=f"equation 7, N = {n}"
        )
    t = quadrature(linear, "linear", None)[0]
    axis.plot(range(1, linear + 1), t, "k.--", markersize=4, label=f"linear, N = {linear}")
    axis.set(xlabel="step i", ylabel="factor $t_i$", xlim=(0, linear + 1), ylim=(0, (max(counts) + 2) / 2))
    axis.legend(frameon=False)
    return figure


def score_along_t(t: Tensor, values: Tensor, labels: Sequence[str], schedules: Mapping[str, Tensor]) -> Figure:
    """Draw the scores (channels, points) against t (points,), and below them the factors t of each schedule."""
    figure, axes = grid(2, 1, 7.5, 4.6, height_ratios=[3, 1], sharex=True)
    top, bottom = axes[:, 0]
    top.plot(t, values.T, label=labels)
    for row, points in enumerate(schedules.values()):
        bottom.plot(points, [-row] * len(points), "k|", markersize=11)
    for axis in (top, bottom):
        axis.axvspan(0, 1, color="0.88", zorder=0)
    end = float(t.max()) + 0.1
    top.set(ylabel="$C_k(t)$", ylim=(-0.02, 1.02), xlim=(-0.1, end))
    top.legend(frameon=False, fontsize=8, ncols=5, loc="lower left", bbox_to_anchor=(0, 1))
    bottom.set(xlabel="factor t", ylim=(-len(schedules) + 0.4, 0.6))
    bottom.set_yticks([-row for row in range(len(schedules))], [*schedules], fontsize=8)
    return figure


def over_steps(frame: pd.DataFrame, quantities: Mapping[str, str], columns: int = 2) -> Figure:
    """Draw means over images with 95 % bootstrap intervals against N.

    There is one line per schedule and one panel per quantity. `frame` has the columns schedule, N and the quantities.
    `quantities` maps each of these columns to the label of its axis.
    """
    rows = -(-len(quantities) // columns)
    figure, axes = grid(rows, columns, 9.6, 2.9 * rows)
    counts = sorted(frame["N"].unique())
    for axis, (column, label) in zip(axes.flat, quantities.items(), strict=False):
        first = axis is axes.flat[0]
        sns.lineplot(frame, x="N", y=column, hue="schedule", style="schedule", ax=axis, legend=first, **LINES)
        axis.set(xscale="log", xlabel="steps N", ylabel=label)
        if frame[column].min() < 0:
            axis.axhline(0, color="black", linewidth=0.8)
        axis.set_xticks(counts, counts)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    hide_axes(axes.flatten()[len(quantities) :])
    return figure


# ---------------------------------------------------------------------------------------------------------- metrics


def over_layers(frame: pd.DataFrame, margin: float, ylabel: str, columns: int = 4) -> Figure:
    """Draw means over images with 95 % bootstrap intervals against the share of layers, with one panel per method.

    `frame` has the columns method, model, share (percent) and value. Values up to `margin` are shaded.
    """
    methods = list(dict.fromkeys(frame["method"]))
    rows = -(-len(methods) // columns)
    figure, axes = grid(rows, columns, 2.6 * columns, 2.5 * rows + 0.6, sharey=True)
    for axis, method in zip(axes.flat, methods, strict=False):
        first, lines = axis is axes.flat[0], frame[frame["method"] == method]
        sns.lineplot(lines, x="share", y="value", hue="model", style="model", ax=axis, legend=first, **LINES)
        axis.axhspan(-1.5, margin, color="0.9", linewidth=0, zorder=0)
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set(title=method_title(method), xlabel="layers re-initialised (%)", ylabel=ylabel)
        axis.set(xlim=(0, 103), ylim=(-1, 1.3))
    hide_axes(axes.flatten()[len(methods) :])
    move_legend(figure, axes.flat[0])
    return figure


def move_legend(figure: Figure, axis: Any) -> None:
    """Move the legend of an axis above the figure."""
    handles, labels = axis.get_legend_handles_labels()
    axis.get_legend().remove()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)


def drop_and_increase(groups: Mapping[str, pd.DataFrame]) -> Figure:
    """Draw the average drop and increase of each row as a point. The region that no averages can reach is shaded.

    `groups` maps names to rows of `tables.drop_increase_bound`, in percent.
    """
    figure, axes = grid(1, 1, 7.5, 4.2)
    axis = axes[0, 0]
    axis.fill_between([0, 100], [100, 0], 100, color="0.85", linewidth=0, label="impossible: sum above 100 %")
    markers = itertools.cycle("osD^vP")
    for (name, rows), colour in zip(groups.items(), sns.color_palette("colorblind", len(groups)), strict=True):
        axis.scatter(rows["average_drop"], rows["average_increase"], color=colour, marker=next(markers), label=name)
    axis.set(xlabel="average drop (%), lower is better", ylabel="average increase (%), higher is better")
    axis.set(xlim=(-2, 100), ylim=(-2, 100))
    axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def quality_and_cost(rows: pd.DataFrame, columns: int = 2) -> Figure:
    """Draw the quality of each method against its passes per map, with 95 % intervals and the Pareto front as steps.

    `rows` are those of `cost.quality`. There is one panel per metric, and a dashed line for the random control.
    """
    metrics = list(dict.fromkeys(rows["metric"]))
    shown = rows[rows["method"] != "random"]
    methods = list(dict.fromkeys(shown.sort_values("passes")["method"]))
    colours = dict(zip(methods, sns.color_palette("husl", len(methods)), strict=True))
    markers = dict(zip(methods, itertools.cycle("osD^vP*X"), strict=False))
    figure, axes = grid(-(-len(metrics) // columns), columns, 9.6, 3.2 * -(-len(metrics) // columns) + 0.6)
    for axis, metric in zip(axes.flat, metrics, strict=False):
        panel = shown[shown["metric"] == metric].sort_values("passes")
        for row in panel.itertuples():
            middle, low, high = 100 * row.mean, 100 * row.low, 100 * row.high
            axis.errorbar(
                row.passes, middle, yerr=[[middle - low], [high - middle]], label=method_title(row.method),
                color=colours[row.method], marker=markers[row.method], markersize=6 + 3 * row.front, linewidth=1,
            )  # fmt: skip
        front = panel[panel["front"]]
        axis.step(front["passes"], 100 * front["mean"], where="post", color="0.5", linewidth=1, zorder=0)
        control = rows[(rows["metric"] == metric) & (rows["method"] == "random")]["mean"]
        for value in control:
            axis.axhline(100 * value, color="black", linestyle="--", linewidth=0.8)
        axis.set(xscale="log", xlabel="forward passes per map", ylabel=column_heading(metric))
        axis.grid(alpha=0.3)
    hide_axes(axes.flatten()[len(metrics) :])
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure
