"""The effect of the number of steps N on IS-CAM's weights, maps and metrics.

Tables have one row per image, schedule and N, with the columns of `measures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor

import iscam
from iscam.maps import rank_correlation, weighted_map
from iscam.methods.schedules import SCHEDULES, quadrature
from iscam.record import ForwardRecord
from iscam.study.statistics import summary

#: Names of the metrics by column.
METRICS = {"insertion": "insertion AUC", "deletion": "deletion AUC", "drop": "average drop"}

#: A pixel changes visibly if its value changes by more than this threshold on the scale from 0 to 1.
VISIBLE = 0.1


class Explained(NamedTuple):
    """IS-CAM's weights (K,) and map (height, width) of one image."""

    weights: Tensor
    saliency_map: Tensor


#: The weights and the map of one image by (schedule, N).
ByStep = Mapping[tuple[str, int], Explained]


def explained(record: ForwardRecord, schedule: str, steps: int) -> Explained:
    """Compute IS-CAM's weights and map of one image."""
    weights = iscam.METHODS["is_cam"](record, steps=steps, schedule=schedule)
    return Explained(weights, weighted_map(weights, record.activations.detach(), record.image.shape[1:]))


def explained_by_step(record: ForwardRecord, counts: Sequence[int]) -> ByStep:
    """Compute the weights and maps of one image for every schedule and every N in `counts`."""
    return {(s, n): explained(record, s, n) for s in SCHEDULES for n in counts}


def path_table(counts: Sequence[int]) -> pd.DataFrame:
    """Return the factors t_i of the cumulative schedule for each N, and the number of factors in [0, 1]."""
    rows = []
    for n in counts:
        t, _ = quadrature(n, "cumulative", None)
        first = ", ".join(f"{x:.2f}" for x in t[:4]) + (", ..." if n > 4 else "")
        row = {"N": n, "factors t": first, "largest t": t.max().item(), "mean t": t.mean().item()}
        rows.append(row | {"in [0, 1]": f"{int((t <= 1).sum())} of {n}"})
    return pd.DataFrame(rows)


def step_table(records: Sequence[ForwardRecord], found: Sequence[ByStep], pixels_per_step: int) -> pd.DataFrame:
    """Return the measures of every image, schedule and N."""
    return pd.DataFrame(
        {"image": number, "schedule": schedule, "N": n, **measures(record, maps, schedule, n, pixels_per_step)}
        for number, (record, maps) in enumerate(zip(records, found, strict=True))
        for schedule, n in maps
    )


def measures(record: ForwardRecord, maps: ByStep, schedule: str, steps: int, pixels_per_step: int) -> dict[str, float]:
    """Compute the difference from the map of the same schedule with the largest N, the spread and the metrics.

    `largest` and `mean` are absolute differences on the scale from 0 to 1, and `order` is the rank correlation.
    `spread` is the standard deviation of the weights divided by their mean. The metrics are in percent.
    """
    weights, saliency_map = maps[schedule, steps]
    last = maps[schedule, max(n for _, n in maps)].saliency_map
    gap = (saliency_map - last).abs()
    arguments = (record.net, record.image[None], saliency_map[None], torch.tensor([record.target]))
    return {
        "largest": gap.max().item(),
        "mean": gap.mean().item(),
        "order": rank_correlation(saliency_map, last),
        "spread": (weights.std() / weights.mean()).item(),
        "insertion": 100 * iscam.insertion(*arguments, pixels_per_step).auc.item(),
        "deletion": 100 * iscam.deletion(*arguments, pixels_per_step).auc.item(),
        "drop": 100 * iscam.average_drop(*iscam.confidence(*arguments)).item(),
    }


def metric_changes(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Return the change of each image's metrics relative to the cumulative map with the smallest N.

    The means of the metrics for this map are also returned.
    """
    values = frame.set_index(["schedule", "N", "image"]).sort_index()[[*METRICS]]
    start = values.loc["cumulative", frame["N"].min()]
    changes = values.sub(start, level="image").reset_index()
    changes = changes.sort_values("schedule", key=lambda names: names.map(SCHEDULES.index), kind="stable")
    return changes, start.mean()


def paired_changes(frame: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    """Compute the mean change of each metric on the cumulative path from N = first to N = last.

    The change has a 95 % bootstrap interval.
    """
    values = frame[frame["schedule"] == "cumulative"].set_index(["N", "image"])[[*METRICS]]
    change = (values.loc[last] - values.loc[first]).reset_index()
    return summary(change.melt("image", var_name="metric").assign(model="", method="is_cam"))


def visible_share(found: Sequence[ByStep], first: int, last: int) -> float:
    """Compute the share of pixels that change visibly on the cumulative path from N = first to N = last."""
    gaps = [maps["cumulative", first].saliency_map - maps["cumulative", last].saliency_map for maps in found]
    return torch.stack([(gap.abs() > VISIBLE).float().mean() for gap in gaps]).mean().item()


def mean_difference(found: Sequence[ByStep], one: tuple[str, int], other: tuple[str, int]) -> float:
    """Compute the mean absolute difference of two maps over the images."""
    gaps = [maps[one].saliency_map - maps[other].saliency_map for maps in found]
    return torch.stack([gap.abs().mean() for gap in gaps]).mean().item()


def describe_change(row: pd.Series) -> str:
    """Describe the change of a metric in percentage points, and whether its interval contains zero."""
    contains = "contains zero" if row["low"] <= 0 <= row["high"] else "does not contain zero"
    change = f"{row['mean']:+.2f} points ({row['low']:+.2f} to {row['high']:+.2f})"
    return f"{METRICS[row['metric']]}: {change}; the interval {contains}"
