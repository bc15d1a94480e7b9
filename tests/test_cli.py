"""The command line: the files that it writes, and one-line errors with exit code 2 for bad input."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import iscam
from iscam import cli
from iscam.study.store import read_rows

NONE = ["--model", "menagerie/resnet", "--weights", "none"]


@pytest.fixture
def run(monkeypatch, capsys):
    """A function that runs `iscam` with arguments and returns its exit code, output and errors."""

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
    """Assert one error of one line that has all the words, and no traceback."""
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


def test_explain_with_bad_files_writes_the_others(run, images, tmp_path):
    """The other images are explained, the failures are listed at the end, and the exit code is 2."""
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
    "empty model": (["--model", ""], "--model must not be empty"),
    "layer": (["--layer", "layer9"], "layer4"),
    "empty layer": (["--layer", ""], "--layer must not be empty"),
    "weights": (["--weights", "nowhere.pth"], "nowhere.pth"),
    "empty weights": (["--weights", ""], "--weights must not be empty"),
    "empty output": (["--output", ""], "--output must not be empty"),
    "device": (["--device", "banana"], "banana"),
    "class name": (["--target", "unicorn"], "unicorn"),
    "empty class": (["--target", ""], "pass the number of the class"),
    "class number": (["--target", "24"], "0 to 23"),
    "class of 30 digits": (["--target", "9" * 30], "30 digits"),
    "class of 5,000 digits": (["--target", "9" * 5000], "5000 digits"),
    "negative class": (["--target", "-1"], "-1"),
    "unknown option": (["--option", "step=5"], "steps"),
    "option without a value": (["--option", "steps"], "NAME=VALUE"),
    "option without a name": (["--option", "=5"], "NAME=VALUE"),
    "option given twice": (["--option", "steps=5", "--option", "steps=6"], "given twice"),
    "value of an option": (["--option", "steps=no"], "steps must be"),
    "value that is no YAML": (["--option", "steps=[1"], "line 1"),
}


def test_ambiguous_class_name_asks_for_the_number():
    model = iscam.load_model("menagerie/resnet").model
    net = iscam.Network(model, "layer4", categories=["crane", "kite", "crane"])  # as in older torchvision's ImageNet
    assert cli.class_number(net, "Kite") == 1
    with pytest.raises(iscam.InputError, match=r"\[0, 2\]"):
        cli.class_number(net, "Crane")


@pytest.mark.parametrize("kind", BAD)
def test_bad_argument_of_explain_is_one_line(run, images, tmp_path, kind):
    arguments, word = BAD[kind]
    out = tmp_path / "out"
    code, _, err = run("explain", images[0], *NONE, "--output", out, *arguments)
    assert code == 2
    one_line(err, word)
    assert written(out) == []


def test_explain_takes_options_of_the_method(run, images, tmp_path):
    arguments = ("--option", "schedule=[0.5, 1]", "--option", "score=logit", "--save-map", "--output", tmp_path / "out")
    code, _, err = run("explain", images[0], *NONE, *arguments)
    assert code == 0, err
    net = iscam.load_model("menagerie/resnet", weights=None)
    image = iscam.load_images(images[0])[0].image[None]
    expected = iscam.explain(net, image, schedule=[0.5, 1], score="logit")[0]
    np.testing.assert_allclose(np.load(tmp_path / "out/image0_is_cam.npy"), expected.numpy(), atol=1e-4)


def test_explain_names_images_of_one_stem_by_their_suffix(run, images, tmp_path):
    other = images[0].with_suffix(".bmp")
    Image.open(images[1]).save(other)
    code, _, err = run("explain", *images, other, *NONE, "--method", "identity", "--output", tmp_path / "out")
    assert code == 0, err
    names = ["image0.bmp_identity.png", "image0.png_identity.png", "image1_identity.png", "image2_identity.png"]
    assert written(tmp_path / "out") == names


def test_name_that_starts_with_a_dash_has_a_hint(run, images, tmp_path, monkeypatch):
    monkeypatch.chdir(images[0].parent)
    images[0].rename("-dash.png")
    code, _, err = run("explain", "-dash.png", *NONE, "--output", "out")
    assert code == 2
    one_line(err, "./-dash.png")
    arguments = (*NONE, "--method", "identity", "--output", "out")
    assert run("explain", "./-dash.png", *arguments)[0] == 0
    assert run("explain", *arguments, "--", "-dash.png")[0] == 0
    assert written(Path("out")) == ["-dash_identity.png"]


def test_figure_that_cannot_be_written_leaves_no_file(run, images, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    code, _, err = run("explain", images[0], *NONE, "--method", "identity", "--output", tmp_path / "out")
    assert code == 2
    one_line(err, "No space left", "image0_identity.png")
    assert written(tmp_path / "out") == []


def test_warnings_are_one_line(run, images, tmp_path):
    """A layer with one position gives a map of zeros and a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        arguments = ("--method", "grad_cam", "--layer", "avgpool", "--output", tmp_path / "out")
        code, _, err = run("explain", images[0], *NONE, *arguments)
    assert code == 0, err
    (line,) = err.strip().splitlines()
    assert line.startswith("warning: ")
    assert "avgpool" in line


def test_explain_of_a_folder_has_a_hint(run, tmp_path):
    code, _, err = run("explain", tmp_path, *NONE, "--output", tmp_path / "out")
    assert code == 2
    one_line(err, "is a folder", str(tmp_path / "*.jpg"))


def test_version_is_printed(run):
    assert run("--version") == (0, f"iscam {version('iscam')}\n", "")


def test_output_that_is_a_file_is_one_line(run, images, tmp_path):
    code, _, err = run("explain", images[0], *NONE, "--method", "identity", "--output", images[1])
    assert code == 2
    one_line(err, "image1.png")


def test_images_of_one_name_are_refused(run, images, tmp_path):
    twin = tmp_path / "other" / "image0.png"
    twin.parent.mkdir()
    twin.write_bytes(images[1].read_bytes())
    code, _, err = run("explain", images[0], twin, *NONE, "--method", "identity", "--output", tmp_path / "out")
    assert code == 2
    one_line(err, "image0.png_identity.png")


@pytest.mark.parametrize(
    "arguments", [["explain"], ["explain", "a.png"], ["nothing"], ["explain", "a.png", "--steps", "3"]]
)
def test_missing_or_unknown_arguments_have_exit_code_2(run, arguments):
    assert run(*arguments)[0] == 2


STUDIES = {
    "missing": (None, "no such file"),
    "not YAML": ("methods: [a, b\nmodels: }", "line 2"),
    "binary": ("\0\1", "#x0000"),
    "unknown method": ("methods: {a: {method: b}}\n", "is_cam"),
    "unknown option": ("methods: {is_cam: {step: 3}}\n", "steps"),
    "unknown model": ("models: [resnet9000]\n", "resnet18"),
    "count": ("count: 0\n", "count"),
    "data": ("data: nowhere\n", "nowhere"),
    "layer": ("methods: {is_cam: {layer: layer9}}\n", "layer4"),
    "rank": ("methods: {is_cam: {rank: 25}}\n", "at most 24"),
}


@pytest.mark.parametrize("kind", STUDIES)
def test_study_with_a_bad_file_is_one_line(run, tmp_path, kind):
    content, word = STUDIES[kind]
    file = tmp_path / "study.yaml"
    if content is not None:
        file.write_text(content)
    weights = [] if kind == "unknown model" else ["--weights", "menagerie/resnet=none"]
    code, _, err = run("study", file, "--output", tmp_path / "out", *weights)
    assert code == 2, err[:500]
    one_line(err, word)
    assert not (tmp_path / "out").exists(), "the folder is free for the corrected study"


@pytest.fixture
def small_study(images, tmp_path):
    """A study file of two methods on the images, and the arguments that run it."""
    file = tmp_path / "study.yaml"
    file.write_text("methods: {identity: {}, grad: {method: grad_cam}}\nmetrics: [average_drop]\n")
    return file, "--data", images[0].parent, "--count", 2, "--weights", "menagerie/resnet=none"


def test_study_prints_its_means(run, small_study, tmp_path):
    code, printed, err = run("study", *small_study, "--output", tmp_path / "out")
    assert code == 0, err
    assert "average_drop" in printed
    assert "identity" in printed
    assert printed.split()[-2:] == ["2", "0"], "n and failed are integers"
    assert run("study", *small_study, "--output", tmp_path / "out") == (0, printed, err)


def test_study_keeps_the_weights_of_its_file(run, images, tmp_path):
    file = tmp_path / "study.yaml"
    models = "models: [menagerie/resnet, menagerie/vgg]\nweights: {menagerie/vgg: none}\n"
    file.write_text(models + "methods: {identity: {}}\nmetrics: [complexity]\n")
    arguments = ("--data", images[0].parent, "--weights", "menagerie/resnet=none", "--output", tmp_path / "out")
    code, _, err = run("study", file, *arguments)
    assert code == 0, err
    weights = json.loads((tmp_path / "out/study.json").read_text())["weights"]
    assert weights == {"menagerie/resnet": None, "menagerie/vgg": None}


BAD_STUDY_ARGUMENTS = {
    "empty output": (["--output", ""], "--output must not be empty"),
    "output is a file": (["--output", "study.yaml"], "study.yaml"),
    "weights without a file": (["--weights", "menagerie/resnet="], "MODEL=FILE"),
    "weights without a model": (["--weights", "=none"], "MODEL=FILE"),
    "weights without =": (["--weights", "none"], "MODEL=FILE"),
    "weights given twice": (["--weights", "menagerie/resnet=a.pth"], "given twice"),
    "weights of another model": (["--weights", "vgg16=none"], "menagerie/resnet"),
    "no images": (["--data", ""], "data must be"),
    "missing images": (["--data", "nowhere"], "nowhere"),
    "address without ray": (["--address", "127.0.0.1:1"], "--engine ray"),
    "no cluster": (["--engine", "ray", "--address", "127.0.0.1:1"], "no Ray cluster"),
}


@pytest.mark.parametrize("kind", BAD_STUDY_ARGUMENTS)
def test_bad_argument_of_study_is_one_line(run, small_study, tmp_path, monkeypatch, kind):
    if kind == "no cluster":
        pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    arguments, word = BAD_STUDY_ARGUMENTS[kind]
    output = () if "--output" in arguments else ("--output", "out")
    code, _, err = run("study", *small_study, *output, *arguments)
    assert code == 2
    one_line(err, word)
    assert not (tmp_path / "out").exists()


def test_study_in_the_folder_of_another_is_one_line(run, small_study, tmp_path):
    assert run("study", *small_study, "--output", tmp_path / "out")[0] == 0
    code, _, err = run("study", *small_study, "--count", 3, "--output", tmp_path / "out")
    assert code == 2
    one_line(err, "another study", "count")


def test_study_names_failed_images(run, small_study, images, tmp_path):
    images[0].write_bytes(b"no image")
    code, _, err = run("study", *small_study, "--count", 3, "--output", tmp_path / "out")
    assert code == 0
    assert err.count("image0.png") == 2, "once as the image, once as the file of its error"


def test_study_without_a_value_has_exit_code_1(run, small_study, images, tmp_path):
    for file in images:
        file.write_bytes(b"no image")
    code, _, err = run("study", *small_study, "--output", tmp_path / "out")
    assert code == 1
    assert "cannot read the image" in err


def test_study_prints_at_most_twenty_errors(run, small_study, images, tmp_path):
    for number in range(30):
        (images[0].parent / f"bad{number}.png").write_bytes(b"no image")
    code, _, err = run("study", *small_study, "--count", 33, "--output", tmp_path / "out")
    assert code == 0
    assert len(err.strip().splitlines()) == 21
    assert "10 more" in err


def wait_for(condition, process) -> None:
    until = time.monotonic() + 120
    while not condition() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)


@pytest.mark.skipif(os.name == "nt", reason="no SIGTERM")
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_study_keeps_its_images(tmp_path, stop, code):
    file, out = tmp_path / "study.yaml", tmp_path / "out"
    file.write_text("count: 2000\nmethods: {identity: {}}\nmetrics: [complexity]\n")
    command = [sys.executable, "-m", "iscam", "study", str(file), "--output", str(out)]
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background of a shell ignores SIGINT
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        wait_for((out / "study.json").exists, process)
        time.sleep(1)
        process.send_signal(stop)
        _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in err
    (run,) = (json.loads(each.read_text()) for each in out.glob("run-*.json"))
    assert run["images_computed"] == len(read_rows(out)) < 2000


def test_python_m_iscam_is_the_command_line(images, tmp_path):
    """The module runs like the command."""
    command = [sys.executable, "-m", "iscam", "explain", str(tmp_path / "gone.png"), *NONE, "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONWARNINGS": "error"})
    assert done.returncode == 2
    one_line(done.stderr, "gone.png")


def test_git_ignores_results_of_printed_commands():
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        pytest.skip("this is no checkout")
    written = ["results/study.json", "maps/dog_is_cam.png", "confidence.ipynb"]
    command = ["git", "-C", str(root), "check-ignore", *written, "data/results/a.json", "notebooks/confidence.ipynb"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.split() == written
