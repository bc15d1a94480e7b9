"""The two benchmark scripts, run small: that they run, what they write, and that an interrupted run goes on."""

import importlib
import json
from pathlib import Path

import pandas as pd
import pytest

from iscam import InputError
from iscam.reproduction.benchmarks import benchmark_table, floor_table

SCRIPTS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)  # where worker processes look for them, too


@pytest.mark.slow
def test_speed_is_told_beside_peers_and_beside_a_floor_that_no_line_of_whole_passes_beats(tmp_path, monkeypatch):
    pytest.importorskip("psutil")
    speed = importlib.import_module("speed")
    monkeypatch.setattr(speed, "BATCHES", (8, 32))
    speed.main(model="menagerie/vgg", steps=2, repeats=3, bf16=False, output=tmp_path / "speed.json", layer=None)
    run = json.loads((tmp_path / "speed.json").read_text())
    table = benchmark_table(run)
    ours = table[table["line"].str.startswith("iscam")]
    assert len(ours) == 13 and (table["seconds"] > 0).all()
    assert (table.loc[~table["line"].str.contains("first layer once|options|15"), "% of floor"] < 110).all()
    fewer = ours["line"].str.contains("midpoints")
    assert all(float(value) < 1e-4 for value in ours["largest difference"][~fewer] if value != "–")
    assert all(0 < float(value) < 0.1 for value in ours["largest difference"][fewer])
    assert run["command"] == "python benchmarks/speed.py --model menagerie/vgg --steps 2 --repeats 3"
    bare = floor_table(run)
    assert bare[["precision", "passes in a batch"]].values.tolist() == [["fp32", 8], ["fp32", 32]]
    assert bare[["uncompiled", "compiled"]].to_numpy().max() == pytest.approx(run["floors"]["fp32"])
    assert run["rates"]["menagerie/vgg"]["fp32"] < run["floors"]["fp32"] * 1.1


@pytest.mark.slow
def test_nodes_falls_with_the_passes_and_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    nodes, output = importlib.import_module("nodes"), tmp_path / "nodes.parquet"
    errors, seen = nodes.errors, []

    def interrupted(view, *options):
        if seen:
            raise KeyboardInterrupt
        seen.append(view)
        return errors(view, *options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(nodes, "errors", interrupted)
        nodes.main(model="menagerie/resnet", count=2, output=output)
    first = pd.read_parquet(output)
    assert first["image"].nunique() == 1
    nodes.main(model="menagerie/resnet", count=2, output=output)
    both = pd.read_parquet(output)
    assert both["image"].nunique() == 2
    pd.testing.assert_frame_equal(both.iloc[: len(first)], first)
    gauss = both[(both["rule"] == "Gauss") & (both["of"] == "integral")].groupby("passes a channel")["map error"].max()
    assert gauss[6] < gauss[2] < gauss[1]
    assert gauss[40] < 1e-4, "the two rules that the integral is known from disagree"
    of_sum = both[both["of"] == "sum of 15 steps"].groupby(["rule", "passes a channel"])["map error"].max()
    assert 0 < of_sum["midpoint", 5] < of_sum["midpoint", 2] < 0.2
    with pytest.raises(InputError, match="choose another"):
        nodes.main(model="menagerie/resnet", count=3, output=output)
