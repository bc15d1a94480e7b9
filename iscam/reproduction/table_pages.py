"""The common content of the pages of Tables I, II and III: the recorded runs, the answer, and tables of these runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

import iscam
from iscam.methods import CONTROLS
from iscam.reproduction.archive import describe_run, recorded
from iscam.reproduction.claims import summarise, verdicts
from iscam.reproduction.commands import study_command
from iscam.reproduction.published import PAPER_METHODS, comparable, published_table, tables_study
from iscam.reproduction.styles import table, verdict_table
from iscam.reproduction.tables import by_metric, comparison
from iscam.study.statistics import merge_seeds, summary, variants, versus

#: Names of the recorded runs by title.
EMBEDDED, SQUEEZENET = "embedded", "SqueezeNet1.0"
RECORDED = {EMBEDDED: "tables_menagerie", SQUEEZENET: "tables_squeezenet"}

#: Commands that run the studies of the papers' networks with torchvision's weights.
FULL_STUDY = "iscam study studies/tables.yaml --data ILSVRC_FOLDER --output results/tables"
SQUEEZENET_STUDY = "iscam study studies/tables_squeezenet.yaml --data ILSVRC_FOLDER --output results/tables_squeezenet"


@dataclass(frozen=True)
class TablePage:
    """A published table, the recorded runs that reproduce it, and the verdicts of each run on the papers' claims."""

    published: pd.DataFrame
    metrics: tuple[str, ...]
    runs: Mapping[str, tuple[pd.DataFrame, dict[str, Any]]]
    verdicts: Mapping[str, pd.DataFrame]

    def frame(self, title: str) -> pd.DataFrame:
        """Return the table of a run, with noisy methods averaged over their seeds."""
        return merge_seeds(self.runs[title][0])

    def means(self, title: str) -> pd.DataFrame:
        """Return the means of the page's metrics with 95 % intervals, with one row per network and method."""
        return by_metric(summary(self.frame(title)), self.metrics)

    def images(self, title: str) -> int:
        return self.runs[title][0]["image"].nunique()

    def describe(self, title: str) -> str:
        return describe_run(*self.runs[title])

    def answer(self) -> str:
        """Describe how often the claims hold, in Markdown."""
        return "\n\n".join(f"{title}:\n\n{summarise(rows)}" for title, rows in self.verdicts.items())

    def verdict_tables(self) -> list[Styler]:
        return [verdict_table(rows, f"{title}: {rows['n'].max():.0f} images") for title, rows in self.verdicts.items()]

    def command(self, title: str) -> str:
        return study_command(self.runs[title][1])

    def repeat(self) -> str:
        """Return the commands that repeat both runs."""
        return f"Repeat: `{self.command(EMBEDDED)}`; {SQUEEZENET}: `{self.command(SQUEEZENET)}`."

    def gaps(self) -> pd.DataFrame:
        """Return IS-CAM minus each other method, per metric and run, in percentage points.

        The values of each image are averaged over the networks.
        """
        parts: dict[tuple[str, str], pd.Series] = {}
        for title in self.runs:
            rows = versus(self.frame(title), "is_cam", together=True)
            rows = by_metric(rows[rows["metric"].isin(self.metrics)], self.metrics)
            parts |= {(metric, title): rows.set_index("method")[metric] for metric in self.metrics}
        table = pd.DataFrame(parts)[[(metric, title) for metric in self.metrics for title in self.runs]]
        return table.rename_axis("method").reset_index()


def table_page(name: str, metrics: Sequence[str]) -> TablePage:
    """Return the page of the published table `name` for these metrics."""
    runs = {title: of_the_paper(*recorded(run)) for title, run in RECORDED.items()}
    tests = {title: verdicts(frame) for title, (frame, _) in runs.items()}
    tests = {title: rows[rows["metric"].isin(metrics)] for title, rows in tests.items()}
    return TablePage(published_table(name), tuple(metrics), runs, tests)


def of_the_paper(frame: pd.DataFrame, run: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a recorded run with the rows of the papers' methods and of the controls, with all their seeds."""
    methods = frame["method"].str.replace(r" seed \d+$", "", regex=True)
    return frame[methods.isin([*PAPER_METHODS, *CONTROLS])], run


def ablation_table(metrics: Sequence[str]) -> Styler:
    """Return a table of IS-CAM minus Score-CAM under each variant of the protocol."""
    frame, _ = recorded("ablations")
    rows = by_metric(variants(frame), metrics).drop(columns="model").rename(columns={"method": "variant"})
    caption = f"IS-CAM minus Score-CAM, in points, mean over three networks; {frame['image'].nunique()} drawings"
    return table(rows, caption)


@dataclass(frozen=True)
class LiveStudy:
    """A small study that a page runs, with the rows that can be compared with published values."""

    frame: pd.DataFrame
    comparable: pd.DataFrame
    caption: str

    def means(self, metrics: Sequence[str]) -> Styler:
        itself = self.frame["metric"] == "win:" + self.frame["method"]
        rows = by_metric(summary(self.frame[~itself]), metrics)
        return table(rows, f"{self.caption}: mean (95 % bootstrap interval)")

    def beside(self, published: pd.DataFrame) -> Styler | None:
        """Return a table of published and live values, or None if they cannot be compared."""
        if self.comparable.empty:
            return None
        return table(comparison(published, self.comparable), f"Published and live: {self.caption}")


def live_study(
    models: Sequence[str], data: str, count: int, seed: int, weights: Mapping[str, str | None], curve_step: int
) -> LiveStudy:
    """Run the tables' study on a few images, or read it from the cache if another page has run it.

    `curve_step` is the number of pixels per step of insertion and deletion.
    """
    study = tables_study(models, data, count, seed, weights, curve_step)
    frame = iscam.run_study(study)
    caption = f"{', '.join(models)} on {frame['image'].nunique()} images of {data}, seed {seed}"
    return LiveStudy(frame, comparable(frame, study), caption)


def both_papers(published: pd.DataFrame) -> pd.DataFrame:
    """Return the values that the Score-CAM paper also publishes, in percent, and the differences in points."""
    both = published.merge(published_table("score_cam"), on=["model", "method", "metric"])
    columns = {"IS-CAM paper (%)": both["value_x"], "Score-CAM paper (%)": both["value_y"]}
    table = both[["model", "method", "metric"]].assign(**columns)
    return table.assign(difference=both["value_x"] - both["value_y"])


def published_gaps(published: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the published value of IS-CAM minus that of each other method, in percentage points.

    The table has one row per method and one column per metric.
    """
    values = published.pivot(index="method", columns="metric", values="value")
    return (values.loc["is_cam"] - values)[list(metrics)]
