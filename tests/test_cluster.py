"""Studies on Ray: a cluster of two workers gives the local engine's rows, whatever happens to a worker."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import iscam
from helpers.networks import pooled_case
from iscam.data import ImageDataset, load_images
from iscam.study.costs import passes
from iscam.study.evaluate import image_rows

STUDY = iscam.Study(count=4, methods={"identity": {}, "grad_cam": {}}, metrics=("average_drop", "energy"))


@pytest.fixture(scope="module")
def cluster():
    """Address of a cluster of two cores that is there already."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    alone = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # quicker to start
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **alone})
    yield running.address
    running.shutdown()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return iscam.run_study(STUDY, tmp_path_factory.mktemp("local"))


def same(a: pd.DataFrame, b: pd.DataFrame) -> bool:
    return a.drop(columns="value").equals(b.drop(columns="value")) and np.allclose(
        a["value"], b["value"], atol=1e-5, equal_nan=True
    )


def test_two_workers_give_the_local_rows(cluster, table, tmp_path):
    assert same(iscam.run_study(STUDY, tmp_path, engine="ray", address=cluster), table)


def with_a_deadly_image(monkeypatch, mark: Path | None) -> str:
    """Makes the second image kill the workers that read it: the first one alone if given a `mark`; its name."""
    dataset = load_images(STUDY.data, STUDY.count, STUDY.seed)
    first, second, *rest = dataset.entries

    def deadly():  # a function in a function, since the workers know no module of the tests
        if mark is None or not mark.exists():
            if mark:
                mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return second.read()

    entries = [first, replace(second, read=deadly), *rest]
    monkeypatch.setattr("iscam.study.run.load_images", lambda *_: ImageDataset(entries, dataset.transform))
    return second.name


def test_a_worker_killed_in_the_middle_costs_no_row(cluster, table, tmp_path, monkeypatch):
    with_a_deadly_image(monkeypatch, tmp_path / "mark")
    assert same(iscam.run_study(STUDY, tmp_path / "results", engine="ray", address=cluster), table)
    assert (tmp_path / "mark").exists()


@pytest.mark.slow
def test_an_image_that_no_worker_survives_is_named_and_the_rest_is_done(cluster, table, tmp_path, monkeypatch):
    name = with_a_deadly_image(monkeypatch, None)
    frame = iscam.run_study(STUDY, tmp_path, engine="ray", address=cluster)
    bad = frame["image"] == name
    assert len(frame) == len(table)
    assert frame[bad]["error"].str.contains("workers were lost").all() and bad.sum() == 4
    assert same(frame[~bad].reset_index(drop=True), table[table["image"] != name].reset_index(drop=True))


def test_relative_paths_mean_the_same_on_the_workers(cluster, tmp_path, monkeypatch):
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.fromarray(iscam.menagerie.draw("Whippet", 0).image).save(tmp_path / "images/whippet.png")
    monkeypatch.chdir(tmp_path)
    chosen = replace(STUDY, data="images", metrics=("average_drop",))
    frame = iscam.run_study(chosen, "results", engine="ray", address=cluster)
    assert (frame["error"] == "").all()


def test_no_cluster_at_the_address(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(iscam.InputError, match="no Ray cluster answers"):
        iscam.run_study(STUDY, tmp_path, engine="ray", address="127.0.0.1:1")


def test_passes_are_those_that_an_image_takes(monkeypatch):
    """Counted by a hook; a gradient's way back is no forward pass."""
    case = pooled_case()
    methods = {
        "score_cam": {},
        "ss_cam": {"samples": 2},
        "is_cam": {"steps": 3},
        "three": {"method": "is_cam", "nodes": 3},
    }
    methods |= {"grad_cam": {}, "smooth_grad_cam_pp": {"samples": 4}, "identity": {}}
    chosen = iscam.Study(count=1, methods=methods, metrics=("insertion", "deletion", "average_drop", "complexity"))
    seen = 0

    def count(module, inputs):
        nonlocal seen
        seen += len(inputs[0])

    case.net.model.register_forward_pre_hook(count)
    rows = image_rows(chosen, "pooled", case.net, load_images("menagerie", 1), 0)
    assert all(row["error"] == "" for row in rows)
    monkeypatch.setattr("iscam.study.costs.GRADIENT", 1)
    alive = 7  # channel 2 is constant
    assert 0 <= seen - passes(chosen, alive)["total"].sum() <= 3
