"""The folder of a study: errors name broken and foreign files, good files are kept, and changed inputs are detected."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import filelock
import pandas as pd
import pytest
import torch

import iscam
from helpers.errors import refused
from helpers.image_files import unprivileged_folder
from helpers.studies import OWN_WEIGHTS, TINY, equal_tables, write_images, write_own_scale, write_own_weights
from iscam.errors import StoreError
from iscam.study.signatures import file_signature, fingerprint, source_signatures
from iscam.study.store import read_rows, write_part


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with the complete results of TINY."""
    folder = tmp_path_factory.mktemp("finished")
    iscam.run_study(TINY, folder)
    return folder


@pytest.fixture
def store(finished, tmp_path):
    """A copy of that folder."""
    return Path(shutil.copytree(finished, tmp_path / "store"))


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def foreign(file: Path, column: str, value: str) -> None:
    """Write a part with a row of another study."""
    rows = pd.read_parquet(file).iloc[:1].assign(image="another")
    rows.assign(**{column: value}).to_parquet(file.with_name("part-foreign.parquet"))


def describe(folder: Path, **changes) -> None:
    """Change keys of study.json."""
    found = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(found | changes))


DAMAGE = {
    "truncated part": (lambda file: file.write_bytes(file.read_bytes()[:200]), "part-"),
    "empty part": (lambda file: file.write_bytes(b""), "it is empty"),
    "part of zeros": (lambda file: file.write_bytes(bytes(5000)), "part-"),
    "part of text": (lambda file: file.write_text("model,image\n"), "part-"),
    "foreign table": (lambda file: pd.DataFrame({"a": [1]}).to_parquet(file), "it lacks the columns model"),
    "copied part": (lambda file: shutil.copy(file, file.with_name("part-copy.parquet")), "part-copy.parquet"),
    "doubled rows": (lambda file: pd.concat([pd.read_parquet(file)] * 2).to_parquet(file), "repeats rows"),
    "incomplete image": (lambda file: pd.read_parquet(file).iloc[1:].to_parquet(file), "3 rows of the image"),
    "part of another model": (lambda file: foreign(file, "model", "vgg16"), "'vgg16'"),
    "part with another method": (lambda file: foreign(file, "method", "cam"), "'cam'"),
    "part with another metric": (lambda file: foreign(file, "metric", "adcc"), "'adcc'"),
    "empty study.json": (lambda file: file.with_name("study.json").write_text(""), "study.json"),
    "broken study.json": (lambda file: file.with_name("study.json").write_text('{"models": ['), "study.json"),
    "foreign study.json": (lambda file: file.with_name("study.json").write_text("[1]"), "study.json"),
    "sources as a list": (lambda file: describe(file.parent, sources=[1]), "sources has the wrong type"),
    "methods as a number": (lambda file: describe(file.parent, methods=3), "methods has the wrong type"),
    "metrics as text": (lambda file: describe(file.parent, metrics="energy"), "metrics has the wrong type"),
    "lists as models": (lambda file: describe(file.parent, models=[["a"]]), "models has the wrong type"),
    "binary study.json": (lambda file: file.with_name("study.json").write_bytes(b"\xff\xfe\0"), "study.json"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_store_is_refused_and_left_as_it_is(store, kind):
    damage, word = DAMAGE[kind]
    damage(parts(store)[0])
    before = contents(store)
    for read in (lambda: read_rows(store), lambda: iscam.run_study(TINY, store)):
        with refused(word, str(store), error=StoreError):
            read()
    assert contents(store) == before


def test_deleted_part_is_computed_again(finished, store):
    parts(store)[0].unlink()
    assert equal_tables(iscam.run_study(TINY, store), read_rows(finished))


def test_old_store_with_the_column_picture_is_read(finished, store):
    for part in parts(store):
        pd.read_parquet(part).rename(columns={"image": "picture"}).to_parquet(part)
    described = json.loads((store / "study.json").read_text())
    del described["sources"], described["pixels_per_step"]
    (store / "study.json").write_text(json.dumps(described))
    assert equal_tables(iscam.run_study(TINY, store), read_rows(finished))


def test_rows_of_a_missing_folder_are_refused(tmp_path):
    with refused("nowhere", error=StoreError):
        read_rows(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "changed",
    [{"count": 3}, {"seed": 1}, {"pixels_per_step": 896}, {"metrics": ("energy",)}, {"methods": {"identity": {}}}],
)
def test_another_study_is_refused(store, changed):
    with refused("another study", *changed, error=StoreError):
        iscam.run_study(replace(TINY, **changed), store)


def test_finished_study_is_read_without_writing(finished, store):
    before = contents(store)
    assert equal_tables(iscam.run_study(TINY, store), read_rows(finished))
    assert contents(store) == before


def test_finished_study_on_a_read_only_disk_is_read(finished, store, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(filelock.FileLock, "acquire", read_only)
    assert equal_tables(iscam.run_study(TINY, store), read_rows(finished))
    parts(store)[0].unlink()
    with refused("cannot write to", "Read-only", error=StoreError):
        iscam.run_study(TINY, store)


def test_output_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with refused("cannot write to", error=StoreError):
        iscam.run_study(TINY, tmp_path / "file" / "results")


def test_empty_output_is_refused():
    with refused("output must be a folder"):
        iscam.run_study(TINY, "")


def test_part_that_cannot_be_written_leaves_the_others(store, monkeypatch):
    before = contents(store)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with refused("No space left", "earlier results are kept", error=StoreError):
        write_part(store, [])
    assert contents(store) == before


@pytest.fixture
def photographs(tmp_path):
    """A study of a folder of images and a weights file, whose results are complete."""
    torch_file = tmp_path / "net.pth"
    save_weights(torch_file, seed=0)
    study = iscam.Study(
        data=str(write_images(tmp_path / "images")),
        count=None,
        weights={"menagerie/resnet": str(torch_file)},
        methods={"identity": {}},
        metrics=("complexity",),
    )
    iscam.run_study(study, tmp_path / "results")
    return study


def save_weights(file: Path, seed: int) -> None:
    state = iscam.load_model("menagerie/resnet").model.state_dict()
    generator = torch.Generator().manual_seed(seed)
    for name, value in state.items():
        if value.is_floating_point() and value.ndim > 1:
            state[name] = torch.randn(value.shape, generator=generator) / value[0].numel() ** 0.5
    torch.save(state, file)


def overwrite_image(folder: Path) -> None:
    write_images(folder, count=1, seed=7)


def add_image(folder: Path) -> None:
    shutil.copy(folder / "0.png", folder / "2.png")


@pytest.mark.parametrize("change", [overwrite_image, add_image])
def test_changed_images_are_noticed(photographs, tmp_path, change):
    change(tmp_path / "images")
    with refused("images changed since the study", "choose another folder", error=StoreError):
        iscam.run_study(photographs, tmp_path / "results")


def test_changed_weights_are_noticed(photographs, tmp_path):
    save_weights(tmp_path / "net.pth", seed=1)
    with refused("weights of menagerie/resnet changed", error=StoreError):
        iscam.run_study(photographs, tmp_path / "results")


def test_touched_and_copied_files_are_not_changed_ones(photographs, tmp_path):
    for file in [*(tmp_path / "images").iterdir(), tmp_path / "net.pth"]:
        os.utime(file, (1, 1))
    assert len(iscam.run_study(photographs, tmp_path / "results")) == 2


def test_finished_study_does_not_need_its_weights(photographs, tmp_path):
    (tmp_path / "net.pth").unlink()
    assert len(iscam.run_study(photographs, tmp_path / "results")) == 2


def ilsvrc(folder: Path) -> Path:
    """A folder in ILSVRC's layout."""
    write_images(folder / "ILSVRC/Data/CLS-LOC/val")
    (folder / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n")
    (folder / "LOC_synset_mapping.txt").write_text("n01 fish\n")
    (folder / "ILSVRC/Data/CLS-LOC/train").mkdir()
    return folder


def test_signature_sees_nested_images_of_ilsvrc(tmp_path):
    folder = ilsvrc(tmp_path / "data")
    signatures = [file_signature(folder)]
    write_images(folder / "ILSVRC/Data/CLS-LOC/val", count=1, seed=5)
    signatures.append(file_signature(folder))
    (folder / "LOC_val_solution.csv").write_text("ImageId,PredictionString\na,b\n")
    signatures.append(file_signature(folder))
    assert len(set(signatures)) == 3
    (folder / "ILSVRC/Data/CLS-LOC/train/0.txt").write_text("not a validation image")
    assert file_signature(folder) == signatures[-1]


def test_signature_depends_on_content_and_names_only(tmp_path):
    first, second = write_images(tmp_path / "a"), write_images(tmp_path / "b")
    os.utime(second / "0.png", (1, 1))
    assert file_signature(first) == file_signature(second)
    assert file_signature(first / "0.png") == file_signature(second / "0.png")
    (second / "0.png").rename(second / "00.png")
    assert file_signature(first) != file_signature(second)


@pytest.mark.parametrize("path", [None, "nowhere", "nul\0", "x" * 5000])
def test_signature_of_no_file_is_empty(path):
    assert file_signature(path) == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_signature_of_a_folder_with_a_pipe_is_found(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    assert file_signature(tmp_path)


def cache_name(study: iscam.Study) -> str:
    return fingerprint(study, source_signatures(study))


def test_fingerprint_changes_with_files_and_fields(tmp_path, monkeypatch):
    """The same words in two folders name different images."""
    fields = {"data": "images", "weights": {"menagerie/resnet": "net.pth"}, "metrics": ("complexity",)}
    names = []
    for folder, seed in (("a", 0), ("b", 1)):
        write_images(tmp_path / folder / "images", seed=seed)
        monkeypatch.chdir(tmp_path / folder)
        for content in ("one", "another"):
            Path("net.pth").write_text(content)
            names.append(cache_name(iscam.Study(**fields)))
    names.append(cache_name(iscam.Study(**fields, count=3)))
    assert len(set(names)) == 5
    assert names[-2] == cache_name(iscam.Study(**fields))


def test_cached_results_follow_changed_images(tmp_path):
    folder = write_images(tmp_path / "images", count=1)
    study = iscam.Study(data=str(folder), methods={"random": {}}, metrics=("average_drop",))
    before = iscam.run_study(study)
    assert equal_tables(iscam.run_study(study), before)
    write_images(folder, count=1, seed=3)
    assert iscam.run_study(study)["value"].tolist() != before["value"].tolist()


@pytest.fixture(params=["own.py:network", "own:network"])
def own(request, tmp_path, monkeypatch):
    """A study of a user's network whose function reads its weights from a file and imports a module."""
    (tmp_path / "own.py").write_text(OWN_WEIGHTS)
    write_own_weights(tmp_path)
    write_own_scale(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield iscam.Study(models=(request.param,), count=2, methods={"random": {}}, metrics=("explained_confidence",))
    forget("own", "scales")


def forget(*modules: str) -> None:
    for module in modules:
        sys.modules.pop(module, None)


def retrain(folder: Path) -> None:
    write_own_weights(folder, seed=1)


def edit_imported_module(folder: Path) -> None:
    write_own_scale(folder, scale=0.25)
    forget("own")


def edit_own_code(folder: Path) -> None:
    (folder / "own.py").write_text(OWN_WEIGHTS.replace(".relu()", ".sigmoid()"))
    forget("own")


CHANGES = [retrain, edit_imported_module, edit_own_code]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_network_of_a_function_is_noticed(own, tmp_path, change):
    before = iscam.run_study(own, "results")
    assert equal_tables(iscam.run_study(own, "results"), before)
    change(tmp_path)
    with refused(f"network of {own.models[0]}", "changed since", error=StoreError):
        iscam.run_study(own, "results")


@pytest.mark.parametrize("change", CHANGES)
def test_cached_results_follow_the_network_of_a_function(own, tmp_path, change):
    before = iscam.run_study(own)
    assert equal_tables(iscam.run_study(own), before)
    change(tmp_path)
    after = iscam.run_study(own)
    assert not equal_tables(after, before)
    assert equal_tables(after, iscam.run_study(own, "new"))


@pytest.mark.parametrize("own", ["own:network"], indirect=True)
def test_signatures_are_equal_in_every_process(own):
    script = f"import iscam; from iscam.study.signatures import *; print(source_signatures({own!r}))"
    found = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert found == f"{source_signatures(own)}\n"


def test_store_of_an_earlier_version_is_resumed(own, tmp_path):
    before = iscam.run_study(own, "results")
    sources = {name: text for name, text in source_signatures(own).items() if name.startswith("code of own")}
    describe(tmp_path / "results", sources=sources)
    assert equal_tables(iscam.run_study(own, "results"), before)
    parts(tmp_path / "results")[0].unlink()
    assert equal_tables(iscam.run_study(own, "results"), before)


def test_finished_study_does_not_need_the_files_of_its_function(own, tmp_path):
    before = iscam.run_study(own, "results")
    (tmp_path / "weights.pth").unlink()
    assert equal_tables(iscam.run_study(own, "results"), before)


def mean(record, options):
    return record.activations.detach().mean((1, 2))


def highest(record, options):
    return record.activations.detach().amax((1, 2))


def power(exponent):
    return lambda record, options: mean(record, options) ** exponent


def constant(value):
    return lambda inputs: torch.full((len(inputs.maps),), value)


def add_method(monkeypatch, function, name="own"):
    method = iscam.Method(function, "own", "own", passes=lambda channels, options: 1)
    monkeypatch.setitem(iscam.METHODS, name, method)


def add_metric(monkeypatch, function, name="own"):
    monkeypatch.setitem(iscam.METRICS, name, iscam.Metric(function, "own", "own", "higher"))


EDITS = {
    "other method": (add_method, mean, highest),
    "method with another variable": (add_method, power(1.0), power(3.0)),
    "method with another argument": (add_method, partial(power(1.0)), partial(power(3.0))),
    "other metric": (add_metric, constant(0.25), constant(0.75)),
}


@pytest.mark.parametrize("kind", EDITS)
def test_edited_method_or_metric_is_noticed(tmp_path, monkeypatch, kind):
    add, first, second = EDITS[kind]
    fields = {"methods": {"own": {}}} if add is add_method else {"methods": {"random": {}}, "metrics": ("own",)}
    add(monkeypatch, first)
    study = iscam.Study(**{"count": 1, "metrics": ("explained_confidence",)} | fields)
    before = iscam.run_study(study)
    add(monkeypatch, first)
    assert equal_tables(iscam.run_study(study), before)
    assert equal_tables(iscam.run_study(study, tmp_path), before)
    add(monkeypatch, second)
    assert not equal_tables(iscam.run_study(study), before)
    with refused("own changed since", error=StoreError):
        iscam.run_study(study, tmp_path)


def test_replaced_method_of_the_package_is_noticed(store, monkeypatch):
    add_method(monkeypatch, highest, name="grad_cam")
    with refused("method grad_cam changed since", error=StoreError):
        iscam.run_study(TINY, store)


def test_output_without_permission_is_refused():
    with unprivileged_folder() as folder:
        locked = folder / "locked"
        locked.mkdir()
        locked.chmod(0)
        for output in (locked, locked / "results"):
            with refused("cannot read", str(output), "Permission denied", error=StoreError):
                iscam.run_study(TINY, output)
            with refused("Permission denied", error=StoreError):
                read_rows(output)


@pytest.mark.parametrize("output", ["x" * 5000, "a\0b"], ids=["long", "null"])
def test_output_that_no_folder_can_have_as_name_is_refused(output):
    with refused("cannot be the name of a folder"):
        iscam.run_study(TINY, output)
    with refused("cannot be the name of a folder"):
        read_rows(output)
