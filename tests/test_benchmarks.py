"""The benchmark scripts run with small settings: they write their results, and an interrupted run resumes."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest

import iscam
from iscam.reproduction.benchmarks import benchmark_table, floor_table

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)  # worker processes look for them there, too


@pytest.mark.slow
def test_speed_lines_and_floors(tmp_path):
    pytest.importorskip("psutil")
    speed = importlib.import_module("speed")
    speed.main(model="menagerie/vgg", steps=2, repeats=3, bf16=False, output=tmp_path / "speed.json", layer=None)
    run = json.loads((tmp_path / "speed.json").read_text())
    table = benchmark_table(run)
    ours = table[table["line"].str.startswith("iscam")]
    assert len(ours) == 12 and (table["seconds"] > 0).all()
    full = ~table["line"].str.contains("first layer once|options|15")
    assert (table.loc[full, "% of floor"] < 110).all(), "faster than bare passes"
    approximate = ours["line"].str.contains("midpoints")
    assert all(float(value) < 1e-4 for value in ours["largest difference"][~approximate] if value != "–")
    assert all(0 < float(value) < 0.1 for value in ours["largest difference"][approximate])
    assert run["command"] == "python benchmarks/speed.py --model menagerie/vgg --steps 2 --repeats 3"
    bare = floor_table(run)
    assert bare["passes in a batch"].tolist() == [4, 8, 16, 32, 64, 128, 256]
    assert bare[["uncompiled", "compiled"]].to_numpy().max() == pytest.approx(run["floors"]["fp32"])
    assert run["rates"]["menagerie/vgg"]["fp32"] < run["floors"]["fp32"] * 1.1


@pytest.mark.slow
def test_speed_quick_lines(tmp_path):
    pytest.importorskip("psutil")
    pytest.importorskip("torchcam")
    speed = importlib.import_module("speed")
    speed.main(model="menagerie/resnet", quick=True, bf16=False, output=tmp_path / "speed.json", layer=None)
    run = json.loads((tmp_path / "speed.json").read_text())
    lines = [row["line"] for row in run["lines"]]
    assert {"iscam Score-CAM", "iscam IS-CAM, default options", "torch-cam IS-CAM"} < set(lines) and len(lines) == 5
    table = benchmark_table(run).set_index("line")
    assert table.loc["iscam IS-CAM, default options", "times torch-cam"] > 0
    assert run["command"] == "python benchmarks/speed.py --model menagerie/resnet --quick"


def test_nodes_resumes_and_errors_fall_with_the_passes(tmp_path):
    nodes, output = importlib.import_module("nodes"), tmp_path / "nodes.parquet"
    small = {"model": "menagerie/resnet", "channels": 4, "many": 24, "compiled": False, "output": output}
    nodes.main(count=2, **small)
    both = pd.read_parquet(output)
    assert both["image"].nunique() == 2
    gauss = both[(both["rule"] == "Gauss") & (both["of"] == "integral")].groupby("passes a channel")["map error"].max()
    assert gauss[20] < gauss[6] < gauss[1]
    assert gauss[20] < 1e-3, "the two rules for the integral disagree"
    of_sum = both[both["of"] == "sum of 15 steps"].groupby(["rule", "passes a channel"])["map error"].max()
    assert 0 < of_sum["midpoint", 5] < 0.2
    first = both[both["image"] == both["image"].iloc[0]].assign(**{"map error": 0.5})  # shows that the row is kept
    first.to_parquet(output)
    nodes.main(count=2, **small)
    resumed = pd.read_parquet(output)
    pd.testing.assert_frame_equal(resumed.iloc[: len(first)].reset_index(drop=True), first.reset_index(drop=True))
    pd.testing.assert_frame_equal(resumed.iloc[len(first) :], both.iloc[len(first) :])
    with pytest.raises(iscam.InputError, match="choose another file"):
        nodes.main(count=3, **small)
