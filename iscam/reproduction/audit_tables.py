"""Tables of the audit of the authors' code, which show the effects of each convention and each setting."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

import iscam
from iscam.reproduction import as_coded
from iscam.reproduction.audit import per_map
from iscam.reproduction.names import column_heading
from iscam.reproduction.tables import KEYS, NOT_RUN, Estimate, by_metric, estimates
from iscam.study.statistics import on_full_image_set, summary

#: The difference of each coded convention of a metric from the canonical convention.
CONVENTIONS = {
    ("insertion", "as coded"): "first point 0",
    ("average_drop", "as coded"): "masked image's class",
    ("average_increase", "as coded"): "masked image's class",
    ("energy", "mask only"): "thresholded map, right box",
    ("energy", "box only"): "map itself, coded box",
    ("energy", "as coded"): "thresholded map, coded box",
}

#: The settings of the methods and the convention of the metrics of each variant beside the published cells.
VARIANTS = {
    "canonical": ("canonical", "canonical"),
    "metrics as coded": ("canonical", "as coded"),
    "methods as coded": ("as coded", "canonical"),
    "both as coded": ("as coded", "as coded"),
}

CLASSES = {"canonical": "explained class", "as coded": "masked image's class"}


# ------------------------------------------------------------------------------------------------------ conventions


def largest_sums(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the largest drop + increase of any map, for both choices of the class. The upper bound is 1."""
    maps = per_map(frame)
    sums = (maps["average_drop"] + maps["average_increase"]).dropna()
    table = sums.groupby(["model", "convention"]).max().rename("largest sum").reset_index()
    return table.assign(**{"class": table["convention"].map(CLASSES)})[["model", "class", "largest sum"]]


def class_rule_holds(frame: pd.DataFrame) -> bool:
    """Return True if the coded class never raises the drop and never lowers the increase of a map."""
    maps = per_map(frame)
    canonical, coded = (maps.xs(name, level="convention") for name in CLASSES)
    lower = (coded["average_drop"] <= canonical["average_drop"] + 1e-6).all()
    return bool(lower and (coded["average_increase"] >= canonical["average_increase"]).all())


def class_changes(frame: pd.DataFrame) -> pd.Series:
    """Return the share of the maps of each network that change the predicted class, with canonical settings."""
    confidence = per_map(frame).xs("canonical", level="settings")["Y"].unstack()
    return (confidence["as coded"] != confidence["canonical"]).groupby("model").mean()


def coded_drop(frame: pd.DataFrame, models: Sequence[str]) -> float:
    """Return the mean drop in percent of the coded class, with canonical settings."""
    maps = per_map(frame[frame["model"].isin(models)]).xs("canonical", level="settings")
    return float(100 * maps["average_drop"].unstack()["as coded"].mean())


def convention_effects(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the change due to each coded convention in percent, with one row per network and convention.

    The maps have canonical settings. The values are averaged over the methods that ran on all images. The change is
    paired by image.
    """
    canonical = on_full_image_set(frame[frame["settings"] == "canonical"])
    mean = canonical.groupby(["model", "metric", "convention", "image"])["value"].mean().reset_index()
    mean = mean.rename(columns={"convention": "method"})
    rows = pd.concat([convention_effect(mean, *key) for key in CONVENTIONS])
    return rows.sort_values("model", kind="stable", ignore_index=True)


def convention_effect(mean: pd.DataFrame, metric: str, convention: str) -> pd.DataFrame:
    one = mean[mean["metric"] == metric]
    levels = 100 * one.groupby(["model", "method"])["value"].mean().unstack()
    change = iscam.paired(one, convention, "canonical").set_index("model")
    return pd.DataFrame(
        {
            "model": change.index,
            "metric": column_heading(metric),
            "convention": CONVENTIONS[metric, convention],
            "canonical": levels["canonical"][change.index].to_numpy(),
            "with it": levels[convention][change.index].to_numpy(),
            "change": estimates(change),
        }
    )


def setting_effects(frame: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the difference of coded minus canonical settings with the canonical metrics, paired by image.

    The frame is empty if no method has coded settings.
    """
    rows = frame[(frame["convention"] == "canonical") & frame["metric"].isin(metrics)]
    gaps = [
        iscam.paired(of_method.assign(method=of_method["settings"]), "as coded", "canonical").assign(method=method)
        for method, of_method in rows[rows["method"].isin(as_coded.METHODS)].groupby("method", sort=False)
    ]
    return by_metric(pd.concat(gaps), metrics) if gaps else pd.DataFrame()


def win_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return IS-CAM's wins in percent, with canonical settings, under both conventions."""
    won = frame[frame["metric"].str.startswith("win:") & (frame["settings"] == "canonical")]
    table = 100 * won.pivot_table(index=["model", "metric"], columns="convention", values="value")
    table = table.reindex(columns=["canonical", "as coded"]).rename_axis(columns=None).reset_index()
    return table.assign(metric=table["metric"].map(column_heading))


def energy_ranges(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the largest minus the smallest mean energy of the methods that ran on all images, in percentage points.

    The frame has one row per network and the columns canonical, as coded (one per convention), and methods (their
    number).
    """
    rows = frame[(frame["metric"] == "energy") & (frame["settings"] == "canonical")]
    rows = on_full_image_set(rows)
    means = 100 * rows.groupby(["model", "convention", "method"])["value"].mean()
    ranges = means.groupby(level=[0, 1]).agg(lambda values: values.max() - values.min()).unstack()
    return ranges[[*CLASSES]].assign(methods=rows.groupby("model")["method"].nunique())


# -------------------------------------------------------------------------------------------------- published cells


def variant(cells: pd.DataFrame, frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return our mean, low and high in percent for each published cell, under one of the `VARIANTS`.

    The values are NaN if the variant was not run.
    """
    settings, convention = VARIANTS[name]
    rows = frame[(frame["settings"] == settings) & (frame["convention"] == convention)]
    means = summary(rows) if len(rows) else pd.DataFrame(columns=[*KEYS, "mean", "low", "high"])
    found = cells[KEYS].merge(means, how="left", on=KEYS)
    return 100 * found[["mean", "low", "high"]].astype(float).set_index(cells.index)


def published_beside_variants(cells: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the published cells beside our values under each of the `VARIANTS`."""
    table = cells[[*KEYS, "value"]].rename(columns={"value": "published"})
    for name in VARIANTS:
        values = variant(cells, frame, name)
        table[name] = [NOT_RUN if np.isnan(row[0]) else Estimate(*row) for row in values.to_numpy()]
    table = table.assign(metric=table["metric"].map(column_heading)).rename(columns={"metric": "quantity"})
    return table.drop(columns="model") if table["model"].nunique() == 1 else table


def distances(cells: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean distance of our values from the published cells and the number of cells in our intervals.

    The distance is in percentage points. Only methods that ran on all images count. The table has one row per metric
    and one column for each of the `VARIANTS`.
    """
    complete = on_full_image_set(frame)[["model", "method"]].drop_duplicates()
    groups = cells.merge(complete, on=["model", "method"]).groupby("metric", sort=False)
    table = pd.DataFrame({name: {m: distance(rows, frame, name) for m, rows in groups} for name in VARIANTS})
    return table.rename(index=column_heading).rename_axis("metric").reset_index()


def distance(cells: pd.DataFrame, frame: pd.DataFrame, name: str) -> str:
    found = variant(cells, frame, name)
    inside = cells["value"].between(found["low"], found["high"]).sum()
    return f"{(found['mean'] - cells['value']).abs().mean():.2f} ({inside} of {len(cells)})"


def drop_factors(bound: pd.DataFrame, cells: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the factor by which each published drop exceeds its bound, and the mean drop measured as coded.

    `bound` holds rows of `as_coded.bound`, and `cells` holds the published drops.
    """
    drops = cells[cells["metric"] == "average_drop"].reset_index(drop=True)
    measured = drops[["model", "method"]].assign(measured=variant(drops, frame, "both as coded")["mean"])
    images = frame.groupby(["model", "method"])["image"].nunique().rename("images").reset_index()
    table = bound.merge(measured, on=["model", "method"]).merge(images, how="left", on=["model", "method"])
    shown = pd.DataFrame(
        {
            "model": table["model"],
            "method": table["method"],
            "published (%)": table["drop"],
            "factor, at least": table["factor"],
            "images": table["images"].where(table["measured"].notna()).map("{:.0f}".format, na_action="ignore"),
            "as coded, mean (%)": table["measured"],
            "factor measured": table["drop"] / table["measured"],
            f"mean if a sum over {as_coded.SLICE} (%)": table["drop"] / as_coded.SLICE,
        }
    )
    return shown.dropna(axis="columns", how="all")


# ------------------------------------------------------------------------------------------------- without a network


def blind_shares(data: str, count: int, seed: int) -> pd.DataFrame:
    """Compute the share of the map inside the box for maps that ignore the image: a uniform map and centred discs.

    Returns a frame with the columns model ("box as coded" or "object's box"), image, method (the map), metric and
    value.
    """
    dataset, sizes = iscam.load_images(data, count, seed), as_coded.original_sizes(data)
    originals = [as_coded.original_boxes(entry, sizes) for entry in dataset.entries]
    boxes = [(original, as_coded.cropped_boxes(original, size)) for original, size in originals if len(original)]
    rows = []
    for name, radius in {"uniform": None, "disc, r = 100": 100, "disc, r = 80": 80, "disc, r = 60": 60}.items():
        saliency_map = as_coded.disc(radius)
        marked = as_coded.marked(saliency_map)
        for number, (original, cropped) in enumerate(boxes):
            coded = as_coded.share(marked, as_coded.swapped_box(original[0], 224, 224))
            right = float(iscam.energy(saliency_map[None], [cropped]))
            rows += [("box as coded", number, name, coded), ("object's box", number, name, right)]
    return pd.DataFrame(rows, columns=["model", "image", "method", "value"]).assign(metric="energy")


def blind_table(shares: pd.DataFrame) -> pd.DataFrame:
    """Return the mean share inside each box, with one row per map."""
    means = summary(shares)
    table = means.assign(cell=estimates(means)).pivot(index="method", columns="model", values="cell")
    table = table.loc[shares["method"].unique(), shares["model"].unique()]
    return table.rename_axis(columns=None).rename_axis("map").reset_index()


def readings_table(steps: int) -> pd.DataFrame:
    """Return the factors t_i of each reading of equation 7 and the number of factors in [0, 1]."""
    rows = []
    for name, t in as_coded.readings(steps).items():
        row = {"reading": name, "t_i": ", ".join(f"{x:.2g}" for x in t), "largest": max(t)}
        for n in sorted({steps, 10, 15}):
            factors = as_coded.readings(n)[name]
            row[f"in [0, 1], N = {n}"] = f"{sum(x <= 1 for x in factors)} of {len(factors)}"
        rows.append(row)
    return pd.DataFrame(rows)
