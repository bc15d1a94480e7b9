"""Studies: the same table however they are run, and nothing of it lost or mixed."""

import dataclasses
import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import iscam
from iscam.errors import DEVICE_ERRORS
from iscam.menagerie import draw
from iscam.study.statistics import summary
from iscam.study.store import fingerprint, locked, read_rows, write_part

QUICK = iscam.Study(
    count=4,
    methods={"identity": {}, "random": {}, "score_cam": {}},
    metrics=("average_drop", "average_increase", "energy", "win:score_cam", "mask_energy"),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return iscam.run_study(QUICK, tmp_path_factory.mktemp("quick"))


def test_the_table_has_every_row_once_and_is_sorted(table):
    assert list(table.columns) == ["model", "image", "target", "method", "metric", "value", "error"]
    keys = ["model", "image", "method", "metric"]
    assert len(table) == 4 * 3 * 5 and not table.duplicated(keys).any()
    assert table[keys].apply(tuple, axis=1).is_monotonic_increasing
    identity = table[table["method"] == "identity"].set_index("metric")["value"]
    assert (identity["average_drop"] == 0).all() and (identity["average_increase"] == 0).all()
    assert (table["error"] == "").all()


def test_values_are_those_of_the_metrics_themselves(table):
    net, item = iscam.load_model("menagerie/resnet"), iscam.load_images("menagerie", count=4)[1]
    images = item.image[None]
    maps = iscam.explain(net, images, method="score_cam")
    original, explained = iscam.confidence(net, images, maps)
    rows = table[(table["image"] == item.name) & (table["method"] == "score_cam")].set_index("metric")["value"]
    assert rows["average_drop"] == pytest.approx(float(iscam.average_drop(original, explained)), abs=1e-6)
    assert rows["energy"] == pytest.approx(float(iscam.energy(maps, [item.boxes])), abs=1e-6)
    assert rows["mask_energy"] == pytest.approx(
        float(iscam.energy(maps, torch.from_numpy(item.drawing.mask)[None])), abs=1e-6
    )
    assert rows["win:score_cam"] == 0


def same(a: pd.DataFrame, b: pd.DataFrame, tolerance: float = 1e-6) -> bool:
    return a.drop(columns="value").equals(b.drop(columns="value")) and np.allclose(
        a["value"], b["value"], atol=tolerance, equal_nan=True
    )


def killed(chosen, folder, kills):
    """Start a study again and again and kill it at random moments, before or after it has written a part."""
    script = (
        f"import iscam, iscam.study, sys\niscam.study.SECONDS_A_PART = 0.0\niscam.run_study({chosen!r}, sys.argv[1])"
    )
    script = script.replace("Study(", "iscam.Study(", 1)
    chance = random.Random(0)
    for kill in range(kills):
        running = subprocess.Popen([sys.executable, "-c", script, folder], stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        before = len(list(folder.glob("part-*"))) - (kill % 4 == 3)  # each fourth may be killed before it has begun
        while running.poll() is None and len(list(folder.glob("part-*"))) == before and time.monotonic() < until:
            time.sleep(chance.uniform(0.01, 0.1))
        time.sleep(chance.uniform(0, 0.2))
        running.send_signal(signal.SIGKILL) if os.name != "nt" else running.kill()
        running.wait()
    assert list(folder.glob("part-*.parquet")), "the runs were killed before they wrote anything"


def test_killed_at_random_moments_it_ends_with_the_same_table(table, tmp_path):
    killed(QUICK, tmp_path, kills=3)
    assert same(iscam.run_study(QUICK, tmp_path), table)


@pytest.mark.slow
def test_killed_ten_times_it_ends_with_the_same_table(tmp_path):
    chosen = iscam.Study(count=60, methods={"identity": {}, "random": {}}, metrics=("average_drop", "energy"))
    killed(chosen, tmp_path / "killed", kills=10)
    done = read_rows(tmp_path / "killed")
    assert 0 < done["image"].nunique() < 60, "it was to be killed on its way"
    assert same(iscam.run_study(chosen, tmp_path / "killed"), iscam.run_study(chosen, tmp_path / "whole"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path, peak_memory):
    """A hundred images more take no more memory, to a few MB of noise and of rows."""
    script = (
        "import sys, iscam\n"
        "study = iscam.Study(count=int(sys.argv[1]), methods={'random': {}}, metrics=('average_drop', 'energy'))\n"
        "iscam.run_study(study, sys.argv[2])"
    )
    peak = {count: peak_memory(script, count, tmp_path / str(count)) for count in (20, 120)}
    print(f"peak memory in MB: {peak}")
    assert peak[120] - peak[20] < 30, peak


def test_nothing_is_computed_twice(table, tmp_path, monkeypatch):
    iscam.run_study(QUICK, tmp_path)
    monkeypatch.setattr(
        "iscam.study.evaluate.image_rows", lambda *_: pytest.fail("a finished image was computed again")
    )
    assert same(iscam.run_study(QUICK, tmp_path), table)


def test_another_study_is_refused(tmp_path):
    iscam.run_study(iscam.Study(count=1, methods={"identity": {}}, metrics=("energy",)), tmp_path)
    with pytest.raises(iscam.InputError, match="another study"):
        iscam.run_study(iscam.Study(count=2, methods={"identity": {}}, metrics=("energy",)), tmp_path)


def test_a_start_that_fails_leaves_the_folder_to_the_next(tmp_path):
    chosen = iscam.Study(data=str(tmp_path / "typo"), methods={"identity": {}}, metrics=("energy",))
    out = tmp_path / "out"
    for wrong in (chosen, dataclasses.replace(chosen, data="menagerie", weights={"menagerie/resnet": "typo.pth"})):
        with pytest.raises(iscam.InputError, match="typo"):
            iscam.run_study(wrong, out)
        assert not out.exists()
    right = dataclasses.replace(chosen, data="menagerie", count=1)
    assert len(iscam.run_study(right, out)) == 1


def test_a_finished_study_needs_its_networks_no_more(tmp_path, monkeypatch):
    chosen = iscam.Study(count=1, methods={"identity": {}}, metrics=("energy",))
    frame = iscam.run_study(chosen, tmp_path)
    monkeypatch.setattr("iscam.study.evaluate.get_network", lambda *_: pytest.fail("a network was loaded for nothing"))
    assert same(iscam.run_study(chosen, tmp_path), frame)


def test_trying_out_options_costs_next_to_nothing(monkeypatch):
    """However many steps, samples or passes they ask for."""
    methods = {
        "smooth_grad_cam_pp": {"samples": 10**6},
        "ss_cam": {"samples": 10**6},
        "is_cam": {"steps": 10**6, "compile": True},
        "cam": {"layer": "layer4"},
    }
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **__: pytest.fail("compiling takes a minute"))
    started = time.monotonic()
    iscam.Study(methods=methods)
    assert time.monotonic() - started < 5


def hold(folder, taken, free):
    with locked(folder):
        taken.set()
        free.wait(60)


def test_a_second_run_waits_for_the_first(tmp_path):
    context = multiprocessing.get_context("spawn")
    first_in, second_in, free = context.Event(), context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path, first_in, free))
    second = context.Process(target=hold, args=(tmp_path, second_in, free))
    first.start()
    assert first_in.wait(60)
    second.start()
    assert not second_in.wait(15), "the second run did not wait"
    free.set()
    assert second_in.wait(60)
    first.join(60)
    second.join(60)
    assert first.exitcode == second.exitcode == 0


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(iscam.InputError, match="cannot write"):
        iscam.run_study(QUICK, tmp_path / "file" / "results")


def test_a_full_disk_leaves_what_was_written(tmp_path, monkeypatch):
    iscam.run_study(iscam.Study(count=1, methods={"identity": {}}, metrics=("energy",)), tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(iscam.InputError, match="No space left"):
        write_part(tmp_path, [])
    assert len(read_rows(tmp_path)) == 1 and not list(tmp_path.glob("*.partial"))


def test_a_disk_that_fills_up_ends_the_run_with_one_line_and_it_continues_later(table, tmp_path, monkeypatch):
    """A run that cannot write its second part keeps the first, and a later one, with room, needs only the rest."""
    monkeypatch.setattr("iscam.study.store.SECONDS_A_PART", 0.0)
    rename = os.replace
    with monkeypatch.context() as filling:

        def second_fails(partial, file):
            if list(tmp_path.glob("part-*.parquet")):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rename(partial, file)

        filling.setattr(os, "replace", second_fails)
        with pytest.raises(iscam.InputError, match=r"No space left.*written before is whole"):
            iscam.run_study(QUICK, tmp_path)
    assert read_rows(tmp_path)["image"].nunique() == 1 and not list(tmp_path.glob("*.partial"))
    assert same(iscam.run_study(QUICK, tmp_path), table)


def test_a_store_that_can_only_be_read(tmp_path, monkeypatch):
    iscam.run_study(QUICK, tmp_path)

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("filelock.FileLock.acquire", read_only)
    with pytest.raises(iscam.InputError, match=r"cannot write to .*Read-only"):
        iscam.run_study(QUICK, tmp_path)
    assert len(read_rows(tmp_path)) == 4 * 3 * 5


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full_or_read_only(table, tmp_path):
    def mount(*arguments):
        if subprocess.run(["mount", *arguments, str(tmp_path)], capture_output=True).returncode:
            pytest.skip("this machine lets nobody mount")

    mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    try:
        (tmp_path / "ballast").write_bytes(bytes(52 * 1024))
        with pytest.raises(iscam.InputError, match="No space left"):
            iscam.run_study(QUICK, tmp_path)
        read_rows(tmp_path)
        (tmp_path / "ballast").unlink()
        assert same(iscam.run_study(QUICK, tmp_path), table)
        mount("-o", "remount,ro")
        with pytest.raises(iscam.InputError, match="cannot write"):
            iscam.run_study(dataclasses.replace(QUICK, count=5), tmp_path)
        assert same(read_rows(tmp_path), table)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=False)


def test_corrupt_images_are_named_and_the_rest_is_done(tmp_path):
    for i in range(5):
        Image.fromarray(draw("Whippet", i).image).save(tmp_path / f"{i}.png")
    (tmp_path / "3.png").write_bytes(b"no image")
    chosen = iscam.Study(data=str(tmp_path), count=None, methods={"identity": {}}, metrics=("average_drop", "energy"))
    frame = iscam.run_study(chosen, tmp_path / "results")
    drops = frame[frame["metric"] == "average_drop"].set_index("image")
    assert drops["value"].isna().sum() == 1 and "cannot read the image" in drops.loc["3.png", "error"]
    counts = summary(frame).set_index("metric")
    assert counts.loc["average_drop", ["n", "failed"]].tolist() == [4, 1]
    assert counts.loc["energy", ["n", "failed"]].tolist() == [0, 5]  # a folder of images has no boxes
    assert "not defined" in frame[frame["metric"] == "energy"]["error"].iloc[0]


def test_a_method_that_is_not_defined_does_not_stop_the_others(tmp_path):
    chosen = iscam.Study(
        ("vgg16",), count=1, methods={"identity": {}, "cam": {}}, metrics=("energy",), weights={"vgg16": None}
    )
    frame = iscam.run_study(chosen, tmp_path).set_index("method")
    assert "global average pooling" in frame.loc["cam", "error"] and frame.loc["identity", "error"] == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"methods": {"no_cam": {}}},
        {"methods": {"is_cam": {"method": "no_cam"}}},
        {"metrics": ("accuracy",)},
        {"metrics": ("win:ss_cam",)},
        {"methods": {"is_cam": {"rank": 0}}},
        {"precision": "fp8"},
        {"weights": {"vgg16": None}},
        {"methods": {}},
        {"methods": {"is_cam": {"schedule": np.array([0.5, 1])}}},
        {"models": ("menagerie/resnet", "menagerie/resnet")},
        {"metrics": ("insertion", "energy", "insertion")},
        {"data": "photographs", "metrics": ("mask_energy",)},
        {"data": "photographs", "methods": {"oracle": {}}},
        {"count": 0},
        {"seed": -1},
    ],
)
def test_a_study_that_cannot_run_is_refused_at_once(fields):
    with pytest.raises(iscam.InputError):
        iscam.Study(**fields)


@pytest.mark.slow
def test_on_ray_the_rows_are_the_same(table, tmp_path):
    pytest.importorskip("ray")
    assert same(iscam.run_study(QUICK, tmp_path, engine="ray"), table, 1e-5)
    device = json.loads(next(tmp_path.glob("run-*.json")).read_text())["device"]
    assert torch.cuda.is_available() or device.endswith("threads: 1"), "the workers' device, not the driver's"


def test_layer_and_temperature_of_a_method(tmp_path):
    methods = {
        "grad_cam": {},
        "layer3": {"method": "grad_cam", "layer": "layer3"},
        "cold": {"method": "grad_cam", "temperature": 0.5},
    }
    frame = iscam.run_study(iscam.Study(count=1, methods=methods, metrics=("energy",)), tmp_path).set_index("method")
    assert frame.loc["cold", "value"] == pytest.approx(frame.loc["grad_cam", "value"], abs=1e-5)
    assert frame.loc["layer3", "value"] != pytest.approx(frame.loc["grad_cam", "value"], abs=1e-3)


def test_layer_of_each_model(tmp_path):
    layers = {"menagerie/vgg": "features.24", "menagerie/resnet": "layer3"}
    methods = {"earlier": {"method": "grad_cam", "layer": layers}}
    frame = iscam.run_study(iscam.Study(tuple(layers), count=1, methods=methods, metrics=("complexity",)), tmp_path)
    assert (frame["error"] == "").all()


def test_rank_explains_another_class_and_the_metrics_judge_by_the_predicted_one(tmp_path):
    methods = {"first": {"method": "grad_cam"}, "second": {"method": "grad_cam", "rank": 2}}
    chosen = iscam.Study(count=1, methods=methods, metrics=("explained_confidence", "complexity"))
    frame = iscam.run_study(chosen, tmp_path).pivot(index="method", columns="metric", values="value")
    net, images = iscam.load_model("menagerie/resnet"), iscam.load_images("menagerie", count=1)[0].image[None]
    first, second = net(images)[0].topk(2).indices
    maps = iscam.explain(net, images, second[None], "grad_cam")
    assert frame.loc["second", "complexity"] == pytest.approx(float(iscam.complexity(maps)), abs=1e-6)
    explained = iscam.confidence(net, images, maps, first[None])[1]
    assert frame.loc["second", "explained_confidence"] == pytest.approx(float(explained), abs=1e-6)
    assert frame.loc["second", "complexity"] != pytest.approx(frame.loc["first", "complexity"], abs=1e-6)


def test_coherency_and_adcc_make_the_map_again(tmp_path, monkeypatch):
    methods = {"identity": {}, "random": {}, "score_cam": {}}
    metrics = ("coherency", "adcc", "average_gain")
    frame = iscam.run_study(iscam.Study(count=1, methods=methods, metrics=metrics), tmp_path)
    rows = frame.set_index(["method", "metric"])
    net, images = iscam.load_model("menagerie/resnet"), iscam.load_images("menagerie", count=1)[0].image[None]
    target = net(images).argmax(1)
    maps = iscam.explain(net, images, target, "score_cam")
    again = iscam.explain(net, images * maps, target, "score_cam")
    y, o = iscam.confidence(net, images, maps, target)
    for metric, expected in {"coherency": iscam.coherency(maps, again), "adcc": iscam.adcc(y, o, maps, again)}.items():
        assert rows.loc[("score_cam", metric), "value"] == pytest.approx(float(expected), abs=1e-6)
        assert "constant" in rows.loc[("identity", "coherency"), "error"]
    calls = []
    monkeypatch.setattr(
        "iscam.study.evaluate.explain", lambda *args, **options: calls.append(1) or iscam.explain(*args, **options)
    )
    iscam.run_study(iscam.Study(count=1, methods=methods, metrics=("complexity",)), tmp_path / "once")
    assert len(calls) == len(methods), "the second map is made only where it is asked for"


def test_a_study_takes_the_controls_that_need_a_drawing(tmp_path):
    chosen = iscam.Study(
        count=3, methods={"identity": {}, "oracle": {}, "part_area": {}}, metrics=("part_correlation", "decisive_part")
    )
    mean = summary(iscam.run_study(chosen, tmp_path)).set_index(["method", "metric"])["mean"]
    assert mean["identity", "part_correlation"] == 0
    assert mean["oracle", "part_correlation"] > max(0.2, mean["part_area", "part_correlation"])


def test_provenance_says_what_ran(tmp_path):
    iscam.run_study(iscam.Study(count=1, methods={"identity": {}}, metrics=("energy",)), tmp_path)
    run = json.loads(next(tmp_path.glob("run-*.json")).read_text())
    assert (
        run["images_computed"] == 1
        and run["parameters"]["count"] == 1
        and run["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    )


def test_cleaning_up(tmp_path):
    """A study's folder holds nothing but its description, its parts, its runs and its lock."""
    iscam.run_study(iscam.Study(count=1, methods={"identity": {}}, metrics=("energy",)), tmp_path)
    names = {file.name.split("-")[0] for file in tmp_path.iterdir()}
    assert names == {"study.json", "part", "run", "lock"}
    shutil.rmtree(tmp_path)


def test_results_in_the_cache_are_those_of_the_files_that_were_meant(tmp_path, monkeypatch):
    """The same words in two folders name other images, and a file that is written again other weights."""
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path / "cache"))
    fields = {"data": "images", "weights": {"menagerie/resnet": "net.pth"}, "methods": {"identity": {}}}
    names = []
    for folder in ("a", "b"):
        (tmp_path / folder / "images").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / folder)
        for content in ("one", "another"):
            (tmp_path / folder / "net.pth").write_text(content)
            names.append(fingerprint(iscam.Study(**fields, metrics=("complexity",))))
    assert len(set(names)) == 4 and names[-1] == fingerprint(iscam.Study(**fields, metrics=("complexity",)))


@pytest.mark.parametrize("error", DEVICE_ERRORS)
def test_where_the_machine_fails_the_run_ends_and_nothing_is_held_against_the_image(
    table, tmp_path, monkeypatch, error
):
    calls = []

    def failing(*args, **options):
        calls.append(args)
        if len(calls) == 5:
            raise error("the machine")
        return iscam.explain(*args, **options)

    monkeypatch.setattr("iscam.study.evaluate.explain", failing)
    with pytest.raises(error):
        iscam.run_study(QUICK, tmp_path)
    assert len(calls) == 5
    assert same(iscam.run_study(QUICK, tmp_path), table)
