"""What the recorded runs say, in sentences and tables, for the introduction and the README."""

from __future__ import annotations

import pandas as pd

from iscam.methods.controls import CONTROLS
from iscam.metrics.directions import LOW_IS_GOOD
from iscam.plots import TITLES
from iscam.reproduction.archive import is_recorded, recorded
from iscam.reproduction.claims import PRIMARY, verdicts
from iscam.reproduction.published import published_table
from iscam.reproduction.tables import drop_increase_bound, format_cell, format_table
from iscam.study.statistics import on_full_image_set, paired, summary

#: The papers' metrics, recorded on drawings as `tables_menagerie` and on photographs as `tables_squeezenet`.
METRICS = ["insertion", "deletion", "average_drop", "average_increase", "energy"]


TRUTH = ["part_correlation", "decisive_part", "mask_energy"]


Runs = dict[str, pd.DataFrame]


def runs() -> Runs:
    """The recorded runs that the findings rest on, those that there are."""
    names = ("ground_truth", "tables_menagerie", "tables_squeezenet")
    return {name: recorded(name)[0] for name in names if is_recorded(name)}


def sentences() -> list[str]:
    """The findings, five at most, in Markdown, every number computed from the recorded runs."""
    found = runs()
    said = [integration(found), truth(found["ground_truth"])]
    if "tables_menagerie" in found:
        said.append(controls(found["tables_menagerie"]))
    if "tables_squeezenet" in found:
        said.append(photographs(found["tables_squeezenet"]))
    return [*said, bound()]


def integration(found: Runs) -> str:
    """Does integrating over the mask help? The comparison named beforehand, and counts of all paired differences."""
    gaps = pd.concat([paired(frame, "is_cam", "score_cam") for frame in found.values()])
    gaps = gaps[gaps["metric"].isin([*METRICS, *TRUTH])]
    lower = gaps["metric"].isin(LOW_IS_GOOD)
    up, down = gaps["low"] > 0, gaps["high"] < 0
    better, worse = int((up & ~lower | down & lower).sum()), int((down & ~lower | up & lower).sum())
    return (
        f"**Does integrating over the mask help?** {primary(found)}Of the {len(gaps)} paired differences between the "
        f"two in the papers' metrics and the ground truth ({gaps['model'].nunique()} networks, "
        f"{gaps['metric'].nunique()} metrics; 95 % intervals, not corrected for their number), IS-CAM is better in "
        f"{better}, Score-CAM in {worse}, and the intervals of the other {len(gaps) - better - worse} hold zero."
    )


def primary(found: Runs) -> str:
    """The comparison that was named before any run: IS-CAM minus Score-CAM in average drop."""
    said = []
    for name, images in (("tables_squeezenet", "photographs"), ("tables_menagerie", "drawings")):
        if name in found:
            rows = verdicts(found[name])
            row = rows[(rows[["method", "other", "metric"]] == PRIMARY[:3]).all(axis=1)].iloc[0]
            text = format_cell(*(100 * row[["mean", "low", "high"]].astype(float)))
            verdict = row["verdict"].replace("opposite", "opposite to the claim")
            said.append(f"{text} points on {row['n']:.0f} {images}, p = {row['p']:.2g} ({verdict})")
    named = "In average drop, the comparison named beforehand, IS-CAM minus Score-CAM is "
    return f"{named}{', and '.join(said)}. " if said else ""


def truth(frame: pd.DataFrame) -> str:
    """How well the maps agree with the importance of the parts, where that is known, and how well they could."""
    means = summary(frame).query("metric == 'part_correlation'").pivot(index="model", columns="method", values="mean")
    methods = ("is_cam", "score_cam", "oracle")
    integrated, plain, best = (", ".join(means[name].map("{:z.2f}".format)) for name in methods)
    return (
        f"**Do the maps tell the truth?** On {frame['image'].nunique()} drawings whose parts' importance is known, "
        f"the rank correlation of map and importance is {integrated} for IS-CAM and {plain} for Score-CAM on "
        f"{', '.join(means.index)}, where a map of that resolution could reach {best}."
    )


def controls(frame: pd.DataFrame) -> str:
    """Whether the papers' metrics tell the methods from maps that know nothing."""
    means = summary(frame).pivot(index=["model", "metric"], columns="method", values="mean")
    means = means.loc[means.index.isin(METRICS, level="metric")]
    signed = means.mul([-1 if metric in LOW_IS_GOOD else 1 for _, metric in means.index], axis=0)
    ignorant = signed[[name for name in CONTROLS if name in signed]].max(axis=1)
    beaten = means.index[ignorant >= signed["is_cam"]].get_level_values("metric").str.replace("_", " ")
    where = " and ".join(f"{count} of {metric}" for metric, count in beaten.value_counts().sort_index().items())
    return (
        f"**Can the metrics tell?** On {frame['image'].nunique()} drawings, a control that knows nothing, a map that "
        f"marks everything or noise, does at least as well as IS-CAM in {len(beaten)} of {len(means)} pairs of "
        f"network and metric{f': {where}' if where else ''}. Where all is marked, the drop is 0 by definition."
    )


def photographs(frame: pd.DataFrame) -> str:
    """The papers' table on photographs, beside what was published."""
    means = summary(frame).set_index(["model", "metric", "method"])["mean"]
    printed = pd.concat([published_table(table) for table in ("table2", "table3")])
    printed = printed.set_index(["model", "metric", "method"])["value"]
    model = frame["model"].iloc[0]
    texts = [
        f"{TITLES[method]}'s {metric.replace('_', ' ')} is {100 * means[model, metric, method]:.1f} % "
        f"(published: {printed[model, metric, method]:.1f} %)"
        for metric in ("average_drop", "energy")  # the paper prints no insertion for this network
        for method in ("score_cam", "is_cam")
    ]
    return (
        f"**Do the published numbers come out?** On {frame['image'].nunique()} photographs, with "
        f"`{model}` in other weights than the paper's, {', '.join(texts)}.{as_coded()}"
    )


def as_coded() -> str:
    """What the authors' own way to measure makes of the energy, where that was recorded."""
    if not is_recorded("audit_squeezenet"):
        return ""
    frame = recorded("audit_squeezenet")[0].query("metric == 'energy' and settings == 'canonical'")
    frame = on_full_image_set(frame)
    means = 100 * frame.groupby(["convention", "method"])["value"].mean()
    named = published_table("table3").query("model == 'squeezenet1_0'")
    named = named[named["method"].isin(frame["method"])]["value"]
    spans = [f"{values.min():.1f} to {values.max():.1f} %" for values in (means["as coded"], means["canonical"], named)]
    return (
        f" Measured as the authors' notebook measures it, the energies of {frame['method'].nunique()} methods are "
        f"{spans[0]} instead of {spans[1]} (published: {spans[2]}), on {frame['image'].nunique()} photographs."
    )


def bound() -> str:
    """How many published pairs of drop and increase break the bound that every pair must keep."""
    pairs = published_table("table2")
    pairs = drop_increase_bound(pairs[pairs["metric"].isin(["average_drop", "average_increase"])])
    broken = pairs[pairs["at most 100"] == "no"]
    return (
        f"**Can they be right?** Average drop and average increase of the same images sum to at most 100 %; "
        f"{len(broken)} of the {len(pairs)} published pairs break this bound, the largest sum being "
        f"{broken['sum (%)'].max():.2f} %."
    )


def tables() -> list[tuple[str, pd.DataFrame]]:
    """The results that the sentences rest on: caption and rows, each cell a mean with its 95 % interval."""
    found = runs()
    means = summary(found["ground_truth"]).query("metric == 'part_correlation'")
    rows = format_table(means, ["part_correlation"])
    order = list(dict.fromkeys(rows["method"]))
    rows = rows.pivot(index="method", columns="model", values="part_correlation").loc[order].reset_index()
    shown = [("Rank correlation with the true importance of the parts, in hundredths", rows.rename_axis(columns=None))]
    if "tables_squeezenet" in found:
        frame = found["tables_squeezenet"]
        rows = format_table(summary(frame), [name for name in METRICS if name in set(frame["metric"])])
        caption = f"{frame['model'].iloc[0]} on {frame['image'].nunique()} photographs, in percent"
        shown.append((caption, rows.drop(columns="model")))
    return shown
