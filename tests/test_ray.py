"""Studies on Ray: a cluster of two workers gives the local rows, whatever happens to a worker."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import iscam
from helpers.errors import refused
from helpers.studies import OWN_MODEL, TINY, equal_tables, write_images
from iscam.data import ImageDataset, load_images
from iscam.errors import ClusterError

STUDY = replace(TINY, count=4)


@pytest.fixture(scope="module")
def cluster():
    """Address of a running cluster of two cores."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    alone = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}  # starts faster
    running = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, **alone})
    yield running.address
    running.shutdown()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return iscam.run_study(STUDY, tmp_path_factory.mktemp("local"))


def test_two_workers_give_the_local_rows(cluster, table, tmp_path):
    assert equal_tables(iscam.run_study(STUDY, tmp_path, engine="ray", address=cluster), table, 1e-5)
    (run,) = (json.loads(file.read_text()) for file in tmp_path.glob("run-*.json"))
    assert run["images_computed"] == 4
    assert "GPU" in run["device"] or run["device"].endswith("threads: 1"), "the workers' device, not the driver's"


def with_a_deadly_image(monkeypatch, mark: Path | None) -> str:
    """Make the second image kill its workers (with `mark`, only the first one). Returns the image's name."""
    dataset = load_images(STUDY.data, STUDY.count, STUDY.seed)
    driver = os.getpid()
    first, second, *rest = dataset.entries

    def deadly():  # a function in a function, because the workers cannot import the tests
        if os.getpid() != driver and (mark is None or not mark.exists()):
            if mark:
                mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return second.read()

    entries = [first, replace(second, read=deadly), *rest]
    monkeypatch.setattr("iscam.study.run.load_images", lambda *_: ImageDataset(entries, dataset.transform))
    return second.name


def test_killed_worker_loses_no_row(cluster, table, tmp_path, monkeypatch):
    with_a_deadly_image(monkeypatch, tmp_path / "mark")
    assert equal_tables(iscam.run_study(STUDY, tmp_path / "results", engine="ray", address=cluster), table, 1e-5)
    assert (tmp_path / "mark").exists()


@pytest.mark.slow
def test_image_that_no_worker_survives_is_named(cluster, table, tmp_path, monkeypatch):
    name = with_a_deadly_image(monkeypatch, None)
    frame = iscam.run_study(STUDY, tmp_path, engine="ray", address=cluster)
    bad = frame["image"] == name
    assert len(frame) == len(table)
    assert frame[bad]["error"].str.contains("workers were lost").all()
    assert bad.sum() == 4
    others = table[table["image"] != name].reset_index(drop=True)
    assert equal_tables(frame[~bad].reset_index(drop=True), others, 1e-5)


def test_relative_paths_and_own_models_work_on_workers(cluster, tmp_path, monkeypatch):
    write_images(tmp_path / "images")
    (tmp_path / "own.py").write_text(OWN_MODEL)
    monkeypatch.chdir(tmp_path)
    study = replace(STUDY, models=("own.py:network",), data="images", metrics=("average_drop",))
    frame = iscam.run_study(study, "results", engine="ray", address=cluster)
    assert (frame["error"] == "").all()
    assert len(frame) == 4


def test_bad_network_is_refused_before_the_folder_exists(cluster, tmp_path):
    study = replace(STUDY, methods={"grad_cam": {"layer": "layer9"}})
    with refused("layer4"):
        iscam.run_study(study, tmp_path / "out", engine="ray", address=cluster)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999"])
def test_address_without_a_cluster_is_refused(tmp_path, address):
    pytest.importorskip("ray")
    with refused("no Ray cluster answers", error=ClusterError):
        iscam.run_study(STUDY, tmp_path / "out", engine="ray", address=address)
    assert not (tmp_path / "out").exists()


def test_missing_ray_is_a_cluster_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)  # Ray appears to be missing
    with refused("iscam[ray]", error=ClusterError):
        iscam.run_study(STUDY, tmp_path / "out", engine="ray")
