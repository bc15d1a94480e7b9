"""Styles of result tables: pandas Stylers for the book, Markdown for the README."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler

from iscam.reproduction.names import column_heading, method_title, name_for_readers
from iscam.reproduction.tables import Estimate, estimates

#: Columns of names, aligned to the left. All other columns hold numbers.
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
    "explained class",
    "predicted class",
    "prediction",
    "image",
    "of",
    "drawings",
    "species",
    "parts that vary",
    "rule",
}

#: Columns of longer text, aligned to the left. The text may break into lines.
SENTENCES = {"line", "claim", "quantity", "how it works", "how it fails"}

NO_VALUE = "–"
NO_BREAK_SPACE = "\u00a0"


def table(rows: pd.DataFrame, caption: str = "") -> Styler:
    """Style a table for readers, with titles of methods and headings of metrics and without the index.

    Numbers are aligned to the right and have two decimals.
    """
    shown = rows.map(cell_text)
    shown.columns = pd.Index([heading(column) for column in shown.columns])
    style = shown.style.hide(axis="index").format(precision=2, na_rep=NO_VALUE).set_caption(caption)
    signed = [column for column in shown.columns if "difference" in (column, column[-1])]
    style.format("{:+.2f}", subset=signed, na_rep=NO_VALUE)
    style.format_index(breakable, axis="columns")
    return style.set_table_styles(table_styles(list(shown.columns)))


def cell_text(cell: Any) -> Any:
    """Return the text of a cell for readers. Numbers are returned unchanged."""
    if isinstance(cell, Estimate):
        return str(cell).replace(" to ", f"{NO_BREAK_SPACE}to{NO_BREAK_SPACE}")
    return name_for_readers(cell) if isinstance(cell, str) else cell


def heading(column: Any) -> Any:
    """Return the heading of a column, or the headings of its levels."""
    return tuple(map(heading, column)) if isinstance(column, tuple) else column_heading(column)


def breakable(heading: Any) -> Any:
    """Return a heading that may break after a slash, except before a single letter.

    >>> breakable("menagerie/vgg"), breakable("passes/s")
    ('menagerie/<wbr>vgg', 'passes/s')
    """
    return re.sub(r"/(?=\w\w)", "/<wbr>", heading) if isinstance(heading, str) else heading


def table_styles(columns: Sequence[Any]) -> list[dict[str, str]]:
    """Return CSS rules that align each column."""
    gap = 0.6 if len(columns) < 5 else 0.35  # seven columns of intervals fit a page
    styles = {"th, td": f"text-align: right; padding: 0.15em {gap}em", "caption": "text-align: left"}
    for i, column in enumerate(columns):
        levels = set(column) if isinstance(column, tuple) else {column}
        if levels & NAMES:
            styles[f"th.col{i}, td.col{i}"] = "text-align: left; white-space: nowrap"
        elif levels & SENTENCES:
            styles[f"th.col{i}, td.col{i}"] = "text-align: left; min-width: 8em"
    return [
        {"selector": selector.strip(), "props": props}
        for selectors, props in styles.items()
        for selector in selectors.split(",")
    ]


def verdict_table(rows: pd.DataFrame, caption: str) -> Styler:
    """Style the rows of `claims.verdicts`: comparison, difference in points, corrected p-value and verdict."""
    shown = pd.DataFrame(
        {
            "claim": rows["claim"].mask(rows["claim"].duplicated(), ""),
            "compared": [f"{method_title(row.method)} − {method_title(row.other)}" for row in rows.itertuples()],
            "metric": rows["metric"].str.replace("_", " "),
            "difference (points)": estimates(rows),
            "p": [NO_VALUE if np.isnan(p) else f"{p:.4f}" for p in rows["p"]],
            "verdict": rows["verdict"],
        }
    )
    return table(shown, caption)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table.

    >>> print(markdown_table(["page", "seconds"], [["speed", "12"]]))
    | page | seconds |
    | --- | --- |
    | speed | 12 |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
