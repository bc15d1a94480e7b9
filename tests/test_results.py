"""Statistics, claims, tables and benchmarks, compared with answers worked out by hand."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import iscam
from helpers.repository import ROOT
from helpers.study_frames import study_rows
from iscam.plots import intervals
from iscam.reproduction.archive import recorded
from iscam.reproduction.benchmarks import benchmark_table, floor_table, peak_table, speedups
from iscam.reproduction.claims import CLAIMS, PRIMARY, summarise, verdicts
from iscam.reproduction.cost import best_within, pareto_front, passes_of, quality, seconds, upgrades
from iscam.reproduction.figures import truth_beside_map
from iscam.reproduction.names import column_heading, lower_is_better, method_title
from iscam.reproduction.part_tables import beats_controls, separated, strongest_pairs
from iscam.reproduction.published import (
    PAPER_METHODS,
    SCORE_CAM_METRICS,
    comparable,
    data_folder,
    published_table,
    tables_study,
)
from iscam.reproduction.styles import table
from iscam.reproduction.tables import NOT_RUN, Estimate, by_family, by_metric, by_network, comparison, sort_rows
from iscam.study.spec import read_study
from iscam.study.statistics import (
    blocks,
    holm,
    interval,
    mean_over_models,
    merge_seeds,
    on_full_image_set,
    paired,
    seed_spread,
    sign_flip_test,
    summary,
    versus,
    wins,
)

# ------------------------------------------------------------------------------------------------------------ intervals


def test_summary_one_image_has_no_interval():
    found = summary(study_rows({"is_cam": [0.5], "cam": [np.nan], "score_cam": [0.5, 0.7]})).set_index("method")
    assert found.loc["is_cam", ["mean", "n", "failed"]].tolist() == [0.5, 1, 0]
    assert found.loc[["is_cam", "cam"], ["low", "high"]].isna().all(axis=None)
    assert found.loc["cam", ["n", "failed"]].tolist() == [0, 1]
    intervals(found.reset_index(), "average_drop", "average drop (%)").draw_without_rendering()


def test_on_full_image_set_drops_methods_with_fewer_images():
    fewer = study_rows({"is_cam": [0.1, 0.2, 0.3], "ss_cam": [0.9], "cam": [0.3, 0.2, 0.1]})
    kept = on_full_image_set(pd.concat([fewer, study_rows({"is_cam": [0.5]}, model="another")]))
    assert kept.groupby(["model", "method"])["image"].nunique().to_dict() == {
        ("another", "is_cam"): 1,
        ("net", "cam"): 3,
        ("net", "is_cam"): 3,
    }


def test_interval_many_images_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    found = interval(pd.Series(values))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=0.1)
    assert found["mean"] == values.mean()


def test_blocks_add_up_and_fit_memory():
    for total, columns in itertools.product((1, 2000, 9999), (1, 7, 500, 10**6, 10**8)):
        sizes = blocks(total, columns)
        assert sum(sizes) == total and max(sizes) * min(columns, 10**6) <= 10**6


# ---------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("differences", [[1, 2, 3, 4, 5], [2, 1, -1, 3], [1, -1, 1, -1], [0.1, 0.2, -0.3, 0.4, 0.5, 3]])
def test_sign_flip_test_agrees_with_all_patterns(differences):
    d = np.array(differences, dtype=float)
    sums = [abs(np.dot(signs, d)) for signs in itertools.product([1, -1], repeat=len(d))]
    exact = np.mean([total >= abs(d.sum()) - 1e-9 for total in sums])
    assert sign_flip_test(d) == pytest.approx(exact, abs=0.02)


def test_sign_flip_test_keeps_its_level():
    """One in twenty sets of differences that are symmetric around 0 has p < 5 %."""
    rng = np.random.default_rng(3)
    p = [sign_flip_test(rng.standard_t(3, 20), seed) for seed in range(300)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert np.isnan(sign_flip_test(np.array([1.0])))


def test_holm_worked_example():
    """Smallest first: .001 x 4, .01 x 3, .02 x 2, and .03, which must not fall below the previous value."""
    found = holm(np.array([0.02, 0.001, np.nan, 0.03, 0.01]))
    assert found == pytest.approx([0.04, 0.004, np.nan, 0.04, 0.03], nan_ok=True)
    assert holm(np.array([0.6, 0.9])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []


# ------------------------------------------------------------------------------------------------------------- verdicts


def claimed_study() -> pd.DataFrame:
    """Forty images of two networks: IS-CAM has the lower drop, the lower insertion and the same deletion."""
    rng = np.random.default_rng(0)
    parts = []
    for model, (metric, gap) in itertools.product(
        ("a/vgg", "b"), {"average_drop": -0.2, "insertion": -0.1, "deletion": 0.0}.items()
    ):
        score_cam = rng.uniform(0.3, 0.7, 40)
        is_cam = score_cam + gap + rng.normal(0, 0.05, 40)
        parts.append(study_rows({"score_cam": list(score_cam), "is_cam": list(is_cam)}, metric, model))
    return pd.concat(parts)


def test_verdicts_worked_example():
    found = verdicts(claimed_study())
    better = found[found["claim"] == "IS-CAM scores better than Score-CAM"].set_index("metric")
    assert better["verdict"].to_dict() == {
        "average_drop": "holds",
        "insertion": "opposite",
        "deletion": "no difference shown",
    }
    assert (better["n"] == 40).all(), "the units are images, not images and networks"
    assert better.loc["average_drop", "mean"] == pytest.approx(-0.2, abs=0.02)
    assert better.loc["average_drop", "low"] < better.loc["average_drop", "mean"] < better.loc["average_drop", "high"]
    assert "holds in 1" in summarise(found) and "opposite in 1" in summarise(found)


def test_verdicts_correct_all_but_the_primary_comparison():
    frame = claimed_study()
    wide = frame.pivot(index=["model", "image"], columns=["metric", "method"], values="value")
    raw = {}
    for metric in ("average_drop", "insertion", "deletion"):
        difference = (wide[metric, "is_cam"] - wide[metric, "score_cam"]).groupby("image").mean()
        raw[metric] = sign_flip_test(difference.to_numpy())
    found = verdicts(frame).drop_duplicates("metric").set_index("metric")["p"]
    assert found["average_drop"] == raw["average_drop"]
    assert found[["insertion", "deletion"]].tolist() == pytest.approx(
        holm(np.array([raw["insertion"], raw["deletion"]])).tolist()
    )
    assert PRIMARY in {each for comparisons in CLAIMS.values() for each in comparisons}


def test_verdicts_of_one_network_ignore_the_others():
    frame = pd.concat(
        [
            study_rows({"is_cam": [0.9, 0.8, 0.7], "ss_cam": [0.1, 0.1, 0.1]}, "energy", "a/vgg"),
            study_rows({"is_cam": [0.0, 0.0, 0.0], "ss_cam": [1.0, 1.0, 1.0]}, "energy", "b"),
        ]
    )
    assert verdicts(frame)["mean"].tolist() == pytest.approx([0.7])
    assert len(verdicts(frame[frame["model"] == "b"])) == 0


def test_verdicts_one_image_is_not_tested():
    found = verdicts(study_rows({"is_cam": [0.1], "score_cam": [0.5]}))
    assert set(found["verdict"]) == {"not tested"}


@pytest.mark.parametrize(
    ("metric", "lower"),
    [
        ("deletion", True),
        ("average_drop", True),
        ("complexity", True),
        ("insertion:blur", False),
        ("win:is_cam", False),
    ],
)
def test_lower_is_better(metric, lower):
    assert lower_is_better(metric) == lower


# ------------------------------------------------------------------------------------------------------ seeds and wins


def test_merge_seeds_averages_each_image():
    frame = study_rows(
        {"ss_cam": [0.0, 0.2], "ss_cam seed 1": [0.4, 0.4], "ss_cam seed 2": [0.2, np.nan], "is_cam": [1, 1]}
    )
    merged = merge_seeds(frame).pivot(index="image", columns="method", values="value")
    assert merged["ss_cam"].tolist() == pytest.approx([0.2, 0.3]) and merged["is_cam"].tolist() == [1, 1]
    spread = seed_spread(frame)
    assert spread[["method", "seeds"]].values.tolist() == [["ss_cam", 3]]
    assert spread["spread"].tolist() == pytest.approx([0.3])  # means .1, .4 and .2


def test_wins_and_ties():
    frame = study_rows(
        {
            "is_cam": [0.5, 0.5, 0.5, 0.5],
            "score_cam": [0.4, 0.5, 0.6, np.nan],
            "ss_cam": [0.1] * 4,
            "ss_cam seed 1": [0.9] * 4,
        },
        "explained_confidence",
    )
    found = wins(frame).set_index(["method", "metric"])
    assert found.loc[("score_cam", "win"), "mean"] == pytest.approx(1 / 3)
    assert found.loc[("score_cam", "tie"), ["mean", "n", "failed"]].tolist() == pytest.approx([1 / 3, 3, 1])
    assert found.loc[("ss_cam", "win"), "mean"] == 0.5, "the mean over seeds"


def test_mean_over_models_needs_every_network():
    frame = pd.DataFrame(
        [("a", "0", 0.25), ("b", "0", 0.75), ("a", "1", 0.5), ("a", "2", 0.5), ("b", "2", float("nan"))],
        columns=["model", "image", "value"],
    )
    means = mean_over_models(frame.assign(method="is_cam", metric="energy")).set_index("image")["value"]
    assert means["0"] == 0.5 and means[["1", "2"]].isna().all()


def test_paired_of_an_unfinished_run_counts_what_was_run():
    keys = [("a", "0"), ("a", "1"), ("b", "0")]
    rows = [(model, image, method, "energy", 0.5) for model, image in keys for method in ("is_cam", "score_cam")]
    frame = pd.DataFrame(rows, columns=["model", "image", "method", "metric", "value"])
    found = paired(frame, "is_cam", "score_cam").set_index("model")
    assert found["n"].to_dict() == {"a": 2, "b": 1} and (found["failed"] == 0).all()


def test_ten_thousand_rows_are_analysed():
    methods = ["is_cam", "score_cam", "ss_cam", "ss_cam seed 1", "grad_cam"]
    metrics = ["insertion", "deletion", "average_drop", "average_increase", "explained_confidence"]
    index = pd.MultiIndex.from_product([["a/vgg", "b"], range(200), methods, metrics])
    frame = index.to_frame(index=False, name=["model", "image", "method", "metric"])
    frame = frame.assign(value=np.random.default_rng(0).random(len(frame)))
    assert len(frame) == 10_000
    assert verdicts(frame).groupby("claim", sort=False).size().tolist() == [4, 2, 2, 2]
    assert len(versus(merge_seeds(frame), "is_cam")) == 2 * 3 * 5
    assert len(wins(frame)) == 2 * 3 * 2


# --------------------------------------------------------------------------------------------------------------- tables


def texts(rows: pd.DataFrame) -> list[list[str]]:
    return rows.map(str).to_numpy().tolist()


def test_by_metric_states_of_a_cell():
    found = summary(study_rows({"is_cam": [0.5], "cam": [np.nan], "score_cam": [0.5, 0.7]}))
    assert texts(by_metric(found, ["average_drop"])) == [
        ["net", "cam", "not defined"],
        ["net", "score_cam", "60.00 (50.00 to 70.00)"],
        ["net", "is_cam", "50.00 (–)"],
    ]


def test_by_network_keeps_numbers():
    frame = pd.concat([study_rows({"is_cam": [0.0, 0.5]}, model=model) for model in ("b", "resnet18")])
    found = by_network(summary(frame), "average_drop", scale=1)
    assert [*found] == ["method", "resnet18", "b"]
    assert found["b"][0] == Estimate(0.25, 0, 0.5)


def published(rows: list[tuple[str, str, str, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["model", "method", "metric", "value"])


def test_comparison_worked_example():
    printed = published([("vgg16", "score_cam", "energy", 40.0), ("vgg16", "is_cam", "energy", 41.0)])
    ours = study_rows({"score_cam": [0.5, 0.5], "identity": [0.25, 0.25]}, "energy", "vgg16")
    found = comparison(printed, ours)
    assert [*found] == [
        ("model", ""),
        ("method", ""),
        *(("energy", c) for c in ("published", "reproduced", "difference")),
    ]
    assert texts(found) == [
        ["vgg16", "score_cam", "40.0", "50.00 (50.00 to 50.00)", "10.0"],
        ["vgg16", "is_cam", "41.0", NOT_RUN, "nan"],
        ["vgg16", "identity", "nan", "25.00 (25.00 to 25.00)", "nan"],
    ]
    html = table(found).to_html()
    assert "+10.00" in html and "–" in html and "nan" not in html
    assert comparison(printed, ours[:0])["energy", "reproduced"].tolist() == [NOT_RUN, NOT_RUN]


def test_score_cam_paper_is_compared_by_its_own_protocol():
    """Each of its values has a metric that measures as the paper does and a method of the package."""
    printed = published_table("score_cam")
    assert printed.groupby("metric").size().to_dict() == {
        "average_drop": 5, "average_increase": 5, "energy": 8, "insertion": 3, "deletion": 3,
    }  # fmt: skip
    assert not printed.duplicated(["model", "method", "metric"]).any()
    assert set(printed["method"]) <= set(iscam.METHODS)
    assert printed["value"].between(0, 100).all()
    protocol = printed.replace({"metric": SCORE_CAM_METRICS})
    ours = [study_rows({"score_cam": [0.25, np.nan]}, metric, "vgg16") for metric in SCORE_CAM_METRICS.values()]
    found = comparison(protocol, pd.concat(ours)).set_index("method").loc["score_cam"]
    for metric, value in {"average_drop:half": 31.5, "average_increase:half": 30.6, "energy:single": 63.7}.items():
        assert found[metric, "published"] == value
        assert str(found[metric, "reproduced"]).startswith("25.00")
        assert found[metric, "difference"] == pytest.approx(25 - value)
    assert found["insertion", "reproduced"] == NOT_RUN


def test_study_of_the_score_cam_paper_has_its_methods_and_metrics():
    study, printed = read_study(ROOT / "studies/score_cam_tables.yaml"), published_table("score_cam")
    assert set(printed["method"]) <= set(study.methods)
    assert set(SCORE_CAM_METRICS) | set(SCORE_CAM_METRICS.values()) == set(study.metrics)


def test_headings_of_metrics_with_an_argument():
    headings = [
        "average drop, half kept (%) ↓",
        "average increase, half kept (%) ↑",
        "energy inside a single box (%) ↑",
    ]
    assert [column_heading(name) for name in SCORE_CAM_METRICS.values()] == headings
    for name, heading in zip(SCORE_CAM_METRICS.values(), headings, strict=True):
        assert lower_is_better(name) == heading.endswith("↓")
    names = {f"{name}:{each}" for name, metric in iscam.METRICS.items() for each in metric.arguments}
    plain = {name for name in names if column_heading(name) == column_heading(name.partition(":")[0])}
    assert plain == {"insertion:zeros"}, "it is the default"


def test_by_family_worked_example():
    printed = published([("vgg16", "is_cam", "energy", 41.0), ("vgg16", "is_cam", "insertion", 45.0)])
    ours = study_rows({"is_cam": [0.5, 0.5]}, "energy", "menagerie/vgg")
    assert texts(by_family(printed, ours)) == [["VGG", "is_cam", "41.0", "50.00 (50.00 to 50.00)", "45.0", "nan"]]


def test_sort_rows_puts_variants_behind_their_method():
    names = ["oracle", "is_cam_linear", "random", "is_cam", "cam", "identity"]
    found = sort_rows(pd.DataFrame({"model": "net", "method": names}))
    assert found["method"].tolist() == ["cam", "is_cam", "is_cam_linear", "identity", "random", "oracle"]


def test_table_heading_breaks_after_a_slash():
    shown = table(pd.DataFrame({("energy", "menagerie/vgg"): ["1.00"], ("energy", "menagerie/resnet"): ["2.00"]}))
    assert "menagerie/<wbr>vgg" in shown.to_html()
    assert "menagerie/<wbr>vgg" in table(pd.DataFrame({"menagerie/vgg": ["1.00"]})).to_html()


def test_method_titles_of_the_papers():
    titles = ["CAM", "Grad-CAM", "Grad-CAM++", "Smooth Grad-CAM++", "Score-CAM", "SS-CAM", "IS-CAM"]
    assert [method_title(name) for name in PAPER_METHODS] == titles
    assert [method_title(name) for name in ("is_cam_linear", "oracle", "ss_cam runner-up")] == [
        "IS-CAM, linear",
        "oracle",
        "SS-CAM runner-up",
    ]


def test_truth_beside_map_bars_fit_their_axes():
    image = iscam.load_images("menagerie", count=1)[0]
    names = ["ears", "legs"]
    figure = truth_beside_map(
        image, torch.rand(224, 224), pd.Series([0.5, 0.25], names), pd.Series([0.2, -0.7], names), "title"
    )
    low, high = figure.axes[2].get_xlim()
    ends = sorted(bar.get_width() for bar in figure.axes[2].patches)
    assert ends == pytest.approx([-1, 0.2 / 0.7, 0.5, 1])
    assert low < ends[0] and ends[-1] < high


# ----------------------------------------------------------------------------------------------------------- benchmarks


def timed_line(line: str, task: str, seconds: list[float], precision: str = "fp32") -> dict:
    more = {"megabytes": 1.0, "map_difference": None}
    return {"line": line, "task": task, "passes": 600, "seconds": seconds, "precision": precision} | more


def test_benchmark_tables_worked_example():
    """Medians, torch-cam's fastest batch size at the same task, and shares of the floor and of the peak."""
    lines = [
        timed_line("torch-cam IS-CAM", "IS-CAM", [4.0, 5.0, 9.0]),
        timed_line("torch-cam IS-CAM, batches of 512", "IS-CAM", [3.0, 2.0, 4.0]),
        timed_line("torch-cam IS-CAM of 15 steps", "IS-CAM of 15 steps", [1.0, 1.0, 1.0]),
        timed_line("iscam IS-CAM, compiled", "IS-CAM", [1.5, 2.0, 1.0]),
        timed_line("iscam insertion + deletion, one map, eager", "curves", [2.0, 2.0, 2.0]),
    ]
    passes = {"task": "floor", "passes": 100, "precision": "fp32", "flop": 3e9}
    bare = [
        passes | {"batch": 8, "compiled": compiled, "seconds": [0.2 + 0.05 * compiled]} for compiled in (False, True)
    ]
    bare += [{"task": "matrix product", "passes": 10, "flop": 6e11, "seconds": [3.0, 2.0, 1.0], "precision": "fp32"}]
    run = {"lines": lines, "bare": bare, "floors": {"fp32": 500.0}, "rates": {"net": {"fp32": 400.0}}}
    rows = benchmark_table(run).set_index("line")
    columns = ["times torch-cam", "% of floor", "spread (%)"]
    assert rows.loc["iscam IS-CAM, compiled", columns].tolist() == [2, 80, "100"]
    assert rows["times torch-cam"].round(3).tolist()[:3] == [0.6, 1, 1]
    assert np.isnan(rows.loc["iscam insertion + deletion, one map, eager", "times torch-cam"])
    assert peak_table(run).to_numpy().tolist() == [["fp32", 3.0, pytest.approx(50), pytest.approx(40)]]
    floor = floor_table(run)
    assert floor.to_numpy().tolist() == [["fp32", 8, 500, 400]] and floor["passes in a batch"].dtype == int


def test_speedups_of_a_run_without_some_lines_are_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("ISCAM_DATA", str(tmp_path))
    (tmp_path / "results").mkdir()
    (source, *_) = sorted(Path(__file__).parents[1].glob("data/results/benchmarks-*.json"))
    run = json.loads(source.read_text())
    run["lines"] = [row for row in run["lines"] if "bf16" not in row["line"]]
    (tmp_path / "results" / source.name).write_text(json.dumps(run))
    found = speedups().set_index("line").iloc[:, 0]
    assert np.isnan(found["bfloat16"]) and found.drop("bfloat16").notna().all()
    assert data_folder() == tmp_path


def drawn_study(means: dict[str, float], metric: str = "insertion") -> pd.DataFrame:
    """The table of a study of 20 drawings in which each method has the same value plus a small noise per image."""
    rng = np.random.default_rng(0)
    rows = [
        ("menagerie/resnet", f"Basenji-{image}", method, metric, mean + 0.01 * rng.random())
        for method, mean in means.items()
        for image in range(20)
    ]
    return pd.DataFrame(rows, columns=["model", "image", "method", "metric", "value"])


def test_score_cam_is_compared_with_both_controls():
    means = {"identity": 0.5, "random": 0.4, "score_cam": 0.6}
    frame = pd.concat(
        [drawn_study(means), drawn_study(means, "deletion"), drawn_study(means | {"identity": 0.0}, "average_drop")]
    )
    shown = beats_controls(frame).set_index("metric")
    assert shown["better than both"].to_dict() == {"insertion": "yes", "deletion": "no", "average_drop": "no"}
    assert 9 < shown.loc["insertion", "identity"].mean < 11
    assert -21 < shown.loc["deletion", "random"].mean < -19  # lower is better
    lower = drawn_study({"identity": 0.0, "random": 0.9, "score_cam": 0.6}, "average_drop")
    assert beats_controls(lower)["better than both"].tolist() == ["yes"], "the identity control does not count"


def test_methods_that_differ_are_counted():
    frame = drawn_study({"grad_cam": 0.4, "score_cam": 0.4, "is_cam": 0.7, "random": 0.1, "oracle": 1.0})
    (row,) = separated(frame, ["insertion"]).to_dict("records")
    assert (row["metric"], row["network"]) == ("insertion", "menagerie/resnet")
    assert (row["pairs"], row["different"], row["best"]) == (3, 2, "is_cam")
    assert 28 < row["difference (points)"].mean < 32


def test_strongest_pair_is_that_of_the_importances():
    net = iscam.load_model("menagerie/resnet")
    (row,) = strongest_pairs(net, ["Capuchin"], 3).to_dict("records")
    pairs, single = iscam.pair_importance(net, "Capuchin", 3), iscam.part_importance(net, "Capuchin", 3)
    assert row["both left out"] == pairs.max()
    assert row["pair"] == " and ".join(pairs.idxmax())
    assert row["sum of the two alone"] == pytest.approx(single[list(pairs.idxmax())].sum())


# ----------------------------------------------------------------------------------------------------------------- cost


def test_pareto_front_is_that_of_every_pair():
    rng = np.random.default_rng(0)
    for metric in ("insertion", "deletion"):
        rows = pd.DataFrame({"metric": metric, "passes": rng.integers(1, 6, 12), "mean": rng.random(12)})
        sign = -1 if metric == "deletion" else 1
        alone = [
            not any(
                other.passes <= row.passes and sign * other.mean >= sign * row.mean
                for other in rows.drop(row.Index).itertuples()
            )
            for row in rows.itertuples()
        ]
        assert sorted(pareto_front(rows).index) == list(rows.index[alone])


def test_quality_has_the_passes_of_the_study_and_the_front():
    means = {"grad_cam": 0.4, "score_cam": 0.3, "is_cam": 0.7, "random": 0.8, "oracle": 1.0, "identity": 0.2}
    run = {"parameters": {"models": ["menagerie/resnet"], "methods": {name: {} for name in means}}}
    frame = drawn_study(means)
    rows = quality(frame, run, ["insertion"]).set_index("method")
    assert rows["passes"].to_dict() == {"grad_cam": 3, "score_cam": 65, "is_cam": 961, "random": 1}
    assert passes_of(run)["oracle"] == 1
    assert list(rows.index[rows["front"]]) == ["grad_cam", "is_cam"]
    best = best_within(rows.reset_index(), [3, 960, 961])
    assert best["insertion"].tolist() == ["grad_cam", "grad_cam", "is_cam"]
    (row,) = upgrades(frame, rows.reset_index()).to_dict("records")
    assert (row["method"], row["instead of"]) == ("is_cam", "grad_cam")
    assert row["times the passes"] == 320
    assert 28 < row["difference (points)"].mean < 32


def test_seconds_are_measured_for_each_method():
    net = iscam.load_model("menagerie/resnet")
    rows = seconds(net, torch.rand(1, 3, 64, 64), ["score_cam", "grad_cam"])
    assert rows["method"].tolist() == ["grad_cam", "score_cam"]
    assert (rows["seconds"] > 0).all()


def test_comparable_curves_have_the_step_of_the_papers(tmp_path):
    (tmp_path / "LOC_val_solution.csv").write_text("")
    rows = [("squeezenet1_0", metric, "grad_cam", "a", 0.5) for metric in ("insertion", "deletion", "energy")]
    frame = pd.DataFrame(rows, columns=["model", "metric", "method", "image", "value"])
    for step, metrics in {224: ["insertion", "deletion", "energy"], 896: ["energy"]}.items():
        study = tables_study(["squeezenet1_0"], str(tmp_path), 1, 0, {}, step)
        assert comparable(frame, study)["metric"].tolist() == metrics
    assert comparable(frame, tables_study(["squeezenet1_0"], "menagerie", 1, 0, {})).empty


def test_advice_on_cost_follows_the_recorded_runs():
    gradient = ["grad_cam", "grad_cam_pp", "smooth_grad_cam_pp", "layer_cam", "xgrad_cam"]
    fronts = {"tables_menagerie": ["part_correlation", "average_drop"], "tables_squeezenet": ["energy"]}
    for name, metrics in fronts.items():
        frame, run = recorded(name)
        means = mean_over_models(merge_seeds(frame))
        for method in set(gradient) & set(means["method"]):
            drop = iscam.paired(means[means["metric"] == "average_drop"], "score_cam", method)
            assert (drop["high"] < 0).all(), (name, method)
        rows = quality(frame, run, metrics)
        gains = upgrades(frame, rows)
        expensive = gains[gains["method"].isin(["is_cam", "ss_cam"])]["difference (points)"]
        assert all(gap.low < 0 < gap.high for gap in expensive), name


def test_no_method_agrees_significantly_better_with_the_truth_than_one_gradient():
    frame = mean_over_models(merge_seeds(recorded("tables_menagerie")[0]))
    frame = on_full_image_set(frame.dropna(subset="value"))[lambda rows: rows["metric"] == "part_correlation"]
    for cheap in ("grad_cam_pp", "layer_cam"):
        for method in set(frame["method"]) & set(iscam.METHODS) - {cheap}:
            assert (iscam.paired(frame, method, cheap)["low"] <= 0).all(), (method, cheap)


def test_average_increase_is_near_zero_on_drawings_and_photographs():
    for name in ("tables_menagerie", "tables_squeezenet"):
        means = summary(recorded(name)[0]).query("metric == 'average_increase'")["mean"].dropna()
        assert means.max() <= 0.025, name
