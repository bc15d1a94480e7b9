"""Statistics of a study's table: wrong frames are refused, and names of methods are split in one way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import iscam
from helpers.errors import refused
from iscam.study.statistics import interval, parse_label, sign_flip_test, variants


def frame(**values: list[float]) -> pd.DataFrame:
    """A table of one model and metric, a list of images' values per method."""
    return pd.concat(
        pd.DataFrame({"model": "net", "image": range(len(v)), "method": method, "metric": "energy", "value": v})
        for method, v in values.items()
    )


def test_paired_interval_is_narrower_than_its_parts():
    shared = np.random.default_rng(1).random(200)
    difference = iscam.paired(frame(a=shared + 0.01, b=shared), "a", "b").iloc[0]
    assert difference["mean"] == pytest.approx(0.01)
    assert difference["high"] - difference["low"] < 1e-9


def test_sign_flip_test_leaves_nan_out():
    assert sign_flip_test(np.array([1, np.nan, -1])) == 1.0
    values = np.random.default_rng(0).normal(0.3, 1, 30)
    assert sign_flip_test(np.append(values, np.nan)) == sign_flip_test(values)
    assert np.isnan(sign_flip_test(np.array([1, np.nan])))


def test_sign_flip_test_refuses_infinite_differences():
    with refused("finite"):
        sign_flip_test(np.array([1, np.inf]))


@pytest.mark.parametrize("wrong", [[1], None, "energy", np.ones(3)])
def test_summary_refuses_what_is_no_frame(wrong):
    with refused("DataFrame"):
        iscam.summary(wrong)


def test_summary_refuses_missing_columns():
    with refused("lacks the columns metric, value", "method"):
        iscam.summary(frame(a=[1]).drop(columns=["metric", "value"]))


def test_summary_of_no_rows_is_empty():
    found = iscam.summary(frame(a=[1]).iloc[:0])
    assert list(found.columns) == ["model", "method", "metric", "mean", "low", "high", "n", "failed"]
    assert found.empty


@pytest.mark.parametrize(
    "compute", [iscam.summary, lambda rows: iscam.paired(rows, "a", "b")], ids=["summary", "paired"]
)
def test_repeated_rows_are_refused(compute):
    rows = frame(a=[1, 2], b=[3, 4])
    with refused("4 repeated rows", "net, 0, a, energy"):
        compute(pd.concat([rows, rows]))


def test_paired_with_an_unknown_method_lists_the_valid_ones():
    with refused("'c'", "a, b"):
        iscam.paired(frame(a=[1], b=[2]), "a", "c")


def test_intervals_of_a_thousand_images_take_bounded_memory():
    values = pd.Series(np.random.default_rng(0).random(30_000))
    found = interval(values)
    assert found["low"] < found["mean"] < found["high"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("is_cam", ("is_cam", "", 0)),
        ("ss_cam seed 2", ("ss_cam", "", 2)),
        ("is_cam zero baseline", ("is_cam", "zero baseline", 0)),
        ("is_cam zero baseline seed 1", ("is_cam", "zero baseline", 1)),
        ("seed 1", ("seed", "1", 0)),
        ("", ("", "", 0)),
    ],
)
def test_label_is_split_into_method_variant_and_seed(name, parts):
    assert tuple(parse_label(name)) == parts


def test_variants_pairs_methods_of_one_variant():
    rows = frame(
        **{"is_cam": [2, 3], "score_cam": [1, 1], "is_cam blur": [5, 5], "score_cam blur": [1, 2], "is_cam x": [0]}
    )
    found = variants(rows).set_index("method")["mean"]
    assert found.to_dict() == {"as in the tables": 1.5, "blur": 3.5}
    with refused("no variant of both is_cam and cam"):
        variants(rows, other="cam")
