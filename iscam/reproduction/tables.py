"""Tables to read: published beside measured, intervals in cells, headings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from iscam.methods import METHODS
from iscam.methods.controls import CONTROLS
from iscam.plots import TITLES
from iscam.reproduction.published import FAMILIES
from iscam.study.statistics import summary
from iscam.zoo import LAYERS


def join_published(table: pd.DataFrame, frame: pd.DataFrame, command: str) -> pd.DataFrame:
    """Published values beside ours, in percent; cells that `frame` does not hold read "not run" with the command.

    `table` as `published` gives it, `frame` as `run_study` does, its methods named as the published ones and run on
    ImageNet images with ImageNet weights (nothing else may stand in a published row: pass an empty frame then).
    """
    ours = (
        summary(frame)
        if len(frame)
        else pd.DataFrame(columns=["model", "method", "metric", "mean", "low", "high", "n"])
    )
    both = table.merge(ours, how="left", on=["model", "method", "metric"])
    percent = both[["mean", "low", "high"]].astype(float) * 100
    ran = percent["mean"].notna()
    both["reproduced"] = np.where(ran, percent["mean"].map("{:.2f}".format), "not run")
    both["95 % interval"] = np.where(
        ran, [format_interval(*pair) for pair in percent[["low", "high"]].to_numpy()], command
    )
    both["difference"] = np.where(ran, (percent["mean"] - both["value"]).map("{:+.2f}".format), "")
    both["images"] = both["n"].map(lambda n: "" if pd.isna(n) else int(n))
    both = both.rename(columns={"value": "published"})
    return both[["model", "method", "metric", "published", "reproduced", "95 % interval", "difference", "images"]]


def comparison(table: pd.DataFrame, frame: pd.DataFrame, command: str) -> pd.DataFrame:
    """`join_published` to read: one row per network and method; per metric published, reproduced, difference.

    What `frame` holds of the same networks and metrics and the paper does not, the controls among it, has no published
    value and reads "–" there.
    """
    keys = ["model", "method", "metric"]
    known = frame[frame["model"].isin(table["model"]) & frame["metric"].isin(table["metric"])].dropna(subset="value")
    there = set(table[keys].itertuples(index=False, name=None))
    more = [row for row in dict.fromkeys(known[keys].itertuples(index=False, name=None)) if row not in there]
    rows = join_published(pd.concat([table, pd.DataFrame(more, columns=keys)]) if more else table, frame, command)
    ran = rows["reproduced"] != "not run"
    rows["reproduced"] = np.where(ran, rows["reproduced"] + " (" + rows["95 % interval"] + ")", "not run")
    rows["published"] = rows["published"].map(lambda value: "–" if pd.isna(value) else f"{value:.2f}")
    rows["difference"] = rows["difference"].where(rows["published"] != "–", "")
    cells = rows.melt(keys, ["published", "reproduced", "difference"], "origin", "text")
    return pivot_cells(cells, ["metric", "origin"], list(dict.fromkeys(table["metric"])))


def format_table(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Rows of `summary` or `versus` for reading: one row a network and method, one column a metric.

    Cells are "mean (low to high)" in percent, "mean (–)" where one image gives no interval, "not defined" where no
    image has a value, "–" where there is no row.

    >>> frame = pd.DataFrame({"model": "net", "method": "is_cam", "metric": "win", "value": [0.0, 1.0]})
    >>> format_table(summary(frame), ["win"]).values.tolist()
    [['net', 'is_cam', '50.00 (0.00 to 100.00)']]
    """
    rows = rows[rows["metric"].isin(list(metrics))]
    numbers = (100 * rows[["mean", "low", "high"]].astype(float)).itertuples(index=False)
    return pivot_cells(rows.assign(text=[format_cell(*row) for row in numbers]), ["metric"], metrics)


def format_cell(mean: float, low: float, high: float) -> str:
    """A mean with its interval, as `format_table` has it."""
    return "not defined" if np.isnan(mean) else f"{mean:z.2f} ({format_interval(low, high)})"


def format_interval(low: float, high: float) -> str:
    """The ends of an interval; one image has none."""
    return "–" if np.isnan(low) else f"{low:z.2f} to {high:z.2f}"


def by_network(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric of rows of `summary`, cells as in `format_table`: one row per method, one column per network."""
    cells = format_table(rows, [metric])
    return (
        cells.pivot(index="method", columns="model", values=metric)
        .loc[list(dict.fromkeys(cells["method"])), list(dict.fromkeys(cells["model"]))]
        .fillna("–")
        .reset_index()
    )


def by_family(table: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Published values beside those of the embedded network of the same family: a row a family and method.

    `table` as `published` gives it, `frame` as `run_study` does. Other images and other weights: a difference of the
    two columns would say nothing, the order of the methods within each may.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    families = {f"menagerie/{family.lower()}": name for name, family in FAMILIES.items() if name in set(table["model"])}
    ours = summary(frame[frame["model"].isin(families)]).replace({"model": families})
    ours["text"] = [format_cell(*row) for row in (100 * ours[["mean", "low", "high"]].astype(float)).to_numpy()]
    printed = table.assign(text=table["value"].map("{:.2f}".format))
    both = pd.concat([printed.assign(origin="published"), ours.assign(origin="embedded")])
    shown = pivot_cells(both[both["metric"].isin(metrics)], ["metric", "origin"], metrics)
    order = [(metric, origin) for metric in metrics for origin in ("published", "embedded")]
    return shown[[("model", ""), ("method", ""), *order]].replace({("model", ""): FAMILIES})


def pivot_cells(cells: pd.DataFrame, columns: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """One row a network and method; the texts of `cells` in the given columns."""
    table = cells.pivot(index=["model", "method"], columns=columns, values="text").fillna("–")[list(metrics)]
    return sort_rows(table.reset_index())


def sort_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows sorted by network and method: the papers' networks first, methods as in `METHODS`, then the controls.

    A variant of a method, such as "is_cam_linear", follows it.
    """
    known = [*LAYERS, *METHODS, *CONTROLS]

    def place(name: str) -> tuple[int, str]:
        prefixes = [i for i, prefix in enumerate(known) if name.startswith(prefix)]
        return max(prefixes, key=lambda i: len(known[i]), default=len(known)), name

    names = rows[["model", "method"]].droplevel(1, axis=1) if rows.columns.nlevels > 1 else rows[["model", "method"]]
    keys = names.map(place)
    return rows.loc[keys.sort_values(["model", "method"], kind="stable").index].reset_index(drop=True)


def drop_increase_bound(rows: pd.DataFrame) -> pd.DataFrame:
    """Average drop and increase of each network and method, their sum, and whether it keeps the bound of 100 %.

    `rows`: model, method, metric and value in percent, as `published` gives them.
    """
    table = rows.pivot(index=["model", "method"], columns="metric", values="value").reset_index()
    table["sum (%)"] = table["average_drop"] + table["average_increase"]
    table["at most 100"] = np.where(table["sum (%)"] <= 100 + 1e-9, "yes", "no")
    return sort_rows(table)[["model", "method", "average_drop", "average_increase", "sum (%)", "at most 100"]]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table.

    >>> print(markdown_table(["page", "seconds"], [["speed", "12"]]))
    | page | seconds |
    | --- | --- |
    | speed | 12 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


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


def table(rows: pd.DataFrame, caption: str = "") -> Styler:
    """A table to read: methods and metrics by the names readers know, no index, numbers to the right."""
    shown = rows.copy()
    shown.columns = pd.Index([heading_of(column) for column in shown.columns])
    named = [bool({*column} & NAMES if isinstance(column, tuple) else column in NAMES) for column in shown.columns]
    shown = shown.map(lambda cell: title_of(cell).replace(" to ", UNBROKEN) if isinstance(cell, str) else cell)
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


def title_of(name: str) -> str:
    """A method of a table by the name readers know, its variant behind it.

    >>> title_of("is_cam zero baseline")
    'IS-CAM zero baseline'
    """
    first, space, rest = name.partition(" ")
    return TITLES.get(first, first) + space + rest


def verdict_table(rows: pd.DataFrame, caption: str) -> Styler:
    """Rows of `verdicts` to read: what was compared, the difference in points, corrected p, and the verdict."""
    shown = pd.DataFrame(
        {
            "claim": rows["claim"].mask(rows["claim"].duplicated(), ""),
            "compared": [f"{TITLES[row.method]} − {TITLES[row.other]}" for row in rows.itertuples()],
            "metric": rows["metric"].str.replace("_", " "),
            "difference (points)": [
                format_cell(*row) for row in (100 * rows[["mean", "low", "high"]].astype(float)).to_numpy()
            ],
            "p": rows["p"].map(lambda p: "–" if np.isnan(p) else f"{p:.4f}"),
            "verdict": rows["verdict"],
        }
    )
    return table(shown, caption)


def heading_of(column: Any) -> Any:
    """A column's name, or each level of it, as `HEADINGS` has it."""
    return tuple(map(heading_of, column)) if isinstance(column, tuple) else HEADINGS.get(column, column)
