"""What was published, what was measured, and the two side by side."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

from iscam.errors import one_of
from iscam.explain import CONTROLS
from iscam.methods import METHODS
from iscam.network import LAYERS

if TYPE_CHECKING:
    from iscam.study import Study

RESAMPLES = 2000


def data_folder() -> Path:
    """The folder of published tables and recorded runs, in a checkout and in an installed package alike."""
    checkout = Path(__file__).parents[1] / "data"
    return checkout if (checkout / "published").is_dir() else Path(__file__).parent / "_data"


def published(table: str) -> pd.DataFrame:
    """A published table as long rows: model, method, metric, value (percent, as printed), source.

    `table`: the name of a file in `data/published`, such as "table1" (a list of them is in the error for a wrong one).

    >>> iscam.published("table1").head(1)[["model", "method", "metric", "value"]].values.tolist()
    [['vgg16', 'grad_cam', 'insertion', 45.25]]
    """
    file = data_folder() / "published" / f"{table}.csv"
    if not file.is_file():
        raise one_of("published table", table, sorted(path.stem for path in file.parent.glob("*.csv")))
    return pd.read_csv(file)


def summary(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean of each model, method and metric with a 95 % bootstrap interval over pictures.

    `frame` as `run_study` returns it. Returns rows model, method, metric, mean, low, high (fractions), n (pictures that
    count) and failed (those left out, NaN).
    """
    keys = ["model", "method", "metric"]
    return frame.groupby(keys, sort=False)["value"].apply(interval, seed=seed).unstack().reset_index()


def interval(values: pd.Series, seed: int = 0) -> pd.Series:
    """Mean, 95 % percentile bootstrap interval, number of values and of NaN among them."""
    known = values.dropna().to_numpy(dtype=float)
    counted = {"n": len(known), "failed": len(values) - len(known)}
    if not len(known):
        return pd.Series({"mean": np.nan, "low": np.nan, "high": np.nan} | counted)
    means = bootstrap_means(known, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return pd.Series({"mean": known.mean(), "low": low, "high": high} | counted)


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of resamples with replacement, (resamples,); the same pictures are drawn for the same number of values."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(values), size=len(values)) for _ in range(RESAMPLES))
    return np.array([values[draw].mean() for draw in draws])


def paired(frame: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Mean difference `method` - `other` of each model and metric, with a 95 % bootstrap interval over paired pictures.

    Rows as in `summary`; a picture counts where both values are known.
    """
    wide = frame.pivot_table(index=["model", "metric", "picture"], columns="method", values="value", dropna=False)
    for name in (method, other):
        if name not in wide:
            raise one_of("method", name, wide.columns)
    difference = (wide[method] - wide[other]).rename("value").reset_index()
    difference["method"] = f"{method} - {other}"
    return summary(difference)


def beside(table: pd.DataFrame, frame: pd.DataFrame, command: str) -> pd.DataFrame:
    """Published values beside ours, in percent; cells that `frame` does not hold read "not run" with the command.

    `table` as `published` gives it, `frame` as `run_study` does, its methods named as the published ones and run on
    ImageNet pictures with ImageNet weights (nothing else may stand in a published row: pass an empty frame then).
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
        ran, percent["low"].map("{:.2f}".format) + " to " + percent["high"].map("{:.2f}".format), command
    )
    both["difference"] = np.where(ran, (percent["mean"] - both["value"]).map("{:+.2f}".format), "")
    both["pictures"] = both["n"].map(lambda n: "" if pd.isna(n) else int(n))
    both = both.rename(columns={"value": "published"})
    return both[["model", "method", "metric", "published", "reproduced", "95 % interval", "difference", "pictures"]]


def comparable(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """The rows of a study that may stand beside published ones: the papers' networks, trained, on ILSVRC pictures."""
    lists = ("LOC_val_solution.csv", "ILSVRC/Annotations/CLS-LOC/val")
    ilsvrc = any((Path(study.data) / name).exists() for name in lists)
    trained = [name for name in study.models if name in LAYERS and study.weights.get(name, "default") is not None]
    return frame[frame["model"].isin(trained if ilsvrc else [])]


def comparison(table: pd.DataFrame, frame: pd.DataFrame, command: str) -> pd.DataFrame:
    """`beside` for reading: one row a network and method, two columns a metric, "published" and "reproduced".

    What `frame` holds of the same networks and metrics and the paper does not, the controls among it, has no published
    value and reads "–" there.
    """
    keys = ["model", "method", "metric"]
    known = frame[frame["model"].isin(table["model"]) & frame["metric"].isin(table["metric"])].dropna(subset="value")
    there = set(table[keys].itertuples(index=False, name=None))
    more = [row for row in dict.fromkeys(known[keys].itertuples(index=False, name=None)) if row not in there]
    rows = beside(pd.concat([table, pd.DataFrame(more, columns=keys)]) if more else table, frame, command)
    ran = rows["reproduced"] != "not run"
    rows["reproduced"] = np.where(ran, rows["reproduced"] + " (" + rows["95 % interval"] + ")", "not run")
    rows["published"] = rows["published"].map(lambda value: "–" if pd.isna(value) else f"{value:.2f}")
    cells = rows.melt(keys, ["published", "reproduced"], "origin", "text")
    return wide(cells, ["metric", "origin"], list(dict.fromkeys(table["metric"])))


def readable(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Rows of `summary` or `against` for reading: one row a network and method, one column a metric.

    Cells are "mean (low to high)" in percent, "not defined" where no picture has a value, "–" where there is no row.

    >>> frame = pd.DataFrame({"model": "net", "method": "is_cam", "metric": "win", "value": [0.0, 1.0]})
    >>> readable(summary(frame), ["win"]).values.tolist()
    [['net', 'is_cam', '50.00 (0.00 to 100.00)']]
    """
    rows = rows[rows["metric"].isin(list(metrics))]
    numbers = (100 * rows[["mean", "low", "high"]]).itertuples(index=False)
    texts = [
        "not defined" if row.mean != row.mean else f"{row.mean:z.2f} ({row.low:z.2f} to {row.high:z.2f})"
        for row in numbers
    ]
    return wide(rows.assign(text=texts), ["metric"], metrics)


def wide(cells: pd.DataFrame, columns: list[str], metrics: Sequence[str]) -> pd.DataFrame:
    """One row a network and method; the texts of `cells` in the given columns."""
    table = cells.pivot(index=["model", "method"], columns=columns, values="text").fillna("–")[list(metrics)]
    return ordered(table.reset_index())


def ordered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows sorted by network, those of the papers first and in their order, and by method as in `METHODS`."""
    places = {name: i for i, name in enumerate([*LAYERS, *METHODS, *CONTROLS])}
    names = rows[["model", "method"]].droplevel(1, axis=1) if rows.columns.nlevels > 1 else rows[["model", "method"]]
    keys = names.map(lambda name: (places.get(name, len(places)), name))
    return rows.loc[keys.sort_values(["model", "method"], kind="stable").index].reset_index(drop=True)


def against(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    """Mean paired difference of `method` minus each other method of the frame; rows as in `summary`."""
    others = [name for name in frame["method"].unique() if name != method]
    differences = [paired(frame, method, other).assign(method=other) for other in others]
    return pd.concat(differences).sort_values("model", kind="stable", ignore_index=True)


def bounded(rows: pd.DataFrame) -> pd.DataFrame:
    """Average drop and increase of each network and method, their sum, and whether it keeps the bound of 100 %.

    `rows`: model, method, metric and value in percent, as `published` gives them.
    """
    table = rows.pivot(index=["model", "method"], columns="metric", values="value").reset_index()
    table["sum (%)"] = table["average_drop"] + table["average_increase"]
    table["at most 100"] = np.where(table["sum (%)"] <= 100 + 1e-9, "yes", "no")
    return ordered(table)[["model", "method", "average_drop", "average_increase", "sum (%)", "at most 100"]]


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two maps, equal values sharing their mean rank; NaN where one is constant.

    >>> round(rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0])), 6)
    1.0
    """
    ranks = [pd.Series(x.flatten().cpu().numpy()).rank() for x in (a, b)]
    return float(ranks[0].corr(ranks[1]))


def rerun(notebook: str, **parameters: Any) -> str:
    """The command line that runs a notebook again with these parameters.

    >>> rerun("confidence", models=["vgg16"], count=2)
    "papermill notebooks/confidence.ipynb confidence.ipynb -y '{models: [vgg16], count: 2}'"
    """
    values = yaml.safe_dump(parameters, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"papermill notebooks/{notebook}.ipynb {notebook}.ipynb -y '{values}'"


def provenance(parameters: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What made a result: parameters, commit, versions, device, seconds, date."""
    packages = ("iscam", "torch", "torchvision", "numpy", "pandas")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "parameters": dict(parameters),
        "commit": commit(),
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "device": device_name(),
        "seconds": round(seconds, 1),
    }


def device_name() -> str:
    """The machine's GPU, or its processor and number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, threads: {torch.get_num_threads()}"


def commit() -> str | None:
    """The checkout's commit, None in an installed package."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def recorded(name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A run that `data/results` keeps: its table, as `run_study` returned it, and its provenance."""
    folder = data_folder() / "results"
    if not (folder / f"{name}.parquet").is_file():
        raise one_of("recorded run", name, sorted(file.stem for file in folder.glob("*.parquet")))
    return pd.read_parquet(folder / f"{name}.parquet"), json.loads((folder / f"{name}.json").read_text())


def keep(output: str | Path, name: str) -> None:
    """Keep a finished study's table and provenance as the recorded run `name` in `data/results`."""
    from iscam.study import read_rows  # here, since that module writes what this one reads

    target = data_folder() / "results"
    read_rows(output).to_parquet(target / f"{name}.parquet", index=False)
    runs = [json.loads(file.read_text()) for file in sorted(Path(output).glob("run-*.json"))]
    whole = runs[-1] | {key: sum(run[key] for run in runs) for key in ("seconds", "pictures_computed")}
    whole["command"] = whole["command"].replace(str(output), f"results/{name}")
    (target / f"{name}.json").write_text(json.dumps(whole, indent=1))


def record(frame: pd.DataFrame, file: str | Path, parameters: Mapping[str, Any], seconds: float, command: str) -> None:
    """Write the table FILE.parquet and its provenance FILE.json of a run that is not a study."""
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(target.with_suffix(".parquet"), index=False)
    made = provenance(parameters, seconds) | {"command": command}
    target.with_suffix(".json").write_text(json.dumps(made, indent=1))


def run_line(frame: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """One sentence about a recorded run: what, how many, where, when, and the command that makes it again."""
    study, each = run["parameters"], run["seconds"] / max(1, run["pictures_computed"])
    return (
        f"Recorded run: {frame['picture'].nunique()} pictures of {study['data']} (seed {study['seed']}), "
        f"{', '.join(study['models'])}; {run['date'][:10]}, {run['device']}, {each:.0f} s for a picture and a network, "
        f"commit {run['commit']}. Run it again with `iscam {run['command'].partition(' ')[2]}`."
    )


def training_summary() -> pd.DataFrame:
    """Figures of the embedded networks on unseen drawings, as their training recorded them; one row a network."""
    record = json.loads((data_folder() / "results" / "menagerie-training.json").read_text())
    figures = {name: entry["figures"] for name, entry in record.items()}
    return pd.DataFrame(
        {
            "network": name,
            "right (%)": 100 * found["top1"],
            "right, other background (%)": 100 * found["top1_background_swapped"],
            "right, background alone (%)": 100 * found["background_alone"]["top1"],
            "right, a side part left out (%)": 100 * found["top1_without_a_part_that_does_not_decide"],
            "median probability": found["median_probability_at_temperature"]["1.0"],
        }
        for name, found in figures.items()
    )
