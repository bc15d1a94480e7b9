"""Running studies: every way of running gives the same table, and no row is lost, repeated or mixed."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import filelock
import pytest
import torch

import iscam
from helpers.errors import refused
from helpers.studies import KEYS, OWN_MODEL, OWN_TRANSFORM, TINY, equal_tables, write_images
from iscam.errors import DEVICE_ERRORS, StoreError
from iscam.study.costs import passes, should_compile
from iscam.study.store import read_rows

QUICK = iscam.Study(
    count=4,
    methods={"identity": {}, "random": {}, "score_cam": {}},
    metrics=("average_drop", "average_increase", "energy", "win:score_cam", "mask_energy", "pointing_game", "deletion"),
)

#: A study of four drawings and three quick methods.
CHEAP = replace(QUICK, methods={"identity": {}, "random": {}, "grad_cam": {}}, metrics=("average_drop", "energy"))

#: A script that runs CHEAP into a folder, with one part per image.
SCRIPT = f"""
import sys, iscam, torch
from iscam import Study
from iscam.study import store
torch.set_num_threads(1)
store.SECONDS_PER_PART = 0.0
iscam.run_study({CHEAP!r}, sys.argv[1])
"""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return iscam.run_study(QUICK, tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="module")
def cheap_table(tmp_path_factory):
    return iscam.run_study(CHEAP, tmp_path_factory.mktemp("cheap"))


@pytest.fixture
def parts_per_image(monkeypatch):
    """A part is written after every image."""
    monkeypatch.setattr("iscam.study.store.SECONDS_PER_PART", 0.0)


def runs(folder: Path) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("run-*.json"))]


def test_table_has_every_row_once_and_is_sorted(table):
    assert list(table.columns) == ["model", "image", "target", "method", "metric", "value", "error"]
    assert len(table) == 4 * 3 * 7
    assert not table.duplicated(KEYS).any()
    assert table[KEYS].apply(tuple, axis=1).is_monotonic_increasing
    assert set(table.loc[table["error"] != "", "method"]) == {"score_cam"}
    assert "compared with itself" in table.loc[table["error"] != "", "error"].iloc[0]


def test_identity_has_no_drop_and_no_increase(table):
    identity = table[table["method"] == "identity"].set_index("metric")["value"]
    assert (identity["average_drop"] == 0).all()
    assert (identity["average_increase"] == 0).all()


def test_values_are_those_of_the_metrics(table):
    net, item = iscam.load_model("menagerie/resnet"), iscam.load_images("menagerie", count=4)[1]
    images = item.image[None]
    maps = iscam.explain(net, images, method="score_cam")
    original, explained = iscam.confidence(net, images, maps)
    expected = {
        "average_drop": iscam.average_drop(original, explained),
        "energy": iscam.energy(maps, [item.boxes]),
        "mask_energy": iscam.energy(maps, item.mask[None]),
        "pointing_game": iscam.pointing_game(maps, [item.boxes]),
        "deletion": iscam.deletion(net, images, maps).auc,
    }
    rows = table[(table["image"] == item.name) & (table["method"] == "score_cam")].set_index("metric")["value"]
    for metric, value in expected.items():
        assert rows[metric] == pytest.approx(float(value), abs=1e-6), metric


def kill_when_a_part_appears(folder: Path, chance: random.Random) -> None:
    before = len(list(folder.glob("part-*")))
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, folder], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while process.poll() is None and len(list(folder.glob("part-*"))) == before and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(chance.uniform(0, 0.3))
    process.kill()
    process.wait()


def test_killed_run_resumes_to_the_same_table(cheap_table, tmp_path):
    chance = random.Random(0)
    for _ in range(2):
        kill_when_a_part_appears(tmp_path, chance)
    assert 1 <= read_rows(tmp_path)["image"].nunique() <= 4
    assert equal_tables(iscam.run_study(CHEAP, tmp_path), cheap_table)


def test_two_runs_in_one_folder_give_one_table(cheap_table, tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", SCRIPT, tmp_path]) for _ in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert equal_tables(read_rows(tmp_path), cheap_table)
    assert sum(run["images_computed"] for run in runs(tmp_path)) == 4


def test_run_waits_for_the_lock(tmp_path, monkeypatch):
    """The first attempt does not block and fails; the second one blocks until the other run is done."""
    other = filelock.FileLock(tmp_path / "lock")
    other.acquire()
    acquire, attempts = filelock.FileLock.acquire, []

    def acquire_after_release(lock, *args, **options):
        attempts.append(options.get("blocking", True))
        if attempts[-1]:
            other.release()
        return acquire(lock, *args, **options)

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire_after_release)
    assert len(iscam.run_study(TINY, tmp_path)) == 8
    assert attempts[:2] == [False, True]


@pytest.mark.slow
def test_memory_does_not_grow_with_images(tmp_path, peak_memory):
    """A hundred more images take no more memory, except a few MB of noise and of rows."""
    script = (
        "import sys, iscam\n"
        "study = iscam.Study(count=int(sys.argv[1]), methods={'random': {}}, metrics=('average_drop', 'energy'))\n"
        "iscam.run_study(study, sys.argv[2])"
    )
    peak = {count: peak_memory(script, count, tmp_path / str(count)) for count in (20, 120)}
    assert peak[120] - peak[20] < 30, peak


def test_larger_study_has_the_rows_of_a_smaller_one(tmp_path):
    small = iscam.run_study(TINY, tmp_path / "small")
    large = iscam.run_study(replace(TINY, count=3), tmp_path / "large")
    shared = large[large["image"].isin(small["image"])].reset_index(drop=True)
    assert equal_tables(shared, small)


@pytest.mark.parametrize("wrong", [{"data": "typo"}, {"weights": {"menagerie/resnet": "typo.pth"}}])
def test_failed_start_leaves_no_folder(tmp_path, wrong):
    with refused("typo"):
        iscam.run_study(replace(TINY, **wrong), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "word"), [({"layer": "layer9"}, "layer4"), ({"rank": 25}, "rank of grad_cam must be at most 24")]
)
def test_layer_or_rank_that_does_not_exist_is_refused(tmp_path, options, word):
    with refused(word):
        iscam.run_study(replace(TINY, methods={"grad_cam": options}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("arguments", "word"), [({"study": {}}, "iscam.Study"), ({"engine": "dask"}, "local, ray")])
def test_wrong_arguments_of_run_study_are_refused(arguments, word):
    with refused(word):
        iscam.run_study(**{"study": TINY} | arguments)


def test_disk_that_fills_up_keeps_finished_images(cheap_table, tmp_path, monkeypatch, parts_per_image):
    rename = os.replace
    with monkeypatch.context() as filling:

        def second_fails(partial, file):
            if list(tmp_path.glob("part-*.parquet")):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rename(partial, file)

        filling.setattr(os, "replace", second_fails)
        with refused("No space left", "earlier results are kept", error=StoreError):
            iscam.run_study(CHEAP, tmp_path)
    assert read_rows(tmp_path)["image"].nunique() == 1
    assert not list(tmp_path.glob("*.partial"))
    assert equal_tables(iscam.run_study(CHEAP, tmp_path), cheap_table)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_real_full_or_read_only_disk(cheap_table, tmp_path):
    def mount(*arguments):
        if subprocess.run(["mount", *arguments, str(tmp_path)], capture_output=True).returncode:
            pytest.skip("this machine allows no mounts")

    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    try:
        (tmp_path / "ballast").write_bytes(bytes(52 * 1024))
        with refused("No space left", error=StoreError):
            iscam.run_study(CHEAP, tmp_path)
        read_rows(tmp_path)
        (tmp_path / "ballast").unlink()
        assert equal_tables(iscam.run_study(CHEAP, tmp_path), cheap_table)
        mount("-o", "remount,ro")
        assert equal_tables(iscam.run_study(CHEAP, tmp_path), cheap_table)
        with refused("another study", error=StoreError):
            iscam.run_study(replace(CHEAP, count=5), tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=False)


def test_bad_image_is_named_and_others_are_evaluated(tmp_path):
    folder = write_images(tmp_path / "images", count=5)
    (folder / "3.png").write_bytes(b"no image")
    study = iscam.Study(data=str(folder), count=None, methods={"identity": {}}, metrics=("average_drop", "energy"))
    frame = iscam.run_study(study, tmp_path / "results")
    drops = frame[frame["metric"] == "average_drop"].set_index("image")
    assert drops["value"].isna().sum() == 1
    assert "cannot read the image" in drops.loc["3.png", "error"]
    assert not frame["error"].str.contains("\n").any()
    counts = iscam.summary(frame).set_index("metric")
    assert counts.loc["average_drop", ["n", "failed"]].tolist() == [4, 1]
    assert counts.loc["energy", ["n", "failed"]].tolist() == [0, 5]  # a folder of images has no boxes
    assert "not defined" in frame[frame["metric"] == "energy"]["error"].iloc[0]


def test_undefined_method_does_not_stop_the_others(tmp_path):
    study = replace(TINY, models=("vgg16",), weights={"vgg16": None}, methods={"identity": {}, "cam": {}}, count=1)
    frame = iscam.run_study(study, tmp_path).set_index(["method", "metric"])["error"]
    assert "global average pooling" in frame["cam", "energy"]
    assert frame["identity", "energy"] == ""


def test_layer_and_temperature_of_a_method(tmp_path):
    methods = {
        "grad_cam": {},
        "layer3": {"method": "grad_cam", "layer": "layer3"},
        "cold": {"method": "grad_cam", "temperature": 0.5},
        "cold layer3": {"method": "grad_cam", "temperature": 0.5, "layer": "layer3"},
    }
    frame = iscam.run_study(iscam.Study(count=1, methods=methods, metrics=("energy",)), tmp_path)
    energy = frame.set_index("method")["value"]
    assert energy["cold"] == pytest.approx(energy["grad_cam"], abs=1e-5)
    assert energy["cold layer3"] == pytest.approx(energy["layer3"], abs=1e-5)
    assert energy["layer3"] != pytest.approx(energy["grad_cam"], abs=1e-3)


def test_each_model_gets_images_through_its_own_transform(tmp_path):
    """The user's model takes images of 16x24 in [0, 1]; the menagerie's takes 224x224, normalised."""
    (tmp_path / "own.py").write_text(OWN_TRANSFORM)
    own = f"{tmp_path / 'own.py'}:network"
    study = replace(TINY, models=("menagerie/resnet", own), metrics=("explained_confidence", "energy"))
    frame = iscam.run_study(study, tmp_path / "results")
    assert (frame["error"] == "").all()
    found = frame[frame["method"] == "grad_cam"].set_index(["model", "image", "metric"])["value"]
    for model in study.models:
        net = iscam.load_model(model)
        for item in iscam.load_images("menagerie", count=2, transform=net.transform):
            maps = iscam.explain(net, item.image[None], method="grad_cam")
            _, explained = iscam.confidence(net, item.image[None], maps)
            assert found[model, item.name, "explained_confidence"] == pytest.approx(float(explained), abs=1e-6)
            energy = iscam.energy(maps, [item.boxes])
            assert found[model, item.name, "energy"] == pytest.approx(float(energy), abs=1e-6)


def test_layer_of_each_model(tmp_path):
    layers = {"menagerie/vgg": "features.17", "menagerie/resnet": "layer2"}
    methods = {"earlier": {"method": "grad_cam", "layer": layers}}
    frame = iscam.run_study(iscam.Study(tuple(layers), count=1, methods=methods, metrics=("complexity",)), tmp_path)
    assert (frame["error"] == "").all()


def test_study_with_the_protocol_of_the_score_cam_paper(tmp_path):
    metrics = ("average_drop:half", "average_increase:half", "average_drop", "energy:single", "energy")
    study = iscam.Study(count=12, methods={"grad_cam": {}}, metrics=metrics)
    assert passes(study, channels=4)["metrics"].tolist() == [2]  # with the whole map, and with its upper half
    frame = iscam.run_study(study, tmp_path).set_index(["image", "metric"])
    net = iscam.load_model("menagerie/resnet")
    large = 0
    for item in iscam.load_images("menagerie", count=12):
        maps = iscam.explain(net, item.image[None], method="grad_cam")
        y, o = iscam.confidence(net, item.image[None], maps, keep=0.5)
        assert frame["value"][item.name, "average_drop:half"] == pytest.approx(
            float(iscam.average_drop(y, o)), abs=1e-5
        )
        assert frame["value"][item.name, "average_increase:half"] == float(iscam.average_increase(y, o))
        single = float(iscam.energy(maps, [item.boxes], single=True))
        assert frame["value"][item.name, "energy:single"] == pytest.approx(single, abs=1e-6, nan_ok=True)
        assert ("does not have exactly one box" in frame["error"][item.name, "energy:single"]) == (single != single)
        large += single != single
    assert 0 < large < 12
    assert (frame["error"].drop(index="energy:single", level="metric") == "").all()


def test_rank_explains_another_class_than_the_metrics_judge(tmp_path):
    methods = {"first": {"method": "grad_cam"}, "second": {"method": "grad_cam", "rank": 2}}
    study = iscam.Study(count=1, methods=methods, metrics=("explained_confidence", "complexity"))
    frame = iscam.run_study(study, tmp_path).pivot(index="method", columns="metric", values="value")
    net, images = iscam.load_model("menagerie/resnet"), iscam.load_images("menagerie", count=1)[0].image[None]
    first, second = net(images)[0].topk(2).indices
    maps = iscam.explain(net, images, second[None], "grad_cam")
    assert frame.loc["second", "complexity"] == pytest.approx(float(iscam.complexity(maps)), abs=1e-6)
    explained = iscam.confidence(net, images, maps, first[None])[1]
    assert frame.loc["second", "explained_confidence"] == pytest.approx(float(explained), abs=1e-6)
    assert frame.loc["second", "complexity"] != pytest.approx(frame.loc["first", "complexity"], abs=1e-6)


def test_coherency_uses_the_map_of_the_masked_image(tmp_path):
    study = iscam.Study(count=1, methods={"identity": {}, "score_cam": {}}, metrics=("coherency", "adcc"))
    rows = iscam.run_study(study, tmp_path).set_index(["method", "metric"])
    net, images = iscam.load_model("menagerie/resnet"), iscam.load_images("menagerie", count=1)[0].image[None]
    target = net(images).argmax(1)
    maps = iscam.explain(net, images, target, "score_cam")
    again = iscam.explain(net, images * maps, target, "score_cam")
    y, o = iscam.confidence(net, images, maps, target)
    for metric, expected in {"coherency": iscam.coherency(maps, again), "adcc": iscam.adcc(y, o, maps, again)}.items():
        assert rows.loc[("score_cam", metric), "value"] == pytest.approx(float(expected), abs=1e-6)
    assert "constant" in rows.loc[("identity", "coherency"), "error"]


def test_controls_that_need_drawings(tmp_path):
    methods = {"identity": {}, "oracle": {}, "part_area": {}}
    study = iscam.Study(count=3, methods=methods, metrics=("part_correlation", "decisive_part"))
    mean = iscam.summary(iscam.run_study(study, tmp_path)).set_index(["method", "metric"])["mean"]
    assert mean["identity", "part_correlation"] == 0
    assert mean["oracle", "part_correlation"] > max(0.2, mean["part_area", "part_correlation"])


def test_each_run_leaves_its_provenance(tmp_path):
    iscam.run_study(TINY, tmp_path)
    (run,) = runs(tmp_path)
    assert run["images_computed"] == 2
    assert run["parameters"]["count"] == 2
    assert run["compile"] is False
    assert run["argv"] and run["command"]
    assert run["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_folder_has_only_results(tmp_path):
    iscam.run_study(TINY, tmp_path)
    assert {file.name.split("-")[0] for file in tmp_path.iterdir()} == {"study.json", "part", "run", "lock"}


def own_model(folder: Path, failures: int, error: str) -> str:
    """A user's model in a file that raises `error` at a forward pass, once."""
    (folder / "own.py").write_text(OWN_MODEL.replace("ERROR", error))
    (folder / "failures").write_text(str(failures))
    return f"{folder / 'own.py'}:network"


@pytest.mark.parametrize("error", DEVICE_ERRORS)
def test_device_failure_ends_the_run_and_a_rerun_resumes(tmp_path, error, parts_per_image):
    name = own_model(tmp_path, failures=12, error=f"{error.__module__}.{error.__name__}".replace("builtins.", ""))
    study = replace(TINY, models=(name,), count=4, metrics=("average_drop",))
    with pytest.raises(error, match="the device failed"):
        iscam.run_study(study, tmp_path / "results")
    done = read_rows(tmp_path / "results")
    assert 0 < done["image"].nunique() < 4
    frame = iscam.run_study(study, tmp_path / "results")
    assert (frame["error"] == "").all()
    assert frame["image"].nunique() == 4


def test_failure_of_the_model_is_recorded_in_its_row(tmp_path):
    name = own_model(tmp_path, failures=12, error="KeyError")
    frame = iscam.run_study(replace(TINY, models=(name,), count=4), tmp_path / "results")
    assert frame["image"].nunique() == 4
    assert frame["error"].str.contains("the device failed").sum() in range(1, 5)  # one value, one map or one image


def test_changed_code_of_a_users_model_is_noticed(tmp_path):
    name = own_model(tmp_path, failures=10**6, error="KeyError")
    study = replace(TINY, models=(name,))
    iscam.run_study(study, tmp_path / "results")
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text() + "# changed\n")
    with refused("code of", "own.py", "changed", error=StoreError):
        iscam.run_study(study, tmp_path / "results")


def test_compiling_pays_off_for_many_passes_of_one_worker():
    assert not should_compile(1000, 1, "cpu")
    assert should_compile(10**9, 1, "cpu") == should_compile(10**9, 4, "cuda")
    assert not should_compile(10**6, 100, "cpu")
    assert not should_compile(10**9, 1, "mps")


def test_passes_are_those_of_one_image(tmp_path):
    """The model itself counts the passes. A backward pass counts as two forward passes."""
    name = own_model(tmp_path, failures=10**6, error="KeyError")
    methods = {"score_cam": {}, "ss_cam": {"samples": 2}, "is_cam": {"steps": 3}}
    methods |= {"three": {"method": "is_cam", "nodes": 3}, "grad_cam": {}, "identity": {}}
    study = iscam.Study((name,), count=1, methods=methods, metrics=("insertion", "average_drop", "complexity"))
    table = passes(study, channels=4).set_index("method")
    assert table["map"].to_dict() == {
        "score_cam": 5,
        "ss_cam": 9,
        "is_cam": 13,
        "three": 13,
        "grad_cam": 3,
        "identity": 1,
    }
    assert (table["metrics"] == 226).all()
    assert (table["total"] == table["map"] + table["metrics"]).all()


def test_passes_of_an_own_metric_do_not_depend_on_the_step(monkeypatch):
    own = iscam.Metric(lambda inputs: inputs.maps.amax((1, 2)), "own", "own (%) ↑", "higher", passes=7)
    monkeypatch.setitem(iscam.METRICS, "own", own)
    study = iscam.Study(methods={"grad_cam": {}}, metrics=("own",), pixels_per_step=1000)
    assert passes(study, channels=4)["metrics"].tolist() == [7]


def test_steps_of_the_curves(tmp_path):
    metrics = ("insertion", "deletion", "insertion:blur", "energy")
    study = iscam.Study(count=1, methods={"grad_cam": {}}, metrics=metrics, pixels_per_step=1000)
    assert passes(study, channels=4)["metrics"].tolist() == [3 * (1 + 51)]  # 50,176 pixels
    found = iscam.run_study(study, tmp_path).set_index("metric")["value"]
    net = iscam.load_model("menagerie/resnet")
    images = next(iter(iscam.load_images("menagerie", count=1))).image[None]
    maps = iscam.explain(net, images, method="grad_cam")
    curves = {
        "insertion": iscam.insertion(net, images, maps, pixels_per_step=1000),
        "deletion": iscam.deletion(net, images, maps, pixels_per_step=1000),
        "insertion:blur": iscam.insertion(net, images, maps, pixels_per_step=1000, start="blur"),
    }
    for metric, curve in curves.items():
        assert found[metric] == pytest.approx(float(curve.auc), abs=1e-5)
