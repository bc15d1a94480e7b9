"""The command line: what it writes, and bad input in one line with exit code 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import iscam
from iscam import cli

NONE = ["--model", "menagerie/resnet", "--weights", "none"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs `iscam` with arguments: its exit code, output and errors."""

    def command(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["iscam", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


@pytest.fixture
def images(tmp_path):
    """Three images of random blocks."""
    files = []
    for seed in range(3):
        blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        files.append(tmp_path / f"image{seed}.png")
        Image.fromarray(blocks).resize((80, 60)).save(files[-1])
    return files


def written(folder) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def one_line(err: str, *words: str) -> None:
    """One error of one line that has all the words, and no traceback."""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err[:500]
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], err


def test_explain_writes_figure_and_map(run, images, tmp_path):
    out = tmp_path / "new" / "maps"
    code, printed, err = run("explain", *images, *NONE, "--method", "grad_cam", "--save-map", "--output", out)
    assert code == 0, err
    assert written(out) == sorted(f"image{i}_grad_cam.{suffix}" for i in range(3) for suffix in ("png", "npy"))
    assert len(printed.splitlines()) == 3
    net = iscam.load_model("menagerie/resnet", weights=None)
    image = iscam.load_images(images[1])[0].image[None]
    expected = iscam.explain(net, image, method="grad_cam")[0]
    saved = np.load(out / "image1_grad_cam.npy")
    assert saved.dtype == np.float32
    np.testing.assert_allclose(saved, expected.numpy(), atol=1e-4)
    with Image.open(out / "image1_grad_cam.png") as figure:
        assert min(figure.size) > 200


def test_explain_takes_layer_and_class(run, images, tmp_path):
    net = iscam.load_model("menagerie/resnet", weights=None, layer="layer3")
    image = iscam.load_images(images[0])[0].image[None]
    name = net.category(4)
    for target in (name, name.upper(), "4"):
        out = tmp_path / target
        arguments = ("--method", "grad_cam", "--layer", "layer3", "--target", target, "--save-map", "--output", out)
        code, printed, err = run("explain", images[0], *NONE, *arguments)
        assert code == 0, err
        assert name in printed
        expected = iscam.explain(net, image, torch.tensor([4]), "grad_cam")[0]
        np.testing.assert_allclose(np.load(out / "image0_grad_cam.npy"), expected.numpy(), atol=1e-4)


def test_a_missing_file_loses_nothing(run, images, tmp_path):
    """The others are done, the failures named at the end, exit code 2."""
    out = tmp_path / "out"
    bad = tmp_path / "bad.png"
    bad.write_bytes(images[0].read_bytes()[:100])
    files = [images[0], tmp_path / "gone.png", bad, images[2]]
    code, printed, err = run("explain", *files, *NONE, "--method", "identity", "--output", out)
    assert code == 2
    assert written(out) == ["image0_identity.png", "image2_identity.png"]
    assert len(printed.splitlines()) == 2
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 2
    assert "gone.png" in errors[0]
    assert "bad.png" in errors[1]
    assert "Traceback" not in err


BAD = {
    "method": (["--method", "gradcam"], "grad_cam"),
    "model": (["--model", "resnet50"], "resnet18"),
    "layer": (["--layer", "layer9"], "layer4"),
    "weights": (["--weights", "nowhere.pth"], "nowhere.pth"),
    "class name": (["--target", "unicorn"], "unicorn"),
    "class number": (["--target", "10"], "0 to 9"),
    "negative class": (["--target", "-1"], "-1"),
}


def test_a_name_of_two_classes_is_asked_for_by_number():
    model = iscam.load_model("menagerie/resnet").model
    net = iscam.Network(model, "layer4", categories=["crane", "kite", "crane"])  # as in older torchvision's ImageNet
    assert cli.class_number(net, "Kite") == 1
    with pytest.raises(iscam.InputError, match=r"\[0, 2\]"):
        cli.class_number(net, "Crane")


@pytest.mark.parametrize("kind", BAD)
def test_bad_arguments_of_explain(run, images, tmp_path, kind):
    arguments, word = BAD[kind]
    out = tmp_path / "out"
    code, _, err = run("explain", images[0], *NONE, "--output", out, *arguments)
    assert code == 2
    one_line(err, word)
    assert written(out) == []


def test_a_folder_in_place_of_an_image(run, tmp_path):
    code, _, err = run("explain", tmp_path, *NONE, "--output", tmp_path / "out")
    assert code == 2
    one_line(err, "is a folder", str(tmp_path / "*.jpg"))


def test_version(run):
    assert run("--version") == (0, f"iscam {version('iscam')}\n", "")


def test_an_output_that_is_a_file(run, images, tmp_path):
    code, _, err = run("explain", images[0], *NONE, "--method", "identity", "--output", images[1])
    assert code == 2
    one_line(err, "image1.png")


def test_images_that_would_overwrite_each_other(run, images, tmp_path):
    twin = tmp_path / "other" / "image0.png"
    twin.parent.mkdir()
    twin.write_bytes(images[1].read_bytes())
    code, _, err = run("explain", images[0], twin, *NONE, "--method", "identity", "--output", tmp_path / "out")
    assert code == 2
    one_line(err, "image0_identity.png")


@pytest.mark.parametrize(
    "arguments", [["explain"], ["explain", "a.png"], ["nothing"], ["explain", "a.png", "--steps", "3"]]
)
def test_arguments_that_do_not_parse(run, arguments):
    assert run(*arguments)[0] == 2


STUDIES = {
    "missing": (None, "study.yaml"),
    "not YAML": ("methods: [a, b\nmodels: }", "study.yaml"),
    "not a mapping": ("- a\n- b\n", "study.yaml"),
    "empty": ("", "study.yaml"),
    "binary": ("\0\1", "study.yaml"),
    "unknown key": ("methodz: {}\n", "methods"),
    "unknown method": ("methods: {a: {method: b}}\n", "is_cam"),
    "methods in a list": ("methods: [is_cam]\n", "methods"),
    "unknown option": ("methods: {is_cam: {step: 3}}\n", "steps"),
    "unknown metric": ("metrics: [inserting]\n", "insertion"),
    "unknown model": ("models: [resnet9000]\n", "resnet18"),
    "win without a rival": ("metrics: ['win:score_cam']\n", "win"),
    "precision": ("precision: fp8\n", "bf16"),
    "count": ("count: 0\n", "count"),
    "data": ("data: nowhere\n", "nowhere"),
    "models in a string": ("models: menagerie/resnet\n", "[menagerie/resnet]"),
    "metrics in a string": ("metrics: insertion\n", "[insertion, energy]"),
    "metrics of no strings": ("metrics: [{win: is_cam}]\n", "[insertion, energy]"),
    "no metrics": ("metrics: []\n", "[insertion, energy]"),
    "options that are none": ("methods: {is_cam: 10}\n", "{steps: 10}"),
    "value of an option": ("methods: {is_cam: {steps: zero}}\n", "options of is_cam: steps must be a whole number"),
    "temperature": ("methods: {is_cam: {temperature: 0}}\n", "temperature of is_cam must be above 0"),
    "start of a curve": ("metrics: ['insertion:grey']\n", "insertion:blur"),
    "argument of no curve": ("metrics: ['energy:blur']\n", "energy:blur"),
    "layer": ("methods: {is_cam: {layer: layer9}}\n", "layer4"),
    "layer of another model": ("methods: {is_cam: {layer: {vgg16: features}}}\n", "menagerie/resnet: LAYER"),
    "rank": ("methods: {is_cam: {rank: 11}}\n", "at most 10"),
}


@pytest.mark.parametrize("kind", STUDIES)
def test_bad_studies(run, tmp_path, kind):
    content, word = STUDIES[kind]
    file = tmp_path / "study.yaml"
    if content is not None:
        file.write_text(content)
    weights = [] if kind == "unknown model" else ["--weights", "menagerie/resnet=none"]
    code, _, err = run("study", file, "--output", tmp_path / "out", *weights)
    assert code == 2, err[:500]
    one_line(err, word)
    assert not (tmp_path / "out").exists(), "the folder is free for the study as it was meant"


def test_a_study_from_the_command_line(run, images, tmp_path):
    file = tmp_path / "study.yaml"
    models = "models: [menagerie/resnet, menagerie/vgg]\nweights: {menagerie/vgg: none}\n"
    file.write_text(models + "methods: {identity: {}, grad: {method: grad_cam}}\nmetrics: [average_drop]\n")
    arguments = ("--data", images[0].parent, "--count", 2, "--weights", "menagerie/resnet=none")
    code, printed, err = run("study", file, "--output", tmp_path / "out", *arguments)
    assert code == 0, err
    assert "average_drop" in printed
    assert "identity" in printed
    assert printed.split()[-2:] == ["2", "0"], "n and failed are whole numbers"
    weights = json.loads((tmp_path / "out/study.json").read_text())["weights"]
    assert weights == {"menagerie/resnet": None, "menagerie/vgg": None}, "those of the file stay"


def test_python_m_iscam(images, tmp_path):
    """The same from outside, once."""
    command = [sys.executable, "-m", "iscam", "explain", str(tmp_path / "gone.png"), *NONE, "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert done.returncode == 2
    one_line(done.stderr, "gone.png")


def test_git_ignores_what_the_printed_commands_write():
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("this is no checkout")
    written = ["results/study.json", "maps/dog_is_cam.png", "confidence.ipynb"]
    command = ["git", "-C", str(root), "check-ignore", *written, "data/results/a.json", "notebooks/confidence.ipynb"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.split() == written
