"""Statistics over images: means with bootstrap intervals, paired differences, sign-flip tests and Holm's correction.

The frames have the columns model, image, method, metric and value, as in the table of `run_study`. Values are
fractions. An image counts if its value is known. NaN values are left out and counted as failed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from iscam.errors import InputError
from iscam.validation import unknown_choice

#: Number of resamples for a bootstrap interval.
RESAMPLES = 2000

#: Number of random sign patterns in `sign_flip_test`. The smallest possible p-value is 1 / (FLIPS + 1).
FLIPS = 9999


class Label(NamedTuple):
    """The parts of a method's name in a table."""

    method: str
    variant: str
    seed: int


def parse_label(name: str) -> Label:
    """Split a method's name in this repository's studies, which has the form "METHOD[ VARIANT][ seed N]".

    >>> parse_label("is_cam zero baseline seed 2")
    Label(method='is_cam', variant='zero baseline', seed=2)
    """
    words = name.split(" ")
    seed = 0
    if len(words) > 2 and words[-2] == "seed" and words[-1].isdecimal():
        seed = int(words[-1])
        words = words[:-2]
    return Label(words[0], " ".join(words[1:]), seed)


def without_seed(name: str) -> str:
    """Return the name of a method without " seed N"."""
    label = parse_label(name)
    return f"{label.method} {label.variant}".strip()


def check_frame(frame: pd.DataFrame, *columns: str) -> None:
    """Raise InputError unless `frame` has the columns and at most one row per model, image, method and metric."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"expected a DataFrame returned by run_study, not {type(frame).__name__}")
    if missing := [column for column in columns if column not in frame.columns]:
        raise InputError(
            f"the frame lacks the columns {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}"
        )
    keys = [key for key in ("model", "image", "method", "metric") if key in frame.columns]
    if "image" in keys and (repeated := frame.duplicated(keys)).any():
        row = ", ".join(map(str, frame.loc[repeated, keys].iloc[0]))
        raise InputError(f"the frame has {int(repeated.sum())} repeated rows; the first repeated row is {row}")


def summary(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Compute the mean of each model, method and metric, with a 95 % bootstrap interval over images.

    Returns a frame with the columns model, method, metric, mean, low, high (fractions), n (number of images that count)
    and failed (number of images without a value). The rows are in the same order as in the frame.

    Raises InputError if columns are missing or an image appears twice.
    """
    check_frame(frame, "model", "method", "metric", "value")
    keys = ["model", "method", "metric"]
    if frame.empty:
        return pd.DataFrame(columns=[*keys, "mean", "low", "high", "n", "failed"])
    return frame.groupby(keys, sort=False)["value"].apply(interval, seed=seed).unstack().reset_index()


def on_full_image_set(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep only the methods of each model that were evaluated on all images of the model, so means are comparable."""
    images = frame.groupby(["model", "method"])["image"].transform("nunique")
    return frame[images == images.groupby(frame["model"]).transform("max")]


def interval(values: pd.Series, seed: int = 0) -> pd.Series:
    """Compute the mean of values with a 95 % percentile bootstrap interval.

    Returns mean, low, high (NaN for a single value), n (number of known values) and failed (number of NaN values).
    """
    known = values.dropna().to_numpy(dtype=float)
    low, high = np.quantile(bootstrap_means(known, seed), [0.025, 0.975]) if len(known) > 1 else (np.nan, np.nan)
    mean = known.mean() if len(known) else np.nan
    return pd.Series({"mean": mean, "low": low, "high": high, "n": len(known), "failed": len(values) - len(known)})


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Compute the means of resamples with replacement, (RESAMPLES,).

    With the same seed, the same positions are drawn for every array of the same length.
    """
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(values), size=(rows, len(values))) for rows in blocks(RESAMPLES, len(values)))
    return np.concatenate([values[draw].mean(1) for draw in draws])


def blocks(rows: int, columns: int) -> list[int]:
    """Split `rows` into blocks of about a million numbers, so memory use does not grow with the number of images."""
    portion = max(1, 1_000_000 // columns)
    return [min(portion, rows - done) for done in range(0, rows, portion)]


def sign_flip_test(differences: np.ndarray, seed: int = 0) -> float:
    r"""Compute the two-sided p-value of a mean paired difference with random sign flips of each image's difference d_i.

    p = (1 + #{|Σ s_i d_i| >= |Σ d_i|}) / (FLIPS + 1), with random signs s_i. The test is exact under the null
    hypothesis that the two methods are exchangeable. NaN differences are left out. Returns NaN for fewer than two
    differences.

    Raises InputError for infinite differences.

    >>> sign_flip_test(np.array([0.0, 0.0, np.nan]))
    1.0
    """
    known = np.asarray(differences, dtype=float)
    known = known[~np.isnan(known)]
    if np.isinf(known).any():
        raise InputError("differences must be finite")
    if len(known) < 2:
        return float("nan")
    rng = np.random.default_rng(seed)
    signs = (1 - 2 * rng.integers(2, size=(rows, len(known))) for rows in blocks(FLIPS, len(known)))
    flipped = np.abs(np.concatenate([sign @ known for sign in signs]))
    return float((1 + (flipped >= np.abs(known.sum()) * (1 - 1e-9)).sum()) / (FLIPS + 1))


def holm(p: np.ndarray) -> np.ndarray:
    """Correct p-values for multiple tests with Holm's method. NaN stays NaN and does not count as a test.

    >>> holm(np.array([0.04, 0.01, 0.03])).round(6).tolist()
    [0.06, 0.03, 0.06]
    """
    order = np.argsort(p)  # NaN values are last
    factors = np.arange((~np.isnan(p)).sum(), 0, -1)
    corrected = np.full(len(p), np.nan)
    tested = order[: len(factors)]
    corrected[tested] = np.maximum.accumulate(np.minimum(1, p[tested] * factors))
    return corrected


def merge_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """Replace the seeds of a noisy method ("NAME", "NAME seed 1", ...) with their mean per image."""
    check_frame(frame, "model", "image", "method", "metric", "value")
    merged = frame.assign(method=frame["method"].map(without_seed))
    return merged.groupby(["model", "image", "method", "metric"], sort=False, as_index=False)["value"].mean()


def seed_spread(frame: pd.DataFrame) -> pd.DataFrame:
    """Compute the spread of a noisy method: the largest minus the smallest mean over its seeds.

    Returns a frame with the columns model, method, metric, seeds (their number) and spread.
    """
    base = frame.assign(base=frame["method"].map(without_seed))
    means = base.groupby(["model", "base", "metric", "method"], sort=False)["value"].mean()
    spread = means.groupby(level=[0, 1, 2], sort=False).agg(seeds="size", spread=lambda x: x.max() - x.min())
    return spread[spread["seeds"] > 1].reset_index().rename(columns={"base": "method"})


def wins(frame: pd.DataFrame, method: str = "is_cam") -> pd.DataFrame:
    """Compute the share of images on which `method` keeps more class probability than each other method.

    The share of ties is computed as well. `frame` must have the metric explained_confidence. Returns the columns of
    `summary`, with the other method in "method" and "win" or "tie" in "metric".
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
    """Compute the mean difference `method` - `other` of each model and metric, with a 95 % bootstrap interval.

    The differences are paired by image. An image counts if both values are known. Returns the columns of `summary`.

    Raises InputError if columns are missing, an image appears twice, or a method is not in the frame.
    """
    return summary(differences(frame, method, other))


def differences(frame: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Compute the difference `method` - `other` of each image.

    Returns a frame with the columns model, metric, image, method and value. Raises the same errors as `paired`.
    """
    check_frame(frame, "model", "image", "method", "metric", "value")
    wide = frame.pivot(index=["model", "metric", "image"], columns="method", values="value")
    for name in (method, other):
        if name not in wide:
            raise unknown_choice("method", name, wide.columns)
    return (wide[method] - wide[other]).rename("value").reset_index().assign(method=f"{method} - {other}")


def mean_over_models(frame: pd.DataFrame) -> pd.DataFrame:
    """Compute the mean over the models for each image. A test then uses one value per image, for any number of models.

    The mean is NaN if one of the models has no value, because a mean over fewer models is a different quantity.
    """
    n = frame["model"].nunique()
    values = frame.groupby(["image", "method", "metric"], sort=False)["value"].sum(min_count=n) / n
    return values.reset_index().assign(model="all networks")


def variants(frame: pd.DataFrame, method: str = "is_cam", other: str = "score_cam") -> pd.DataFrame:
    """Compute the mean paired difference of two methods over all models, for each variant that both methods have.

    The names of the methods have the form "METHOD VARIANT" (see `parse_label`). Returns the columns of `summary`, with
    the variant in "method".
    """
    labels = [parse_label(name) for name in frame["method"].unique()]
    there = {label.method: [each.variant for each in labels if each.method == label.method] for label in labels}
    shared = [variant for variant in there.get(method, []) if variant in there.get(other, [])]
    if not shared:
        raise InputError(f"the frame has no variant of both {method} and {other}; methods: {', '.join(there)}")
    rows = [
        differences(frame, f"{method} {variant}".strip(), f"{other} {variant}".strip()).assign(
            method=variant or "as in the tables"
        )
        for variant in shared
    ]
    return summary(mean_over_models(pd.concat(rows)))


def versus(frame: pd.DataFrame, method: str, together: bool = False) -> pd.DataFrame:
    """Compute the mean paired difference of `method` minus each other method.

    With `together`, the values are first averaged over the models for each image. Returns the columns of `summary`,
    with the other method in "method".
    """
    others = [name for name in frame["method"].unique() if name != method]
    rows = pd.concat([differences(frame, method, other).assign(method=other) for other in others])
    return summary(mean_over_models(rows) if together else rows).sort_values("model", kind="stable", ignore_index=True)
