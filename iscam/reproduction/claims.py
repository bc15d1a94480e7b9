"""The papers' claims as comparisons of methods, and the verdicts of a study on these claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from iscam.reproduction.names import lower_is_better
from iscam.study.statistics import holm, interval, merge_seeds, sign_flip_test


class Comparison(NamedTuple):
    """The statement that `method` has a better `metric` than `other` on networks whose name contains `networks`."""

    method: str
    other: str
    metric: str
    networks: str = ""


#: The primary comparison, which was chosen before any run was recorded. Table II reports the average drop, and the
#: paper says that Score-CAM fails in this table and IS-CAM does not. Its p-value is not corrected. All other p-values
#: are corrected with Holm's method.
PRIMARY = Comparison("is_cam", "score_cam", "average_drop")

#: The comparisons for each claim of the IS-CAM paper or its poster.
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

#: Significance level of a verdict.
LEVEL = 0.05

COLUMNS = ["claim", "method", "other", "metric", "mean", "low", "high", "n", "failed", "p", "verdict"]


def verdicts(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Test every comparison of the papers' `CLAIMS` on a study.

    `frame` is the table of `run_study`. The tests have one difference per image, which is averaged over the networks
    and over the seeds of noisy methods. Comparisons of methods or metrics that are not in `frame` are left out.

    Returns a frame with the columns claim, method, other, metric, mean, low, high (the difference with a 95 % bootstrap
    interval), n, failed (number of images without a value), p (sign-flip test, corrected with Holm's method for all
    comparisons except `PRIMARY`) and verdict: "holds", "opposite", "no difference shown" (p >= 5 %) or "not tested"
    (fewer than 2 images).
    """
    tests = corrected(
        {each: difference_test(each, frame, seed) for each in distinct_comparisons() if is_in(each, frame)}
    )
    rows = [
        {"claim": claim, **comparison._asdict(), **tests[comparison], "verdict": verdict(comparison, tests[comparison])}
        for claim, comparisons in CLAIMS.items()
        for comparison in comparisons
        if comparison in tests
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def distinct_comparisons() -> list[Comparison]:
    """Return the distinct comparisons of the claims."""
    return list(dict.fromkeys(each for comparisons in CLAIMS.values() for each in comparisons))


def is_in(comparison: Comparison, frame: pd.DataFrame) -> bool:
    """Return True if the study has both methods and the metric on a network of the comparison."""
    rows = frame[frame["model"].str.contains(comparison.networks, regex=False)]
    methods = set(rows.loc[rows["metric"] == comparison.metric, "method"])
    return {comparison.method, comparison.other} <= methods


def difference_test(comparison: Comparison, frame: pd.DataFrame, seed: int) -> dict[str, float]:
    """Compute the interval and the uncorrected p-value of the difference between the two methods."""
    rows = frame[frame["model"].str.contains(comparison.networks, regex=False)]
    rows = merge_seeds(rows[rows["metric"] == comparison.metric])
    values = rows.pivot(index=["model", "image"], columns="method", values="value")
    difference = (values[comparison.method] - values[comparison.other]).groupby("image").mean()
    p = sign_flip_test(difference.dropna().to_numpy(), seed)
    return {**interval(difference, seed).to_dict(), "p": p}


def corrected(tests: dict[Comparison, dict[str, float]]) -> dict[Comparison, dict[str, float]]:
    """Return the tests, with the p-values of all comparisons except `PRIMARY` corrected with Holm's method."""
    others = [comparison for comparison in tests if comparison != PRIMARY]
    p = holm(np.array([tests[comparison]["p"] for comparison in others]))
    return tests | {each: tests[each] | {"p": float(value)} for each, value in zip(others, p, strict=True)}


def verdict(comparison: Comparison, test: Mapping[str, float]) -> str:
    """Return the verdict of a test on a comparison."""
    if np.isnan(test["p"]):
        return "not tested"
    if test["p"] >= LEVEL:
        return "no difference shown"
    return "holds" if (test["mean"] < 0) == lower_is_better(comparison.metric) else "opposite"


def summarise(rows: pd.DataFrame) -> str:
    """Return a Markdown list with the number of each verdict, one item per claim. `rows` are those of `verdicts`."""
    lines = []
    for claim, found in rows.groupby("claim", sort=False)["verdict"]:
        counts = ", ".join(f"{verdict} in {count}" for verdict, count in found.value_counts().items())
        lines.append(f"- *{claim}*: of {len(found)} comparison{'s' * (len(found) > 1)}, {counts}")
    return "\n".join(lines)
