"""The findings of the recorded runs, as sentences for the introduction and the README."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from iscam.methods import CONTROLS
from iscam.reproduction.archive import is_recorded, recorded
from iscam.reproduction.claims import PRIMARY, verdicts
from iscam.reproduction.names import lower_is_better, method_title
from iscam.reproduction.published import published_table
from iscam.reproduction.tables import Estimate, by_metric, by_network, drop_increase_bound, estimates
from iscam.study.statistics import on_full_image_set, paired, summary

#: The papers' metrics.
METRICS = ("insertion", "deletion", "average_drop", "average_increase", "energy")

#: The metrics that compare a map with the true importance of parts.
TRUTH = ("part_correlation", "decisive_part", "mask_energy")

#: The kind of the images of each recorded run.
IMAGES = {"tables_squeezenet": "photographs", "tables_menagerie": "drawings"}

Runs = Mapping[str, pd.DataFrame]


def runs() -> Runs:
    """Return the existing recorded runs that the findings use."""
    return {name: recorded(name)[0] for name in IMAGES if is_recorded(name)}


def sentences() -> list[str]:
    """Return at most five findings in Markdown. Every number comes from the recorded runs."""
    found = runs()
    drawings = found["tables_menagerie"]
    findings = [integration(found), truth(drawings), controls(drawings)]
    if "tables_squeezenet" in found:
        findings.append(photographs(found["tables_squeezenet"]))
    return [*findings, bound()]


def integration(found: Runs) -> str:
    """Compare IS-CAM with Score-CAM: the result of the primary comparison, and counts of all paired differences."""
    gaps, better, worse = differences(found)
    return (
        f"**Does integrating over the mask help?** {primary(found)}There are {len(gaps)} paired comparisons of the two "
        f"methods with the papers' metrics and the ground truth ({gaps['model'].nunique()} networks, "
        f"{gaps['metric'].nunique()} metrics; 95 % intervals, not corrected for multiple comparisons). IS-CAM is "
        f"better in {better}, and Score-CAM is better in {worse}; the other {len(gaps) - better - worse} intervals "
        f"contain zero."
    )


def differences(found: Runs) -> tuple[pd.DataFrame, int, int]:
    """Return the paired differences between IS-CAM and Score-CAM, and in how many IS-CAM is better and worse."""
    gaps = pd.concat([paired(frame, "is_cam", "score_cam") for frame in found.values()])
    gaps = gaps[gaps["metric"].isin([*METRICS, *TRUTH])]
    lower = gaps["metric"].map(lower_is_better)
    positive, negative = gaps["low"] > 0, gaps["high"] < 0
    better = int((positive & ~lower | negative & lower).sum())
    worse = int((negative & ~lower | positive & lower).sum())
    return gaps, better, worse


def primary(found: Runs) -> str:
    """Describe the result of the primary comparison, IS-CAM minus Score-CAM in average drop."""
    results = [primary_result(found[name], images) for name, images in IMAGES.items() if name in found]
    start = "The primary comparison, chosen in advance, is that of average drop: IS-CAM minus Score-CAM is "
    return f"{start}{', and '.join(results)}. " if results else ""


def primary_result(frame: pd.DataFrame, images: str) -> str:
    row, difference = primary_row(frame)
    verdict = row["verdict"].replace("opposite", "opposite to the claim")
    return f"{difference} points on {row['n']:.0f} {images}, p = {row['p']:.2g} ({verdict})"


def primary_row(frame: pd.DataFrame) -> tuple[pd.Series, Estimate]:
    """Return the row of the primary comparison in `verdicts`, and the difference in percentage points."""
    rows = verdicts(frame)
    rows = rows[(rows[["method", "other", "metric"]] == PRIMARY[:3]).all(axis=1)].head(1)
    return rows.iloc[0], estimates(rows)[0]


def truth(frame: pd.DataFrame) -> str:
    """Describe how well the maps agree with the true importance of the parts, and how well the oracle agrees."""
    means = part_correlations(frame)
    methods = ("is_cam", "score_cam", "oracle")
    integrated, plain, best = (", ".join(means[name].map("{:z.2f}".format)) for name in methods)
    return (
        f"**Do the maps agree with the ground truth?** On {frame['image'].nunique()} drawings with known importance "
        f"of the parts, the mean rank correlation between map and importance is {integrated} for IS-CAM and {plain} "
        f"for Score-CAM on {', '.join(means.index)}. An oracle, the best map at this resolution, reaches {best}."
    )


def part_correlations(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the mean rank correlation with the true importance, with a row per network and a column per method."""
    return summary(frame).query("metric == 'part_correlation'").pivot(index="model", columns="method", values="mean")


def controls(frame: pd.DataFrame) -> str:
    """Count the pairs of network and metric in which a network-independent control does as well as IS-CAM."""
    pairs = controls_as_good(frame)
    where = counts_by_metric(pairs)
    return (
        f"**Do the metrics distinguish methods from controls?** On {frame['image'].nunique()} drawings, a "
        f"network-independent control (a map that marks everything, or noise) does at least as well as IS-CAM in "
        f"{pairs.sum()} of {len(pairs)} pairs of network and metric{f': {where}' if where else ''}. A map that marks "
        f"everything has a drop of 0 by definition."
    )


def counts_by_metric(pairs: pd.Series) -> str:
    """Describe the True values of `controls_as_good`, such as "3 of average drop and 1 of energy"."""
    names = pairs.index[pairs].get_level_values("metric").str.replace("_", " ")
    return " and ".join(f"{count} of {metric}" for metric, count in names.value_counts().sort_index().items())


def controls_as_good(frame: pd.DataFrame) -> pd.Series:
    """Return True for each pair of network and metric in which a control is at least as good as IS-CAM."""
    means = summary(frame).pivot(index=["model", "metric"], columns="method", values="mean")
    means = means.loc[means.index.isin(METRICS, level="metric")]
    signs = [-1 if lower_is_better(metric) else 1 for _, metric in means.index]
    goodness = means.mul(signs, axis=0)
    control = goodness[[name for name in CONTROLS if name in goodness]].max(axis=1)
    return control >= goodness["is_cam"]


def photographs(frame: pd.DataFrame) -> str:
    """Describe our values on photographs beside the published values."""
    means = summary(frame).set_index(["model", "metric", "method"])["mean"]
    printed = pd.concat([published_table(table) for table in ("table2", "table3")])
    printed = printed.set_index(["model", "metric", "method"])["value"]
    model = frame["model"].iloc[0]
    texts = [
        f"{method_title(method)}'s {metric.replace('_', ' ')} is {100 * means[model, metric, method]:.1f} % "
        f"(published: {printed[model, metric, method]:.1f} %)"
        for metric in ("average_drop", "energy")  # the paper has no insertion for this network
        for method in ("score_cam", "is_cam")
    ]
    return (
        f"**Are the published numbers reproduced?** On {frame['image'].nunique()} photographs, with `{model}` and "
        f"weights that differ from the paper's, {', '.join(texts)}.{energy_as_coded()}"
    )


def energy_as_coded() -> str:
    """Describe the energies measured as in the authors' notebook, or return "" if they are not recorded."""
    if not is_recorded("audit_squeezenet"):
        return ""
    frame = recorded("audit_squeezenet")[0].query("metric == 'energy' and settings == 'canonical'")
    frame = on_full_image_set(frame)
    means = 100 * frame.groupby(["convention", "method"])["value"].mean()
    printed = published_table("table3").query("model == 'squeezenet1_0'")
    printed = printed[printed["method"].isin(frame["method"])]["value"]
    ranges = (means["as coded"], means["canonical"], printed)
    coded, canonical, published = (f"{values.min():.1f} to {values.max():.1f} %" for values in ranges)
    return (
        f" Measured as in the authors' notebook, the energies of {frame['method'].nunique()} methods are {coded} "
        f"instead of {canonical} (published: {published}), on {frame['image'].nunique()} photographs."
    )


def bound() -> str:
    """Describe how many published pairs of drop and increase exceed the bound on their sum."""
    pairs = published_bound()
    broken = pairs[pairs["at most 100"] == "no"]
    return (
        f"**Are the published numbers possible?** The sum of average drop and average increase over the same images is "
        f"at most 100 %. For {len(broken)} of the {len(pairs)} published pairs, the sum exceeds this bound; the "
        f"largest sum is {broken['sum (%)'].max():.2f} %."
    )


def published_bound() -> pd.DataFrame:
    """Return the published pairs of average drop and average increase, and whether their sum is at most 100 %."""
    pairs = published_table("table2")
    return drop_increase_bound(pairs[pairs["metric"].isin(["average_drop", "average_increase"])])


def tables() -> list[tuple[str, pd.DataFrame]]:
    """Return the results behind the sentences: captions, and tables of means with 95 % intervals."""
    found = runs()
    rows = by_network(summary(found["tables_menagerie"]), "part_correlation", scale=1)
    shown = [("Rank correlation with the true importance of the parts", rows)]
    if "tables_squeezenet" in found:
        frame = found["tables_squeezenet"]
        rows = by_metric(summary(frame), [name for name in METRICS if name in set(frame["metric"])])
        caption = f"{frame['model'].iloc[0]} on {frame['image'].nunique()} photographs, in percent"
        shown.append((caption, rows.drop(columns="model")))
    return shown
