"""The findings of the recorded runs in five short lines, for the README."""

from __future__ import annotations

from iscam.methods import METHODS
from iscam.reproduction.findings import (
    IMAGES,
    Runs,
    controls_as_good,
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
        f"**Benefit.** IS-CAM takes {steps} times the forward passes of Score-CAM. Of {len(gaps)} paired differences, "
        f"it is better in {better} and worse in {worse}; the other intervals contain zero."
    )


def average_drop(found: Runs) -> str:
    parts = []
    for name, images in IMAGES.items():
        row, points = primary_row(found[name])
        parts.append(f"{points.mean:z.1f} points ({points.low:z.1f} to {points.high:z.1f}) on {row['n']:.0f} {images}")
    return f"**Average drop.** IS-CAM's drop minus Score-CAM's is {' and '.join(parts)}; smaller is better."


def importance(found: Runs) -> str:
    means = part_correlations(found["ground_truth"])
    integrated, plain = (", ".join(means[name].map("{:z.2f}".format)) for name in ("is_cam", "score_cam"))
    return (
        f"**True importance.** The rank correlation of a map with the true importance of parts is {integrated} for "
        f"IS-CAM and {plain} for Score-CAM on {len(means)} networks."
    )


def metrics(found: Runs) -> str:
    pairs = controls_as_good(found["tables_menagerie"])
    return (
        f"**Metrics.** A map that ignores the network does at least as well as IS-CAM in {pairs.sum()} of {len(pairs)} "
        f"pairs of network and metric."
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
        f"**Published numbers.** {broken} of {len(pairs)} pairs of drop and increase exceed their bound of 100 %. "
        f"Score-CAM's drop on {frame['image'].nunique()} photographs is {100 * measured:.1f} %, with other weights "
        f"than the paper's (published: {printed:.1f} %)."
    )
