"""Tables of numbers: published values beside reproduced values, and means with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from iscam.methods import CONTROLS
from iscam.reproduction.published import FAMILIES, PAPER_METHODS
from iscam.study.statistics import summary

KEYS = ["model", "method", "metric"]

#: The mark of a published value for which there is no run.
NOT_RUN = "not run"


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval. A mean of one image has no interval.

    >>> print(Estimate(50, 0, 100), Estimate(50, float("nan"), float("nan")))
    50.00 (0.00 to 100.00) 50.00 (–)
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "not defined"
        interval = "–" if np.isnan(self.low) else f"{self.low:z.2f} to {self.high:z.2f}"
        return f"{self.mean:z.2f} ({interval})"


def estimates(rows: pd.DataFrame, scale: float = 100) -> list[Estimate]:
    """Return the mean, low and high of each row, multiplied by `scale`. By default they are in percent."""
    return [Estimate(*row) for row in (scale * rows[["mean", "low", "high"]].astype(float)).to_numpy()]


def by_metric(rows: pd.DataFrame, metrics: Sequence[str], scale: float = 100) -> pd.DataFrame:
    """Convert rows of `summary` to a table of `Estimate`, with one row per network and method and a column per metric.

    >>> frame = pd.DataFrame({"model": "net", "method": "is_cam", "metric": "win", "value": [0.0, 1.0]})
    >>> by_metric(summary(frame), ["win"]).astype(str).values.tolist()
    [['net', 'is_cam', '50.00 (0.00 to 100.00)']]
    """
    rows = rows[rows["metric"].isin(list(metrics))]
    cells = rows.assign(cell=estimates(rows, scale))
    table = cells.pivot(index=["model", "method"], columns="metric", values="cell")[list(metrics)]
    return sort_rows(table.reset_index().rename_axis(columns=None))


def by_network(rows: pd.DataFrame, metric: str, scale: float = 100) -> pd.DataFrame:
    """Convert rows of `summary` to a table of `Estimate` for one metric.

    The table has one row per method and one column per network.
    """
    cells = by_metric(rows, [metric], scale)
    methods, models = (list(dict.fromkeys(cells[key])) for key in ("method", "model"))
    table = cells.pivot(index="method", columns="model", values=metric).loc[methods, models]
    return table.rename_axis(columns=None).reset_index()


def comparison(published: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return published and reproduced values in percent.

    For each metric there are the columns published, reproduced and difference.

    - `published`: rows of `published_table`.
    - `frame`: the table of `run_study` for the same networks on ImageNet images with ImageNet weights, or an empty
      frame.

    The reproduced value is `NOT_RUN` if there is no run. Methods of `frame` that the paper does not have, such as the
    controls, have no published value.
    """
    ours = summary(frame) if len(frame) else pd.DataFrame(columns=[*KEYS, "mean", "low", "high"])
    ours = ours[ours["model"].isin(published["model"]) & ours["metric"].isin(published["metric"])]
    ours = ours.dropna(subset="mean")
    ours = ours[KEYS].assign(reproduced=estimates(ours), mean=100 * ours["mean"].astype(float))
    both = published[[*KEYS, "value"]].rename(columns={"value": "published"}).merge(ours, how="outer", on=KEYS)
    both["difference"] = both["mean"] - both["published"]
    both["reproduced"] = both["reproduced"].where(both["mean"].notna(), NOT_RUN)
    origins = ["published", "reproduced", "difference"]
    return side_by_side(both, origins, list(dict.fromkeys(published["metric"])))


def by_family(published: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the published values beside those of the embedded network of the same family.

    The table has one row per family and method. The images and weights of the two columns of a metric differ, so only
    the order of the methods can be compared.
    """
    metrics = list(dict.fromkeys(published["metric"]))
    papers = set(published["model"])
    families = {f"menagerie/{family.lower()}": name for name, family in FAMILIES.items() if name in papers}
    ours = summary(frame[frame["model"].isin(families) & frame["metric"].isin(metrics)])
    ours = ours[KEYS].assign(embedded=estimates(ours)).replace({"model": families})
    both = published[[*KEYS, "value"]].rename(columns={"value": "published"}).merge(ours, how="outer", on=KEYS)
    return side_by_side(both, ["published", "embedded"], metrics).replace({("model", ""): FAMILIES})


def side_by_side(rows: pd.DataFrame, origins: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
    """Return a table with one row per network and method, and with the columns `origins` for each metric."""
    table = rows.pivot(index=["model", "method"], columns="metric", values=list(origins)).swaplevel(axis=1)
    table = table[[(metric, origin) for metric in metrics for origin in origins]]
    return sort_rows(table.rename_axis(columns=[None, None]).reset_index())


def sort_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Sort the rows by network and method, in the order of `sort_key`."""
    names = rows[["model", "method"]]
    names = names.droplevel(1, axis=1) if names.columns.nlevels > 1 else names
    order = names.map(sort_key).sort_values(["model", "method"], kind="stable").index
    return rows.loc[order].reset_index(drop=True)


def sort_key(name: str) -> tuple[int, str]:
    """Return the sort key of a network or method.

    The papers' networks and methods come first, in their order, followed by the controls and by all others. A variant
    of a method, such as "is_cam_linear", follows the method.
    """
    known = [*FAMILIES, *PAPER_METHODS, *CONTROLS]
    prefixes = [i for i, prefix in enumerate(known) if name.startswith(prefix)]
    return max(prefixes, key=lambda i: len(known[i]), default=len(known)), name


def drop_increase_bound(rows: pd.DataFrame) -> pd.DataFrame:
    """Return average drop and increase of each network and method, their sum, and whether the sum is at most 100 %.

    `rows` has the columns model, method, metric and value (percent), as in `published_table`.
    """
    table = rows.pivot(index=["model", "method"], columns="metric", values="value").reset_index()
    table["sum (%)"] = table["average_drop"] + table["average_increase"]
    table["at most 100"] = np.where(table["sum (%)"] <= 100 + 1e-9, "yes", "no")
    return sort_rows(table)[["model", "method", "average_drop", "average_increase", "sum (%)", "at most 100"]]
