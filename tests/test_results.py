"""Intervals, tests and verdicts, against answers known beforehand."""

from __future__ import annotations

import itertools
import json
import platform
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import iscam
from iscam.plots import intervals
from iscam.reproduction.archive import describe_run, record_study, recorded, study_command
from iscam.reproduction.benchmarks import benchmark_table, floor_table, peak_table
from iscam.reproduction.claims import CLAIMS, PRIMARY, summarise, verdicts
from iscam.reproduction.figures import truth_beside_map
from iscam.reproduction.tables import format_table, table
from iscam.study.provenance import device_name
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


def rows(values: dict[str, list[float]], metric: str = "average_drop", model: str = "net") -> pd.DataFrame:
    """A study's table of one metric, a list of images' values for each method."""
    return pd.concat(
        pd.DataFrame({"model": model, "image": range(len(v)), "method": method, "metric": metric, "value": v})
        for method, v in values.items()
    )


# ------------------------------------------------------------------------------------------------------------ intervals


def test_one_image_has_no_interval_and_none_has_no_mean():
    found = summary(rows({"is_cam": [0.5], "cam": [np.nan], "score_cam": [0.5, 0.7]})).set_index("method")
    assert found.loc["is_cam", ["mean", "n", "failed"]].tolist() == [0.5, 1, 0]
    assert found.loc[["is_cam", "cam"], ["low", "high"]].isna().all(axis=None)
    assert found.loc["cam", ["n", "failed"]].tolist() == [0, 1]
    texts = format_table(found.reset_index(), ["average_drop"]).set_index("method")["average_drop"]
    assert texts["is_cam"] == "50.00 (–)"
    assert texts["cam"] == "not defined"
    assert texts["score_cam"] == "60.00 (50.00 to 70.00)"
    plt.close(intervals(found.reset_index(), "average_drop", "average drop (%)"))


def test_methods_on_fewer_images_than_others_of_their_network_are_left_out():
    fewer = rows({"is_cam": [0.1, 0.2, 0.3], "ss_cam": [0.9], "cam": [0.3, 0.2, 0.1]})
    kept = on_full_image_set(pd.concat([fewer, rows({"is_cam": [0.5]}, model="another")]))
    assert kept.groupby(["model", "method"])["image"].nunique().to_dict() == {
        ("another", "is_cam"): 1,
        ("net", "cam"): 3,
        ("net", "is_cam"): 3,
    }


def test_bars_of_the_truth_end_inside_their_axes_where_a_part_speaks_against_the_class_most():
    image = iscam.load_images("menagerie", count=1)[0]
    names = ["ears", "legs"]
    figure = truth_beside_map(
        image, torch.rand(224, 224), pd.Series([0.5, 0.25], names), pd.Series([0.2, -0.7], names), "title"
    )
    low, high = figure.axes[2].get_xlim()
    ends = sorted(bar.get_width() for bar in figure.axes[2].patches)
    assert ends == pytest.approx([-1, 0.2 / 0.7, 0.5, 1])
    assert low < ends[0] and ends[-1] < high
    plt.close(figure)


def test_a_tables_heading_may_break_after_a_slash():
    shown = table(pd.DataFrame({("energy", "menagerie/vgg"): ["1.00"], ("energy", "menagerie/resnet"): ["2.00"]}))
    assert "menagerie/<wbr>vgg" in shown.to_html()
    assert "menagerie/<wbr>vgg" in table(pd.DataFrame({"menagerie/vgg": ["1.00"]})).to_html()


def test_interval_is_the_normal_one_for_many_images():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    found = interval(pd.Series(values))
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (found["high"] - found["low"]) / 2 == pytest.approx(half, rel=0.1)
    assert found["mean"] == values.mean()


def test_work_in_blocks_is_all_the_work():
    for total, columns in itertools.product((1, 2000, 9999), (1, 7, 500, 10**6, 10**8)):
        sizes = blocks(total, columns)
        assert sum(sizes) == total and max(sizes) * min(columns, 10**6) <= 10**6


# ---------------------------------------------------------------------------------------------------------------- tests


@pytest.mark.parametrize("differences", [[1, 2, 3, 4, 5], [2, 1, -1, 3], [1, -1, 1, -1], [0.1, 0.2, -0.3, 0.4, 0.5, 3]])
def test_sign_flips_against_all_of_them(differences):
    """The exact p-value counts all 2^n sign patterns."""
    d = np.array(differences, dtype=float)
    sums = [abs(np.dot(signs, d)) for signs in itertools.product([1, -1], repeat=len(d))]
    exact = np.mean([total >= abs(d.sum()) - 1e-9 for total in sums])
    assert sign_flip_test(d) == pytest.approx(exact, abs=0.02)


def test_sign_flips_keep_their_level():
    """Of differences that are symmetric around 0, one in twenty has p < 5 %."""
    rng = np.random.default_rng(3)
    p = [sign_flip_test(rng.standard_t(3, 20), seed) for seed in range(300)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.09
    assert np.isnan(sign_flip_test(np.array([1.0])))


def test_holm_by_hand():
    """Smallest first: .001 x 4, .01 x 3, .02 x 2, and .03, which may not fall below the one before."""
    found = holm(np.array([0.02, 0.001, np.nan, 0.03, 0.01]))
    assert found == pytest.approx([0.04, 0.004, np.nan, 0.04, 0.03], nan_ok=True)
    assert holm(np.array([0.6, 0.9])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []


# ------------------------------------------------------------------------------------------------------------- verdicts


def claimed(seed: int = 0) -> pd.DataFrame:
    """Forty images of two networks where IS-CAM has the lower drop, the lower insertion and the same deletion."""
    rng = np.random.default_rng(seed)
    parts = []
    for model, (metric, better) in itertools.product(
        ("a/vgg", "b"), {"average_drop": -0.2, "insertion": -0.1, "deletion": 0.0}.items()
    ):
        score_cam = rng.uniform(0.3, 0.7, 40)
        is_cam = score_cam + better + rng.normal(0, 0.05, 40)
        parts.append(rows({"score_cam": list(score_cam), "is_cam": list(is_cam)}, metric, model))
    return pd.concat(parts)


def test_verdicts_of_a_table_made_by_hand():
    found = verdicts(claimed())
    better = found[found["claim"] == "IS-CAM scores better than Score-CAM"].set_index("metric")
    assert better["verdict"].to_dict() == {
        "average_drop": "holds",
        "insertion": "opposite",
        "deletion": "no difference shown",
    }
    assert (better["n"] == 40).all(), "images are the units, not images and networks"
    assert better.loc["average_drop", "mean"] == pytest.approx(-0.2, abs=0.02)
    assert better.loc["average_drop", "low"] < better.loc["average_drop", "mean"] < better.loc["average_drop", "high"]
    assert "holds in 1" in summarise(found) and "opposite in 1" in summarise(found)


def test_only_the_primary_comparison_is_not_corrected():
    frame = claimed()
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


def test_claims_about_one_network_leave_the_others_out():
    frame = pd.concat(
        [
            rows({"is_cam": [0.9, 0.8, 0.7], "ss_cam": [0.1, 0.1, 0.1]}, "energy", "a/vgg"),
            rows({"is_cam": [0.0, 0.0, 0.0], "ss_cam": [1.0, 1.0, 1.0]}, "energy", "b"),
        ]
    )
    assert verdicts(frame)["mean"].tolist() == pytest.approx([0.7])
    assert len(verdicts(frame[frame["model"] == "b"])) == 0


def test_one_image_gives_no_verdict():
    found = verdicts(rows({"is_cam": [0.1], "score_cam": [0.5]}))
    assert set(found["verdict"]) == {"not tested"}


# ------------------------------------------------------------------------------------------------------ seeds and wins


def test_seeds_of_a_noisy_method_are_one_line():
    frame = rows({"ss_cam": [0.0, 0.2], "ss_cam seed 1": [0.4, 0.4], "ss_cam seed 2": [0.2, np.nan], "is_cam": [1, 1]})
    merged = merge_seeds(frame).pivot(index="image", columns="method", values="value")
    assert merged["ss_cam"].tolist() == pytest.approx([0.2, 0.3]) and merged["is_cam"].tolist() == [1, 1]
    spread = seed_spread(frame)
    assert spread[["method", "seeds"]].values.tolist() == [["ss_cam", 3]]
    assert spread["spread"].tolist() == pytest.approx([0.3])  # means .1, .4 and .2


def test_wins_and_ties():
    frame = rows(
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


# -------------------------------------------------------------------------------------------------- size, and recording


def test_ten_thousand_rows_are_judged_and_drawn_in_seconds():
    methods = ["is_cam", "score_cam", "ss_cam", "ss_cam seed 1", "grad_cam"]
    metrics = ["insertion", "deletion", "average_drop", "average_increase", "explained_confidence"]
    index = pd.MultiIndex.from_product([["a/vgg", "b"], range(200), methods, metrics])
    frame = index.to_frame(index=False, name=["model", "image", "method", "metric"])
    frame = frame.assign(value=np.random.default_rng(0).random(len(frame)))
    assert len(frame) == 10_000
    started = time.monotonic()
    plt.close(intervals(summary(frame), "insertion", "insertion (%)"))
    found = verdicts(frame), versus(merge_seeds(frame), "is_cam"), wins(frame)
    assert all(len(each) for each in found)
    assert time.monotonic() - started < 5


def test_a_recorded_run_says_what_it_read_and_not_where_it_lay(tmp_path, monkeypatch):
    monkeypatch.setenv("ISCAM_DATA", str(tmp_path / "data"))
    (tmp_path / "data/results").mkdir(parents=True)
    image = tmp_path / "some images"
    image.mkdir()
    Image.new("RGB", (64, 64)).save(image / "black.png")
    study = iscam.Study(data=str(image), count=1, methods={"identity": {}}, metrics=("complexity",))
    monkeypatch.setattr("sys.argv", ["iscam", "study", str(tmp_path / "studies/one.yaml")])
    iscam.run_study(study, tmp_path / "output")
    record_study(tmp_path / "output", "kept")
    frame, run = recorded("kept")
    assert run["command"].startswith("iscam study studies/one.yaml")
    assert frame["value"].tolist() == [1] and run["parameters"]["data"] == "some images"
    assert str(tmp_path) not in json.dumps(run)


def test_of_an_unfinished_study_whole_images_are_kept_with_a_command_for_as_many(tmp_path, monkeypatch):
    monkeypatch.setenv("ISCAM_DATA", str(tmp_path / "data"))
    (tmp_path / "data/results").mkdir(parents=True)
    networks = ("menagerie/resnet", "menagerie/vgg")
    study = iscam.Study(networks, count=3, methods={"identity": {}}, metrics=("complexity",))
    frame = iscam.run_study(study, tmp_path / "output")
    rest = frame[(frame["image"] != frame["image"].iloc[-1]) | (frame["model"] != networks[1])]
    for part in (tmp_path / "output").glob("part-*.parquet"):
        part.unlink()
    rest.to_parquet(tmp_path / "output/part-0.parquet")
    (made,) = (tmp_path / "output").glob("run-*.json")
    for number, commit in enumerate(["b", "a", "b"]):
        run = json.loads(made.read_text()) | {"commit": commit, "versions": {"torch": commit}}
        made.with_name(f"run-{number}.json").write_text(json.dumps(run))
    made.unlink()
    record_study(tmp_path / "output", "kept")
    kept, run = recorded("kept")
    assert run["commit"] == run["versions"]["torch"] == "b, a"
    assert len(rest) == 5 and len(kept) == 4
    assert run["command"].endswith(" --count 2")
    assert "2 images" in describe_run(kept, run) and f"`{study_command(run)}`" in describe_run(kept, run)


def test_a_mean_over_networks_is_one_of_all_of_them():
    frame = pd.DataFrame(
        [("a", "0", 0.25), ("b", "0", 0.75), ("a", "1", 0.5), ("a", "2", 0.5), ("b", "2", float("nan"))],
        columns=["model", "image", "value"],
    )
    means = mean_over_models(frame.assign(method="is_cam", metric="energy")).set_index("image")["value"]
    assert means["0"] == 0.5 and means[["1", "2"]].isna().all()


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({"cpu_name": "Some Chip", "amx_bf16": True, "avx512_bf16": True}, "Some Chip CPU with amx_bf16"),
        ({"cpu_name": "Some Chip", "avx512_bf16": False}, "Some Chip CPU"),
    ],
)
def test_a_record_names_the_processor(monkeypatch, known, name):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: known, raising=False)
    assert device_name() == f"{name}, threads: {torch.get_num_threads()}"
    monkeypatch.delattr("torch.cpu.get_capabilities")
    assert device_name() == f"{platform.machine()} CPU, threads: {torch.get_num_threads()}"


def test_of_unfinished_photographs_the_command_asks_for_all(tmp_path, monkeypatch):
    """Fewer would be others."""
    monkeypatch.setenv("ISCAM_DATA", str(tmp_path / "data"))
    (tmp_path / "data/results").mkdir(parents=True)
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (64, 64)).save(tmp_path / "images" / name)
    study = iscam.Study(data=str(tmp_path / "images"), count=2, methods={"identity": {}}, metrics=("complexity",))
    frame = iscam.run_study(study, tmp_path / "output")
    (part,) = (tmp_path / "output").glob("part-*.parquet")
    frame[frame["image"] == "a.png"].to_parquet(part)
    record_study(tmp_path / "output", "kept")
    kept, run = recorded("kept")
    assert kept["image"].tolist() == ["a.png"] and "--count" not in run["command"]


def test_a_difference_of_an_unfinished_run_counts_no_image_that_was_not_run():
    keys = [("a", "0"), ("a", "1"), ("b", "0")]
    rows = [(model, image, method, "energy", 0.5) for model, image in keys for method in ("is_cam", "score_cam")]
    frame = pd.DataFrame(rows, columns=["model", "image", "method", "metric", "value"])
    found = paired(frame, "is_cam", "score_cam").set_index("model")
    assert found["n"].to_dict() == {"a": 2, "b": 1} and (found["failed"] == 0).all()


def timed_line(line: str, task: str, seconds: list[float], precision: str = "fp32") -> dict:
    more = {"megabytes": 1.0, "map_difference": None}
    return {"line": line, "task": task, "passes": 600, "seconds": seconds, "precision": precision} | more


def test_a_benchmark_is_told_beside_the_best_of_its_peers_and_beside_a_matrix_product():
    """Worked out by hand: medians, torch-cam's best batch size at the same task, the best batch's share of the peak."""
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
    table = benchmark_table(run).set_index("line")
    assert table.loc["iscam IS-CAM, compiled", ["times torch-cam", "% of floor", "spread (%)"]].tolist() == [
        2,
        80,
        "100",
    ]
    assert table["times torch-cam"].round(3).tolist()[:3] == [0.6, 1, 1]
    assert np.isnan(table.loc["iscam insertion + deletion, one map, eager", "times torch-cam"])
    peak = peak_table(run)
    assert peak.to_numpy().tolist() == [["fp32", 3.0, pytest.approx(50), pytest.approx(40)]]
    floor = floor_table(run)
    assert floor.to_numpy().tolist() == [["fp32", 8, 500, 400]] and floor["passes in a batch"].dtype == int
