"""The findings of the recorded runs in five short items, for the README."""

from __future__ import annotations

from iscam.methods import METHODS
from iscam.reproduction.findings import (
    IMAGES,
    Runs,
    controls_as_good,
    counts_by_metric,
    differences,
    part_correlations,
    primary_row,
    published_bound,
    runs,
)
from iscam.reproduction.published import published_table
from iscam.study.statistics import summary


def headlines() -> list[str]:
    """Five findings in Markdown, one line each. Every number comes from the recorded runs."""
    found = runs()
    return [benefit(found), average_drop(found), importance(found), metrics(found), published(found)]


def benefit(found: Runs) -> str:
    gaps, better, worse = differences(found)
    steps = METHODS["is_cam"].options().steps
    return (
        f"**Benefit.** IS-CAM needs {steps} times as many forward passes as Score-CAM. In {len(gaps)} paired "
        f"comparisons, IS-CAM is better in {better} and worse in {worse}; the intervals of the other "
        f"{len(gaps) - better - worse} contain zero."
    )


def average_drop(found: Runs) -> str:
    parts = []
    for name, images in IMAGES.items():
        row, points = primary_row(found[name])
        parts.append(f"{points.mean:z.1f} points ({points.low:z.1f} to {points.high:z.1f}) on {row['n']:.0f} {images}")
    return f"**Average drop.** IS-CAM's average drop minus Score-CAM's is {' and '.join(parts)}; lower is better."


def importance(found: Runs) -> str:
    means = part_correlations(found["tables_menagerie"])
    integrated, plain = (
        " and ".join(", ".join(means[name].map("{:z.2f}".format)).rsplit(", ", 1)) for name in ("is_cam", "score_cam")
    )
    return (
        f"**True importance.** On {len(means)} networks, the mean rank correlation between a map and the true "
        f"importance of the parts is {integrated} for IS-CAM, and {plain} for Score-CAM."
    )


def metrics(found: Runs) -> str:
    pairs = controls_as_good(found["tables_menagerie"])
    where = counts_by_metric(pairs)
    return (
        f"**Metrics.** In {pairs.sum()} of {len(pairs)} pairs of network and metric, a map that ignores the network "
        f"does at least as well as IS-CAM{f': {where}' if where else ''}."
    )


def published(found: Runs) -> str:
    pairs, frame = published_bound(), found["tables_squeezenet"]
    broken = (pairs["at most 100"] == "no").sum()
    cell = (frame["model"].iloc[0], "average_drop", "score_cam")
    printed, measured = (
        table.set_index(["model", "metric", "method"])[column][cell]
        for table, column in ((published_table("table2"), "value"), (summary(frame), "mean"))
    )
    return (
        f"**Published numbers.** For {broken} of the {len(pairs)} published combinations of network and method, "
        f"average drop plus average increase exceeds its upper bound of 100 %. Score-CAM's average drop on "
        f"{frame['image'].nunique()} photographs is {100 * measured:.1f} % (published: {printed:.1f} %, with different "
        f"weights)."
    )
