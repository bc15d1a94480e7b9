"""The papers' claims as comparisons, and the verdicts of a study on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from iscam.metrics.directions import LOW_IS_GOOD
from iscam.study.statistics import holm, interval, merge_seeds, sign_flip_test


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


def verdicts(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Each comparison of each of the papers' `CLAIMS`, and whether it holds in this study.

    `frame` as `run_study` gives it. What is compared is an image's difference, the mean over the networks and the
    seeds of noisy methods, so that images are the only units. Returns rows claim, method, other, metric, mean, low,
    high (of the difference, 95 % bootstrap), n, p (sign flips; Holm-corrected over all comparisons but `PRIMARY`,
    however few of them are then shown) and verdict: "holds", "opposite", or "no difference shown" where p >= 5 %.
    Comparisons of methods or metrics that the frame lacks are left out.
    """
    wide = merge_seeds(frame).pivot(index=["model", "image"], columns=["metric", "method"], values="value")
    found = {}
    for comparison in dict.fromkeys(each for comparisons in CLAIMS.values() for each in comparisons):
        a, b = ((comparison.metric, method) for method in comparison[:2])
        networks = wide.index.get_level_values("model").str.contains(comparison.networks, regex=False)
        if a in wide and b in wide and networks.any():
            difference = (wide[a] - wide[b])[networks].groupby("image").mean()
            known = difference.dropna().to_numpy()
            found[comparison] = interval(difference, seed).to_dict() | {"p": sign_flip_test(known, seed)}
    others = [comparison for comparison in found if comparison != PRIMARY]
    for comparison, p in zip(others, holm(np.array([found[each]["p"] for each in others])), strict=True):
        found[comparison]["p"] = p
    rows = [
        {"claim": claim}
        | comparison._asdict()
        | found[comparison]
        | {"verdict": verdict(comparison, found[comparison])}
        for claim, comparisons in CLAIMS.items()
        for comparison in comparisons
        if comparison in found
    ]
    columns = ["claim", *Comparison._fields, "mean", "low", "high", "n", "failed", "p", "verdict"]
    return pd.DataFrame(rows, columns=columns).drop(columns="networks")


def verdict(comparison: Comparison, found: Mapping[str, float]) -> str:
    """What a tested comparison says about its claim."""
    if np.isnan(found["p"]):
        return "not tested"
    if found["p"] >= 0.05:
        return "no difference shown"
    return "holds" if (found["mean"] < 0) == (comparison.metric in LOW_IS_GOOD) else "opposite"


def summarise(rows: pd.DataFrame) -> str:
    """A line a claim: in how many of its comparisons it holds; `rows` as `verdicts` gives them."""
    lines = []
    for claim, verdict in rows.groupby("claim", sort=False)["verdict"]:
        counts = ", ".join(f"{word} in {count}" for word, count in verdict.value_counts().items())
        lines.append(f"- *{claim}*: of {len(verdict)} comparison{'s' * (len(verdict) > 1)}, {counts}")
    return "\n".join(lines)
