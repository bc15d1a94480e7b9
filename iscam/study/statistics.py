"""Statistics over images: means with bootstrap intervals, paired differences, sign-flip tests, Holm's correction.

Every function takes frames with the columns of `run_study`: model, image, method, metric, value. Values are fractions.
An image counts if its value is known; NaN values are left out and counted as failed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from iscam.errors import InputError
from iscam.validation import unknown_choice

#: Resamples of a bootstrap interval.
RESAMPLES = 2000

#: Random sign patterns of `sign_flip_test`. The smallest p-value is 1 / (FLIPS + 1).
FLIPS = 9999


class Label(NamedTuple):
    """The parts of a method's name in a table."""

    method: str
    variant: str
    seed: int


def parse_label(name: str) -> Label:
    """Split "METHOD[ VARIANT][ seed N]", the names of methods in this repository's studies.

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
    """The name of a method without " seed N"."""
    label = parse_label(name)
    return f"{label.method} {label.variant}".strip()


def check_frame(frame: pd.DataFrame, *columns: str) -> None:
    """Raise InputError unless `frame` has the columns, and one row per model, image, method and metric."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"expected a DataFrame as run_study returns it, not {type(frame).__name__}")
    if missing := [column for column in columns if column not in frame.columns]:
        raise InputError(
            f"the frame lacks the columns {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}"
        )
    keys = [key for key in ("model", "image", "method", "metric") if key in frame.columns]
    if "image" in keys and (repeated := frame.duplicated(keys)).any():
        row = ", ".join(map(str, frame.loc[repeated, keys].iloc[0]))
        raise InputError(f"the frame has {int(repeated.sum())} repeated rows; an image counts once. First: {row}")


def summary(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Mean of each model, method and metric, with a 95 % bootstrap interval over images.

    Returns the columns model, method, metric, mean, low, high (fractions), n (images that count) and failed (images
    without a value), in the frame's order. Raises InputError if columns are missing or an image appears twice.
    """
    check_frame(frame, "model", "method", "metric", "value")
    keys = ["model", "method", "metric"]
    if frame.empty:
        return pd.DataFrame(columns=[*keys, "mean", "low", "high", "n", "failed"])
    return frame.groupby(keys, sort=False)["value"].apply(interval, seed=seed).unstack().reset_index()


def on_full_image_set(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep the methods of each model that were evaluated on its full image set, so that means are comparable."""
    images = frame.groupby(["model", "method"])["image"].transform("nunique")
    return frame[images == images.groupby(frame["model"]).transform("max")]


def interval(values: pd.Series, seed: int = 0) -> pd.Series:
    """Mean, low, high (95 % percentile bootstrap; NaN for one value), n (known values), failed (NaN values)."""
    known = values.dropna().to_numpy(dtype=float)
    low, high = np.quantile(bootstrap_means(known, seed), [0.025, 0.975]) if len(known) > 1 else (np.nan, np.nan)
    mean = known.mean() if len(known) else np.nan
    return pd.Series({"mean": mean, "low": low, "high": high, "n": len(known), "failed": len(values) - len(known)})


def bootstrap_means(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """Means of resamples with replacement, (RESAMPLES,). Equal numbers of values draw the same images."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(values), size=(rows, len(values))) for rows in blocks(RESAMPLES, len(values)))
    return np.concatenate([values[draw].mean(1) for draw in draws])


def blocks(rows: int, columns: int) -> list[int]:
    """Split `rows` into blocks of about a million numbers, so that memory does not grow with the number of images."""
    portion = max(1, 1_000_000 // columns)
    return [min(portion, rows - done) for done in range(0, rows, portion)]


def sign_flip_test(differences: np.ndarray, seed: int = 0) -> float:
    r"""Two-sided p-value of a mean paired difference d, by random sign flips of each image's difference.

    p = (1 + #{|Σ s_i d_i| >= |Σ d_i|}) / (FLIPS + 1), with random signs s. The test is exact under the null hypothesis
    that the two methods are exchangeable. NaN differences are left out. Returns NaN for fewer than two differences.

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
    """Holm's correction of p-values for multiple tests. NaN stays NaN and does not count as a test.

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
    """Replace the seeds of a noisy method, "NAME", "NAME seed 1", ..., by their mean per image."""
    check_frame(frame, "model", "image", "method", "metric", "value")
    merged = frame.assign(method=frame["method"].map(without_seed))
    return merged.groupby(["model", "image", "method", "metric"], sort=False, as_index=False)["value"].mean()


def seed_spread(frame: pd.DataFrame) -> pd.DataFrame:
    """Largest minus smallest mean over the seeds of a noisy method: columns model, method, metric, seeds, spread."""
    base = frame.assign(base=frame["method"].map(without_seed))
    means = base.groupby(["model", "base", "metric", "method"], sort=False)["value"].mean()
    spread = means.groupby(level=[0, 1, 2], sort=False).agg(seeds="size", spread=lambda x: x.max() - x.min())
    return spread[spread["seeds"] > 1].reset_index().rename(columns={"base": "method"})


def wins(frame: pd.DataFrame, method: str = "is_cam") -> pd.DataFrame:
    """Share of images on which `method` keeps more class probability than each other method, and share of ties.

    `frame` has the metric explained_confidence. Returns the columns of `summary`, with the other method in "method" and
    "win" or "tie" in "metric".
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

    Returns the columns of `summary`. An image counts if both values are known. Raises InputError if columns are
    missing, an image appears twice, or a method is not in the frame.
    """
    return summary(differences(frame, method, other))


def differences(frame: pd.DataFrame, method: str, other: str) -> pd.DataFrame:
    """Difference `method` - `other` per image: columns model, metric, image, method, value. Errors as in `paired`."""
    check_frame(frame, "model", "image", "method", "metric", "value")
    wide = frame.pivot(index=["model", "metric", "image"], columns="method", values="value")
    for name in (method, other):
        if name not in wide:
            raise unknown_choice("method", name, wide.columns)
    return (wide[method] - wide[other]).rename("value").reset_index().assign(method=f"{method} - {other}")


def mean_over_models(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean over the models per image. The unit of a test is an image, regardless of the number of models.

    The mean is NaN if one of the models has no value, because a mean over fewer models is another quantity.
    """
    n = frame["model"].nunique()
    values = frame.groupby(["image", "method", "metric"], sort=False)["value"].sum(min_count=n) / n
    return values.reset_index().assign(model="all networks")


def variants(frame: pd.DataFrame, method: str = "is_cam", other: str = "score_cam") -> pd.DataFrame:
    """Mean paired difference of two methods over all models, for each variant that the frame has of both.

    The methods are named "METHOD VARIANT", see `parse_label`. Returns the columns of `summary`, with the variant in
    "method".
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
    """Mean paired difference of `method` minus each other method; columns of `summary`, the other method in "method".

    `together`: use the mean over the models per image.
    """
    others = [name for name in frame["method"].unique() if name != method]
    rows = pd.concat([differences(frame, method, other).assign(method=other) for other in others])
    return summary(mean_over_models(rows) if together else rows).sort_values("model", kind="stable", ignore_index=True)
