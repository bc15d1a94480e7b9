"""Quality against cost: the forward passes of each method, the Pareto front, and the time of one map."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import iscam
from iscam.metrics.ground_truth import DRAWN_CONTROLS
from iscam.model import Network
from iscam.record import forward_record
from iscam.reproduction.names import lower_is_better
from iscam.reproduction.tables import estimates
from iscam.study.costs import passes
from iscam.study.statistics import mean_over_models, merge_seeds, on_full_image_set, paired, summary

#: The control whose quality the figures show as a line.
CONTROL = "random"


def passes_of(run: Mapping[str, Any]) -> pd.Series:
    """Return the forward passes per map of each method of a recorded study, as the mean over its networks.

    A gradient counts as two additional passes. The passes depend on the size of the explained layer.
    """
    study = iscam.Study(methods=run["parameters"]["methods"])
    counts = []
    for name in run["parameters"]["models"]:
        net = iscam.load_model(name, None)  # the size does not depend on the weights
        activations = forward_record(net, torch.zeros(3, 224, 224)).activations
        counts.append(passes(study, len(activations), activations[0].numel()).set_index("method")["map"])
    return pd.concat(counts, axis=1).mean(axis=1)


def quality(frame: pd.DataFrame, run: Mapping[str, Any], metrics: Sequence[str]) -> pd.DataFrame:
    """Return the quality and the cost of each method of a recorded study, as the mean over its networks.

    Returns the columns of `summary` for each metric, with `passes` per map, and `front`: True for a method that is
    better than all other methods with at most as many passes. Controls that need a drawing are left out, and so are
    methods that are not defined for one of the networks.
    """
    values = on_full_image_set(mean_over_models(merge_seeds(frame))).dropna(subset="value")
    rows = summary(values[~values["method"].isin([*DRAWN_CONTROLS, "identity"])])
    rows = pd.concat([rows[rows["metric"] == metric] for metric in metrics], ignore_index=True)
    rows["passes"] = rows["method"].map(passes_of(run))
    methods = rows[rows["method"] != CONTROL]
    front = pd.concat([pareto_front(methods[methods["metric"] == metric]) for metric in metrics])
    return rows.assign(front=rows.index.isin(front.index))


def pareto_front(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one metric that are better than all other rows with at most as many passes, cheapest first."""
    sign = -1 if lower_is_better(rows["metric"].iloc[0]) else 1
    goodness = sign * rows["mean"]
    ranked = rows.assign(goodness=goodness).sort_values(["passes", "goodness"], ascending=[True, False])
    before = ranked["goodness"].cummax().shift(fill_value=-float("inf"))
    return ranked[ranked["goodness"] > before].drop(columns="goodness")


def front_of(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of `quality` that are on the front of a metric, the cheapest first."""
    return rows[rows["front"] & (rows["metric"] == metric)].sort_values("passes")


def best_within(rows: pd.DataFrame, budgets: Sequence[int]) -> pd.DataFrame:
    """Return the method with the best mean for each metric among those with at most so many passes.

    `rows` are those of `quality`. There is one row per budget, and a column "passes" beside one column per metric.
    """
    table = pd.DataFrame({"passes": [f"at most {budget:,}" for budget in budgets]})
    for metric in rows["metric"].unique():
        front = front_of(rows, metric)
        table[metric] = [front[front["passes"] <= budget]["method"].iloc[-1] for budget in budgets]
    return table


def upgrades(frame: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Compare the most expensive method on the front of each metric with each cheaper method on that front.

    `rows` are those of `quality`. Returns the columns metric, method (the most expensive one), `instead of` (the
    cheaper one), `times the passes`, and `difference (points)`: the paired difference with its 95 % interval. A
    positive difference means that the expensive method is better.
    """
    means = mean_over_models(merge_seeds(frame))
    tables = []
    for metric in rows["metric"].unique():
        front = front_of(rows, metric)
        *cheaper, best = front.itertuples()
        sign = -1 if lower_is_better(metric) else 1
        values = means[means["metric"] == metric].assign(value=lambda rows, sign=sign: sign * rows["value"])
        for other in cheaper:
            gap = estimates(paired(values, best.method, other.method))[0]
            tables.append((metric, best.method, other.method, round(best.passes / other.passes), gap))
    columns = ["metric", "method", "instead of", "times the passes", "difference (points)"]
    return pd.DataFrame(tables, columns=columns)


def seconds(net: Network, images: Tensor, methods: Sequence[str]) -> pd.DataFrame:
    """Measure the seconds of one map per method with default options, after one run that is not counted."""
    activations = forward_record(net, images[0]).activations
    count = passes(iscam.Study(methods={name: {} for name in methods}), len(activations), activations[0].numel())
    rows = []
    for name, number in zip(methods, count["map"], strict=True):
        iscam.explain(net, images, method=name).tolist()
        started = time.perf_counter()
        iscam.explain(net, images, method=name).tolist()  # waits for the GPU
        rows.append((name, number, time.perf_counter() - started))
    return pd.DataFrame(rows, columns=["method", "passes", "seconds"]).sort_values("passes")
