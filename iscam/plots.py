"""Figures of images, maps and results."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from torch import Tensor

from iscam.metrics import Curves
from iscam.model import MEAN, STD

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
    "oracle": "oracle",
    "random": "random",
}


#: Method -> its weights in one line.
LINES = {
    "cam": "weights of the class in the last layer",
    "grad_cam": "mean gradient of the class's logit",
    "grad_cam_pp": "positive gradients, weighted by place",
    "smooth_grad_cam_pp": "the same, averaged over noisy copies",
    "score_cam": "probability of the image behind each mask",
    "ss_cam": "the same, averaged over noise",
    "is_cam": "the same, averaged as the masked image grows",
}


def to_pixels(image: Tensor) -> np.ndarray:
    """A normalised image (3, height, width) as RGB in [0, 1] for display, (height, width, 3)."""
    mean, std = (torch.tensor(values, device=image.device)[:, None, None] for values in (MEAN, STD))
    return (image.float() * std + mean).clamp(0, 1).permute(1, 2, 0).cpu().numpy()


def show_image(axes: Any, image: Tensor, title: str = "") -> None:
    """A normalised image (3, height, width) without ticks."""
    axes.imshow(to_pixels(image))
    axes.set_title(title)
    axes.set_axis_off()


def show_overlay(axes: Any, image: Tensor, map: Tensor, title: str = "") -> None:
    """A map (height, width) in [0, 1] over its image, on the fixed scale 0 to 1, with the contour at one half."""
    pixels, values = to_pixels(image), map.cpu().numpy()
    axes.imshow(pixels.mean(2), cmap="gray", vmin=0, vmax=1)
    axes.imshow(values, cmap=COLOURS, vmin=0, vmax=1, alpha=0.85 * values)  # so that the rest stays visible
    if values.min() < 0.5 < values.max():
        axes.contour(values, levels=[0.5], colors="white", linewidths=1)
    axes.set_title(title)
    axes.set_axis_off()


def explanation(image: Tensor, map: Tensor, title: str) -> Figure:
    """LabelledImage, map with its scale, and overlay of one explanation, side by side."""
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained")
    show_image(axes[0], image, "image")
    scale = axes[1].imshow(map.cpu().numpy(), cmap=COLOURS, vmin=0, vmax=1)
    axes[1].set_title("map")
    axes[1].set_axis_off()
    figure.colorbar(scale, ax=axes[1], shrink=0.8, label="saliency")
    show_overlay(axes[2], image, map, "overlay, contour at 0.5")
    figure.suptitle(title)
    return figure


def gallery(images: Sequence[Tensor], maps: Mapping[str, Sequence[Tensor]], labels: Sequence[str]) -> Figure:
    """One row an image, one column a method: the image with its label, then each method's overlay."""
    columns = len(maps) + 1
    size = (1.75 * columns, 2.05 * len(images))
    figure, axes = plt.subplots(len(images), columns, figsize=size, squeeze=False, layout="constrained")
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        show_image(axes[row, 0], image, label)
        for column, (method, its_maps) in enumerate(maps.items(), start=1):
            title = TITLES.get(method, method) if row == 0 else ""
            show_overlay(axes[row, column], image, its_maps[row], title)
    for axis in axes.flat:
        axis.title.set_fontsize(9)
    return figure


def curve_bands(curves: Mapping[str, Curves], xlabel: str) -> Figure:
    """Mean curve of each method with a 95 % interval of the mean over images."""
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
