"""What was published, what was measured, and the two side by side."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

from iscam.errors import InputError, one_of
from iscam.explain import CONTROLS
from iscam.methods import METHODS
from iscam.network import LAYERS

if TYPE_CHECKING:
    from iscam.study import Study

RESAMPLES = 2000

#: Random sign flips of the permutation test: the smallest p-value is 1 / (FLIPS + 1).
FLIPS = 9999

#: Metrics of which a low value is good.
LOW_IS_GOOD = {"deletion", "average_drop", "complexity"}


#: The papers' networks and the families that they and the embedded networks belong to.
FAMILIES = {"vgg16": "VGG", "resnet18": "ResNet", "squeezenet1_0": "SqueezeNet"}


class Comparison(NamedTuple):
    """The statement that `method` has the better `metric` than `other`, on networks whose name holds `networks`."""

    method: str
    other: str
    metric: str
    networks: str = ""


#: The one comparison that is tested as it stands, named before any run was recorded: Table II, whose value is
#: the average drop, is where the paper says that Score-CAM fails and IS-CAM does not. All others are corrected by Holm.
PRIMARY = Comparison("is_cam", "score_cam", "average_drop")

#: What the IS-CAM paper and its poster claim, as comparisons.
CLAIMS: dict[str, list[Comparison]] = {
    "IS-CAM scores better than Score-CAM": [
        Comparison("is_cam", "score_cam", metric)
        for metric in ("average_drop", "average_increase", "insertion", "deletion")
    ],
    "IS-CAM is better than the gradient methods in Table I": [
        Comparison("is_cam", other, metric)
        for other in ("grad_cam", "grad_cam_pp", "smooth_grad_cam_pp")
        for metric in ("insertion", "deletion")
    ],
    "IS-CAM is good in both tables: SS-CAM fails in Table I": [
        Comparison("is_cam", "ss_cam", metric) for metric in ("insertion", "deletion")
    ],
    "IS-CAM is good in both tables: Score-CAM fails in Table II": [
        Comparison("is_cam", "score_cam", metric) for metric in ("average_drop", "average_increase")
    ],
    "IS-CAM has the highest energy on VGG": [
        Comparison("is_cam", other, "energy", "vgg")
        for other in ("grad_cam", "grad_cam_pp", "smooth_grad_cam_pp", "score_cam", "ss_cam")
    ],
    "Smoothing and integration concentrate the map": [
        Comparison(method, "score_cam", "complexity") for method in ("ss_cam", "is_cam")
    ],
}


def data_folder() -> Path:
    """The folder of published tables and recorded runs, in a checkout and in an installed package alike.

    `$ISCAM_DATA` names another one, with the same files.
    """
    if chosen := os.environ.get("ISCAM_DATA"):
        return Path(chosen)
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


def on_most_pictures(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each network's methods that saw as many pictures as any, so that means are of the same ones."""
    pictures = frame.groupby(["model", "method"])["picture"].transform("nunique")
    return frame[pictures == pictures.groupby(frame["model"]).transform("max")]


def interval(values: pd.Series, seed: int = 0) -> pd.Series:
    """Mean, 95 % percentile bootstrap interval (NaN for one value), number of values and of NaN among them."""
    known = values.dropna().to_numpy(dtype=float)
    low, high = np.quantile(bootstrap_means(known, seed), [0.025, 0.975]) if len(known) > 1 else (np.nan, np.nan)
    mean = known.mean() if len(known) else np.nan
    return pd.Series({"mean": mean, "low": low, "high": high, "n": len(known), "failed": len(values) - len(known)})


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of resamples with replacement, (resamples,); the same pictures are drawn for the same number of values."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(values), size=(rows, len(values))) for rows in blocks(RESAMPLES, len(values)))
    return np.concatenate([values[draw].mean(1) for draw in draws])


def blocks(rows: int, columns: int) -> list[int]:
    """`rows` in portions of about a million numbers, so that memory does not grow with the number of pictures."""
    portion = max(1, 1_000_000 // columns)
    return [min(portion, rows - done) for done in range(0, rows, portion)]


def sign_flip_test(differences: np.ndarray, seed: int = 0) -> float:
    r"""Two-sided p-value of a mean paired difference, by flipping the sign of each picture's difference at random.

    p = (1 + #{|mean of flipped| >= |mean|}) / (FLIPS + 1): exact where neither method is better than the other, since
    exchanging them then changes nothing. NaN for fewer than two pictures.

    >>> sign_flip_test(np.zeros(5))
    1.0
    """
    if len(differences) < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    signs = (1 - 2 * rng.integers(2, size=(rows, len(differences))) for rows in blocks(FLIPS, len(differences)))
    flipped = np.abs(np.concatenate([sign @ differences for sign in signs]))
    return float((1 + (flipped >= np.abs(differences.sum()) * (1 - 1e-9)).sum()) / (FLIPS + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction of p-values for testing all of them; NaN stays and does not count.

    >>> holm(np.array([0.04, 0.01, 0.03])).round(6).tolist()
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(p)  # NaN last
    factors = np.arange((~np.isnan(p)).sum(), 0, -1)
    corrected = np.full(len(p), np.nan)
    tested = order[: len(factors)]
    corrected[tested] = np.maximum.accumulate(np.minimum(1, p[tested] * factors))
    return corrected


def verdicts(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Each comparison of each of the papers' `CLAIMS`, and whether it holds in this study.

    `frame` as `run_study` gives it. What is compared is a picture's difference, the mean over the networks and the
    seeds of noisy methods, so that pictures are the only units. Returns rows claim, method, other, metric, mean, low,
    high (of the difference, 95 % bootstrap), n, p (sign flips; Holm-corrected over all comparisons but `PRIMARY`,
    however few of them are then shown) and verdict: "holds", "opposite", or "no difference shown" where p >= 5 %.
    Comparisons of methods or metrics that the frame lacks are left out.
    """
    wide = merge_seeds(frame).pivot(index=["model", "picture"], columns=["metric", "method"], values="value")
    found = {}
    for comparison in dict.fromkeys(each for comparisons in CLAIMS.values() for each in comparisons):
        a, b = ((comparison.metric, method) for method in comparison[:2])
        networks = wide.index.get_level_values("model").str.contains(comparison.networks, regex=False)
        if a in wide and b in wide and networks.any():
            difference = (wide[a] - wide[b])[networks].groupby("picture").mean()
            known = difference.dropna().to_numpy()
            found[comparison] = interval(difference, seed).to_dict() | {"p": sign_flip_test(known, seed)}
    others = [comparison for comparison in found if comparison != PRIMARY]
    for comparison, p in zip(others, holm(np.array([found[each]["p"] for each in others])), strict=True):
        found[comparison]["p"] = p
    rows = [
        {"claim": claim} | comparison._asdict() | found[comparison] | {"verdict": ruling(comparison, found[comparison])}
        for claim, comparisons in CLAIMS.items()
        for comparison in comparisons
        if comparison in found
    ]
    columns = ["claim", *Comparison._fields, "mean", "low", "high", "n", "failed", "p", "verdict"]
    return pd.DataFrame(rows, columns=columns).drop(columns="networks")


def ruling(comparison: Comparison, found: Mapping[str, float]) -> str:
    """What a tested comparison says about its claim."""
    if np.isnan(found["p"]):
        return "not tested"
    if found["p"] >= 0.05:
        return "no difference shown"
    return "holds" if (found["mean"] < 0) == (comparison.metric in LOW_IS_GOOD) else "opposite"


def spoken(rows: pd.DataFrame) -> str:
    """A line a claim: in how many of its comparisons it holds; `rows` as `verdicts` gives them."""
    lines = []
    for claim, verdict in rows.groupby("claim", sort=False)["verdict"]:
        counts = ", ".join(f"{word} in {count}" for word, count in verdict.value_counts().items())
        lines.append(f"- *{claim}*: of {len(verdict)} comparison{'s' * (len(verdict) > 1)}, {counts}")
    return "\n".join(lines)


def merge_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """One line for the seeds of a noisy method, "NAME", "NAME seed 1", ...: a picture's value is their mean."""
    merged = frame.assign(method=frame["method"].str.replace(r" seed \d+$", "", regex=True))
    return merged.groupby(["model", "picture", "method", "metric"], sort=False, as_index=False)["value"].mean()


def seed_spread(frame: pd.DataFrame) -> pd.DataFrame:
    """How far the seeds of a noisy method lie apart: model, method, metric, seeds, and spread of their means."""
    several = frame["method"].str.replace(r" seed \d+$", "", regex=True)
    means = frame.assign(base=several).groupby(["model", "base", "metric", "method"], sort=False)["value"].mean()
    spread = means.groupby(level=[0, 1, 2], sort=False).agg(seeds="size", spread=lambda x: x.max() - x.min())
    return spread[spread["seeds"] > 1].reset_index().rename(columns={"base": "method"})


def wins(frame: pd.DataFrame, method: str = "is_cam") -> pd.DataFrame:
    """Share of pictures where `method` keeps more of the class probability than each other method, and of ties.

    Rows as in `summary`, "method" being the other one and "metric" win or tie; `frame` holds explained_confidence.
    """
    kept = frame[frame["metric"] == "explained_confidence"]
    kept = kept.pivot(index=["model", "picture"], columns="method", values="value")
    rows = []
    for other in kept.columns.drop(method):
        known = kept[[method, other]].notna().all(axis=1)
        for name, share in {"win": kept[method] > kept[other], "tie": kept[method] == kept[other]}.items():
            values = share.astype(float).where(known).rename("value").reset_index()
            rows.append(values.assign(method=other, metric=name))
    return summary(merge_seeds(pd.concat(rows)))


def paired(frame: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Mean difference `method` - `other` of each model and metric, with a 95 % bootstrap interval over paired pictures.

    Rows as in `summary`; a picture counts where both values are known.
    """
    return summary(differences(frame, method, other))


def differences(frame: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Each picture's difference `method` - `other`; columns model, metric, picture, method, value."""
    wide = frame.pivot(index=["model", "metric", "picture"], columns="method", values="value")
    for name in (method, other):
        if name not in wide:
            raise one_of("method", name, wide.columns)
    return (wide[method] - wide[other]).rename("value").reset_index().assign(method=f"{method} - {other}")


def across(frame: pd.DataFrame) -> pd.DataFrame:
    """Each picture's mean over the networks, so that pictures are the units, however many networks saw them.

    It is NaN where one of the networks has no value: a mean over fewer networks is another quantity.
    """
    n = frame["model"].nunique()
    values = frame.groupby(["picture", "method", "metric"], sort=False)["value"].sum(min_count=n) / n
    return values.reset_index().assign(model="all networks")


def variants(frame: pd.DataFrame, method: str = "is_cam", other: str = "score_cam") -> pd.DataFrame:
    """Mean paired difference of two methods, over all networks, under each variant "NAME variant" of both.

    Rows as in `summary`, "method" being the variant.
    """
    there = list(frame["method"].unique())
    shared = [name.removeprefix(method) for name in there if name.startswith(method)]
    rows = [
        differences(frame, method + variant, other + variant).assign(method=variant.strip() or "as in the tables")
        for variant in shared
        if other + variant in there
    ]
    return summary(across(pd.concat(rows)))


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
    both["95 % interval"] = np.where(ran, [extent(*pair) for pair in percent[["low", "high"]].to_numpy()], command)
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
    """`beside` for reading: a row a network and method, per metric the columns published, reproduced and difference.

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
    rows["difference"] = rows["difference"].where(rows["published"] != "–", "")
    cells = rows.melt(keys, ["published", "reproduced", "difference"], "origin", "text")
    return wide(cells, ["metric", "origin"], list(dict.fromkeys(table["metric"])))


def readable(rows: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Rows of `summary` or `against` for reading: one row a network and method, one column a metric.

    Cells are "mean (low to high)" in percent, "mean (–)" where one picture gives no interval, "not defined" where no
    picture has a value, "–" where there is no row.

    >>> frame = pd.DataFrame({"model": "net", "method": "is_cam", "metric": "win", "value": [0.0, 1.0]})
    >>> readable(summary(frame), ["win"]).values.tolist()
    [['net', 'is_cam', '50.00 (0.00 to 100.00)']]
    """
    rows = rows[rows["metric"].isin(list(metrics))]
    numbers = (100 * rows[["mean", "low", "high"]].astype(float)).itertuples(index=False)
    return wide(rows.assign(text=[cell(*row) for row in numbers]), ["metric"], metrics)


def cell(mean: float, low: float, high: float) -> str:
    """A mean with its interval, as `readable` has it."""
    return "not defined" if np.isnan(mean) else f"{mean:z.2f} ({extent(low, high)})"


def extent(low: float, high: float) -> str:
    """The ends of an interval; one picture has none."""
    return "–" if np.isnan(low) else f"{low:z.2f} to {high:z.2f}"


def by_network(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric of rows of `summary` for reading, cells as in `readable`: one row a method, one column a network."""
    cells = readable(rows, [metric])
    return (
        cells.pivot(index="method", columns="model", values=metric)
        .loc[list(dict.fromkeys(cells["method"])), list(dict.fromkeys(cells["model"]))]
        .fillna("–")
        .reset_index()
    )


def embedded(table: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Published values beside those of the embedded network of the same family: a row a family and method.

    `table` as `published` gives it, `frame` as `run_study` does. Other pictures and other weights: a difference of the
    two columns would say nothing, the order of the methods within each may.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    families = {f"menagerie/{family.lower()}": name for name, family in FAMILIES.items() if name in set(table["model"])}
    ours = summary(frame[frame["model"].isin(families)]).replace({"model": families})
    ours["text"] = [cell(*row) for row in (100 * ours[["mean", "low", "high"]].astype(float)).to_numpy()]
    printed = table.assign(text=table["value"].map("{:.2f}".format))
    both = pd.concat([printed.assign(origin="published"), ours.assign(origin="embedded")])
    shown = wide(both[both["metric"].isin(metrics)], ["metric", "origin"], metrics)
    order = [(metric, origin) for metric in metrics for origin in ("published", "embedded")]
    return shown[[("model", ""), ("method", ""), *order]].replace({("model", ""): FAMILIES})


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


def against(frame: pd.DataFrame, method: str, together: bool = False) -> pd.DataFrame:
    """Mean paired difference of `method` minus each other method of the frame; rows as in `summary`.

    `together`: a picture's difference is the mean over the networks.
    """
    others = [name for name in frame["method"].unique() if name != method]
    rows = pd.concat([differences(frame, method, other).assign(method=other) for other in others])
    return summary(across(rows) if together else rows).sort_values("model", kind="stable", ignore_index=True)


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
    """The machine's GPU, or its processor, what it has for bfloat16, and the number of threads."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    known: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in older versions of torch
    name = known.get("cpu_name", platform.machine())
    half = next((f" with {kind}" for kind in ("amx_bf16", "avx512_bf16") if known.get(kind)), "")
    return f"{name} CPU{half}, threads: {torch.get_num_threads()}"


def commit() -> str | None:
    """The checkout's commit, None in an installed package."""
    try:
        command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def is_recorded(name: str) -> bool:
    """Whether `data/results` keeps a run of this name."""
    return (data_folder() / "results" / f"{name}.parquet").is_file()


def recorded(name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A run that `data/results` keeps: its table, as `run_study` returned it, and its provenance."""
    folder = data_folder() / "results"
    if not is_recorded(name):
        raise one_of("recorded run", name, sorted(file.stem for file in folder.glob("*.parquet")))
    return pd.read_parquet(folder / f"{name}.parquet"), json.loads((folder / f"{name}.json").read_text())


def benchmarks() -> dict[str, dict[str, Any]]:
    """The recorded runs of benchmarks/speed.py, by network and machine."""
    files = sorted((data_folder() / "results").glob("benchmarks-*.json"))
    runs = [json.loads(file.read_text()) for file in files]
    return {f"{run['parameters']['model']}, {run['device']}": run for run in runs}


def benchmark_table(run: Mapping[str, Any]) -> pd.DataFrame:
    """One row a line of a benchmark: medians, how many times torch-cam's speed at the same task, share of the floor.

    The spread is how much longer the slowest repeat took than the fastest. Of torch-cam's batch sizes the best counts.
    """
    median = {row["line"]: float(np.median(row["seconds"])) for row in run["lines"]}
    rows = []
    for row in run["lines"]:
        same = [peer["line"] for peer in run["lines"] if peer["task"] == row["task"]]
        peer = min((median[name] for name in same if name.startswith("torch-cam")), default=np.nan)
        seconds = median[row["line"]]
        rate = row["passes"] / seconds
        rows.append(
            {
                "line": row["line"],
                "passes": str(row["passes"]),
                "seconds": seconds,
                "spread (%)": f"{100 * (max(row['seconds']) / min(row['seconds']) - 1):.0f}",
                "passes/s": rate,
                "times torch-cam": peer / seconds,
                "% of floor": 100 * rate / run["floors"][row["precision"]],
                "MB above": f"{row['megabytes']:.0f}",
                "largest difference": "–" if row["map_difference"] is None else f"{row['map_difference']:.1e}",
            }
        )
    return pd.DataFrame(rows)


def floor_table(run: Mapping[str, Any]) -> pd.DataFrame:
    """Passes a second of a benchmark's bare network: a row a batch size and precision, uncompiled and compiled."""
    bare = pd.DataFrame(run["bare"]).query("task == 'floor'").astype({"batch": int})
    bare["passes/s"] = bare["passes"] / bare["seconds"].map(np.median)
    modes = bare["compiled"].map({False: "uncompiled", True: "compiled"})
    table = bare.pivot_table("passes/s", ["precision", "batch"], modes, sort=False).reset_index()
    return table.rename(columns={"batch": "passes in a batch"}).rename_axis(columns=None)


def peak_table(run: Mapping[str, Any]) -> pd.DataFrame:
    """Floating point operations a second, in 10^12: of a matrix product, the bare network and our compiled IS-CAM."""
    rows = []
    for row in run["bare"]:
        if row["task"] == "matrix product":
            flop = next(pass_["flop"] for pass_ in run["bare"] if pass_["task"] == "floor")
            peak = row["flop"] * row["passes"] / float(np.median(row["seconds"]))
            rates = {"bare network": run["floors"], "IS-CAM": next(iter(run["rates"].values()))}
            found = {name: flop * rate[row["precision"]] for name, rate in rates.items()}
            shares = {f"{name} (% of it)": 100 * value / peak for name, value in found.items()}
            rows.append({"precision": row["precision"], "matrix product": peak / 1e12} | shares)
    return pd.DataFrame(rows)


def keep(output: str | Path, name: str) -> None:
    """Keep a study's table and provenance as the recorded run `name` in `data/results`.

    Of a study that was not run to its end, the pictures that every network has seen are kept. The command that is kept
    asks for as many drawings; for all of the study's photographs, since fewer would be others. Of a study that was run
    in several goes, all commits and versions are named.
    """
    from iscam.study import read_rows  # here, since that module writes what this one reads

    target, frame = data_folder() / "results", read_rows(output)
    runs = [json.loads(file.read_text()) for file in sorted(Path(output).glob("run-*.json"))]
    whole = runs[-1] | {key: sum(run[key] for run in runs) for key in ("seconds", "pictures_computed")}
    whole["commit"] = listed(run["commit"] for run in runs)
    whole["versions"] = {name: listed(run["versions"].get(name) for run in runs) for name in whole["versions"]}
    networks = frame.groupby("picture")["model"].transform("nunique")
    frame = frame[networks == len(whole["parameters"]["models"])]
    drawn = whole["parameters"]["data"] == "menagerie"  # where fewer pictures are the first of more
    if (count := frame["picture"].nunique()) != whole["parameters"]["count"] and drawn:
        whole["command"] = re.sub(r" --count \d+", "", whole["command"]) + f" --count {count}"
    frame.to_parquet(target / f"{name}.parquet", index=False)
    text = json.dumps(whole, indent=1).replace(str(output), f"results/{name}")
    (target / f"{name}.json").write_text(without_places(text, whole["parameters"]))


def listed(values: Iterable[str | None]) -> str | None:
    """Each of some words once, in their order; None where there is none."""
    return ", ".join(dict.fromkeys(value for value in values if value)) or None


def without_places(text: str, parameters: Mapping[str, Any]) -> str:
    """A provenance that names the pictures, weights and study that were read, not where this machine keeps them."""
    for place in filter(None, [parameters.get("data"), *(parameters.get("weights") or {}).values()]):
        text = text.replace(place, Path(place).name)
    return re.sub(r"\S*/(?=studies/\S+\.yaml)", "", text)


def record(frame: pd.DataFrame, file: str | Path, parameters: Mapping[str, Any], seconds: float, command: str) -> None:
    """Write the table FILE.parquet and its provenance FILE.json of a run that is not a study."""
    from iscam.study import write_whole  # here, since that module writes what this one reads

    target = Path(file)
    made = provenance(parameters, seconds) | {"command": command}  # before the checkout changes by what is written
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target.with_suffix(".parquet"), frame.to_parquet(index=False))
    write_whole(target.with_suffix(".json"), without_places(json.dumps(made, indent=1), parameters).encode())


def begun(file: str | Path, parameters: Mapping[str, Any]) -> tuple[pd.DataFrame, float]:
    """What a run with these parameters has `record`ed in FILE before it was interrupted: its table and its seconds.

    "" is no file, where nothing has begun. Raises `InputError` where the file holds another run.
    """
    if not file or not (target := Path(file).with_suffix(".json")).exists():
        return pd.DataFrame({"model": [], "picture": []}), 0.0
    run = json.loads(target.read_text())
    if run["parameters"] != json.loads(without_places(json.dumps(dict(parameters)), parameters)):
        raise InputError(f"{file} holds a run of {run['command']}: choose another file")
    return pd.read_parquet(target.with_suffix(".parquet")), run["seconds"]


def shown_command(script: str, options: Mapping[str, Any]) -> str:
    """The command line of a script, without the places of this machine and without what is left as it is.

    >>> shown_command("benchmarks/speed.py", {"model": "resnet18", "weights": "none", "data": "menagerie"})
    'python benchmarks/speed.py --model resnet18 --weights none'
    >>> shown_command("benchmarks/nodes.py", {"weights": "/home/me/w.safetensors", "data": "/home/me/ilsvrc"})
    'python benchmarks/nodes.py --weights w.safetensors --data ILSVRC_FOLDER'
    """
    said = {key: value for key, value in options.items() if value not in (None, "default", "menagerie")}
    if "data" in said:
        said["data"] = "ILSVRC_FOLDER"
    if "weights" in said:
        said["weights"] = Path(said["weights"]).name
    return " ".join([f"python {script}", *(f"--{key} {value}" for key, value in said.items())])


def again(run: Mapping[str, Any]) -> str:
    """The command line that makes a recorded study again, on this machine: the engine does not change the rows."""
    return f"iscam {run['command'].partition(' ')[2]}".replace(" --engine ray", "")


def run_line(frame: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """One sentence about a recorded run: what, how many, where, when, and the command that makes it again."""
    study, pairs = run["parameters"], len(frame[["model", "picture"]].drop_duplicates())
    timed = run["pictures_computed"] == pairs  # else some of it was done by a run that was killed
    each = f", {run['seconds'] / pairs:.0f} s for a picture and a network" if timed else ""
    return (
        f"Recorded run: {frame['picture'].nunique()} pictures of {study['data']} (seed {study['seed']}), "
        f"{', '.join(study['models'])}; {run['date'][:10]}, {run['device']}{each}, commit {run['commit']}. "
        f"Run it again with `{again(run)}`."
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
            "right, a part left out that does not decide (%)": 100 * found["top1_without_a_part_that_does_not_decide"],
            "median probability": found["median_probability_at_temperature"]["1.0"],
        }
        for name, found in figures.items()
    )
