"""Recorded runs: how tables and studies are kept with their provenance, read again, and repeated."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

import iscam
from helpers.errors import refused
from iscam.reproduction.archive import describe_run, load_partial, median_drawing, record_study, recorded, save_run
from iscam.reproduction.commands import papermill_command, study_command


@pytest.fixture
def archive_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder, to which runs are recorded."""
    monkeypatch.setenv("ISCAM_DATA", str(tmp_path / "data"))
    (tmp_path / "data/results").mkdir(parents=True)
    return tmp_path


def black_images(folder: Path, *names: str) -> str:
    folder.mkdir()
    for name in names:
        Image.new("RGB", (64, 64)).save(folder / name)
    return str(folder)


def test_record_study_names_files_without_their_folders(archive_folder, monkeypatch):
    data = black_images(archive_folder / "some images", "black.png")
    study = iscam.Study(data=data, count=1, methods={"identity": {}}, metrics=("complexity",))
    argv = ["/usr/bin/iscam", "study", str(archive_folder / "studies/one.yaml"), "--data", data, "--engine", "local"]
    monkeypatch.setattr("sys.argv", [*argv, f"--output={archive_folder / 'output'}"])
    iscam.run_study(study, archive_folder / "output")
    record_study(archive_folder / "output", "kept")
    frame, run = recorded("kept")
    assert frame["value"].tolist() == [1] and run["parameters"]["data"] == "some images"
    assert str(archive_folder) not in json.dumps(run)
    words = ["study", "studies/one.yaml", "--data", "some images"]
    assert run["argv"] == ["iscam", *words, "--engine", "local", "--output", "results/kept"]
    assert shlex.split(study_command(run)) == ["iscam", *words, "--output", "results/kept"]


def test_record_study_unfinished_keeps_complete_images(archive_folder):
    networks = ("menagerie/resnet", "menagerie/vgg")
    output = archive_folder / "output"
    study = iscam.Study(networks, count=3, methods={"identity": {}}, metrics=("complexity",))
    frame = iscam.run_study(study, output)
    rest = frame[(frame["image"] != frame["image"].iloc[-1]) | (frame["model"] != networks[1])]
    for part in output.glob("part-*.parquet"):
        part.unlink()
    rest.to_parquet(output / "part-0.parquet")
    (made,) = output.glob("run-*.json")
    for number, commit in enumerate(["b", "a", "b"]):
        run = json.loads(made.read_text()) | {"commit": commit, "versions": {"torch": commit}}
        made.with_name(f"run-{number}.json").write_text(json.dumps(run))
    made.unlink()
    record_study(output, "kept")
    kept, run = recorded("kept")
    assert run["commit"] == run["versions"]["torch"] == "b, a"
    assert len(rest) == 5 and len(kept) == 4
    assert run["argv"][-2:] == ["--count", "2"]
    assert "2 images" in describe_run(kept, run) and f"`{study_command(run)}`" in describe_run(kept, run)


def test_record_study_unfinished_photographs_keep_their_count(archive_folder):
    """A smaller count would choose other photographs."""
    data = black_images(archive_folder / "images", "a.png", "b.png")
    study = iscam.Study(data=data, count=2, methods={"identity": {}}, metrics=("complexity",))
    frame = iscam.run_study(study, archive_folder / "output")
    (part,) = (archive_folder / "output").glob("part-*.parquet")
    frame[frame["image"] == "a.png"].to_parquet(part)
    record_study(archive_folder / "output", "kept")
    kept, run = recorded("kept")
    assert kept["image"].tolist() == ["a.png"] and "--count" not in run["argv"]


def test_recorded_studies_have_commands_of_the_command_line():
    for name in ("ablations", "tables_menagerie", "tables_squeezenet"):
        _, run = recorded(name)
        words = shlex.split(study_command(run))
        assert words[:2] == ["iscam", "study"] and Path(words[2]).parts[0] == "studies"
        assert not {"--engine", "__main__.py"} & set(words)


def test_papermill_command_is_one_shell_word_per_argument():
    command = papermill_command("speed", model="it's", layers=["a b"], record="")
    words = shlex.split(command)
    assert words[:4] == ["papermill", "notebooks/speed.ipynb", "speed.ipynb", "-y"] and len(words) == 5
    assert words[4] == "{model: it's, layers: [a b]}"


def test_recorded_table_has_its_provenance(tmp_path, monkeypatch):
    frame = pd.DataFrame({"value": [1.0, float("nan")]})
    save_run(frame, tmp_path / "results" / "run", {"count": 2}, 1.26, "papermill it")
    monkeypatch.setenv("ISCAM_DATA", str(tmp_path))
    found, run = recorded("run")
    pd.testing.assert_frame_equal(found, frame)
    assert (run["parameters"], run["seconds"], run["command"]) == ({"count": 2}, 1.3, "papermill it")
    assert run["versions"]["torch"]


def test_run_resumes_from_its_own_record_only(tmp_path):
    frame = pd.DataFrame({"model": ["m"], "image": ["p.JPEG"], "value": [1.0]})
    given = {"data": "/home/me/images", "weights": {"m": "/home/me/m.safetensors"}, "count": 2}
    for fresh in ("", tmp_path / "run"):
        found, spent = load_partial(fresh, given)
        assert (len(found), spent) == (0, 0.0) and {"model", "image"} <= set(found)
    save_run(frame, tmp_path / "run", given, 1.26, "papermill it")
    found, spent = load_partial(tmp_path / "run", given | {"data": "/elsewhere/images"})
    pd.testing.assert_frame_equal(found, frame)
    assert spent == 1.3
    with pytest.raises(iscam.InputError, match="papermill it; choose another"):
        load_partial(tmp_path / "run", given | {"count": 3})


def test_median_drawing_is_the_middle_of_the_recorded_values(archive_folder):
    values = {"Basenji-7": 0.9, "Whippet-3": 0.1, "Capuchin-4": 0.5, "Zebra-2": None, "Genet-0": 0.7}
    rows = [("is_cam", "part_correlation", *item) for item in values.items()]
    rows += [("is_cam", "energy", "Genet-9", 0.5), ("score_cam", "part_correlation", "Genet-9", 0.5)]
    frame = pd.DataFrame(rows, columns=["method", "metric", "image", "value"]).assign(model="menagerie/vgg")
    save_run(frame, archive_folder / "data/results/tables_menagerie", {"seed": 5}, 1.0, "iscam study")
    assert median_drawing("menagerie/vgg") == (5, 4)
    with refused("menagerie/vgg"):
        median_drawing("menagerie/resnet")
