"""Means, bootstrap intervals, paired differences and tests."""

from __future__ import annotations

import numpy as np
import pandas as pd

from iscam.validation import unknown_choice

RESAMPLES = 2000


#: Random sign flips of the permutation test: the smallest p-value is 1 / (FLIPS + 1).
FLIPS = 9999


def summary(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean of each model, method and metric with a 95 % bootstrap interval over images.

    `frame` as `run_study` returns it. Returns rows model, method, metric, mean, low, high (fractions), n (images that
    count) and failed (those left out, NaN).
    """
    keys = ["model", "method", "metric"]
    return frame.groupby(keys, sort=False)["value"].apply(interval, seed=seed).unstack().reset_index()


def on_full_image_set(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of each network's methods that saw as many images as any, so that means are of the same ones."""
    images = frame.groupby(["model", "method"])["image"].transform("nunique")
    return frame[images == images.groupby(frame["model"]).transform("max")]


def interval(values: pd.Series, seed: int = 0) -> pd.Series:
    """Mean, 95 % percentile bootstrap interval (NaN for one value), number of values and of NaN among them."""
    known = values.dropna().to_numpy(dtype=float)
    low, high = np.quantile(bootstrap_means(known, seed), [0.025, 0.975]) if len(known) > 1 else (np.nan, np.nan)
    mean = known.mean() if len(known) else np.nan
    return pd.Series({"mean": mean, "low": low, "high": high, "n": len(known), "failed": len(values) - len(known)})


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of resamples with replacement, (resamples,); the same images are drawn for the same number of values."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(values), size=(rows, len(values))) for rows in blocks(RESAMPLES, len(values)))
    return np.concatenate([values[draw].mean(1) for draw in draws])


def blocks(rows: int, columns: int) -> list[int]:
    """`rows` in portions of about a million numbers, so that memory does not grow with the number of images."""
    portion = max(1, 1_000_000 // columns)
    return [min(portion, rows - done) for done in range(0, rows, portion)]


def sign_flip_test(differences: np.ndarray, seed: int = 0) -> float:
    r"""Two-sided p-value of a mean paired difference, by flipping the sign of each image's difference at random.

    p = (1 + #{|mean of flipped| >= |mean|}) / (FLIPS + 1): exact where neither method is better than the other, since
    exchanging them then changes nothing. NaN for fewer than two images.

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


def merge_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """One line for the seeds of a noisy method, "NAME", "NAME seed 1", ...: an image's value is their mean."""
    merged = frame.assign(method=frame["method"].str.replace(r" seed \d+$", "", regex=True))
    return merged.groupby(["model", "image", "method", "metric"], sort=False, as_index=False)["value"].mean()


def seed_spread(frame: pd.DataFrame) -> pd.DataFrame:
    """How far the seeds of a noisy method lie apart: model, method, metric, seeds, and spread of their means."""
    several = frame["method"].str.replace(r" seed \d+$", "", regex=True)
    means = frame.assign(base=several).groupby(["model", "base", "metric", "method"], sort=False)["value"].mean()
    spread = means.groupby(level=[0, 1, 2], sort=False).agg(seeds="size", spread=lambda x: x.max() - x.min())
    return spread[spread["seeds"] > 1].reset_index().rename(columns={"base": "method"})


def wins(frame: pd.DataFrame, method: str = "is_cam") -> pd.DataFrame:
    """Share of images where `method` keeps more of the class probability than each other method, and of ties.

    Rows as in `summary`, "method" being the other one and "metric" win or tie; `frame` holds explained_confidence.
    """
    kept = frame[frame["metric"] == "explained_confidence"]
    kept = kept.pivot(index=["model", "image"], columns="method", values="value")
    rows = []
    for other in kept.columns.drop(method):
        known = kept[[method, other]].notna().all(axis=1)
        for name, share in {"win": kept[method] > kept[other], "tie": kept[method] == kept[other]}.items():
            values = share.astype(float).where(known).rename("value").reset_index()
            rows.append(values.assign(method=other, metric=name))
    return summary(merge_seeds(pd.concat(rows)))


def paired(frame: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Mean difference `method` - `other` of each model and metric, with a 95 % bootstrap interval over paired images.

    Rows as in `summary`; an image counts where both values are known.
    """
    return summary(differences(frame, method, other))


def differences(frame: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Each image's difference `method` - `other`; columns model, metric, image, method, value."""
    wide = frame.pivot(index=["model", "metric", "image"], columns="method", values="value")
    for name in (method, other):
        if name not in wide:
            raise unknown_choice("method", name, wide.columns)
    return (wide[method] - wide[other]).rename("value").reset_index().assign(method=f"{method} - {other}")


def mean_over_models(frame: pd.DataFrame) -> pd.DataFrame:
    """Each image's mean over the networks, so that images are the units, however many networks saw them.

    It is NaN where one of the networks has no value: a mean over fewer networks is another quantity.
    """
    n = frame["model"].nunique()
    values = frame.groupby(["image", "method", "metric"], sort=False)["value"].sum(min_count=n) / n
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
    return summary(mean_over_models(pd.concat(rows)))


def versus(frame: pd.DataFrame, method: str, together: bool = False) -> pd.DataFrame:
    """Mean paired difference of `method` minus each other method of the frame; rows as in `summary`.

    `together`: an image's difference is the mean over the networks.
    """
    others = [name for name in frame["method"].unique() if name != method]
    rows = pd.concat([differences(frame, method, other).assign(method=other) for other in others])
    return summary(mean_over_models(rows) if together else rows).sort_values("model", kind="stable", ignore_index=True)
