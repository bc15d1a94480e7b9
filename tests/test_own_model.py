"""The page "Use it on your own model" and the README's example run exactly as printed."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import ResNet18_Weights, resnet18, vgg16

import iscam
from helpers.repository import ROOT
from iscam.menagerie import draw
from iscam.reproduction.archive import recorded

PAGE = (ROOT / "book/own_model.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Block:
    """A block of code on a page, with the heading above it."""

    heading: str
    language: str
    code: str

    @property
    def file(self) -> str:
        """The file that the block shows, or "" for code to run."""
        found = re.match(r"# (\w+\.py)\n", self.code)
        return found[1] if found else ""


def read_blocks(text: str) -> list[Block]:
    found, heading = [], ""
    for match in re.finditer(r"^#+ ([^\n]+)$|^```(bash|python)\n(.*?)^```$", text, re.M | re.S):
        if match[1]:
            heading = match[1]
        else:
            found.append(Block(heading, match[2], match[3]))
    return found


BLOCKS = read_blocks(PAGE)
PYTHON = [block for block in BLOCKS if block.language == "python" and not block.file]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A reader's folder with two images and the page's model file, without network access. Restores registries."""
    (tmp_path / "my_images").mkdir()
    for seed, species in enumerate(("Basenji", "Whippet")):
        Image.fromarray(draw(species, seed).image).save(tmp_path / "my_images" / f"{species}.png")
    shutil.copy(tmp_path / "my_images" / "Basenji.png", tmp_path / "dog.jpg")
    for block in BLOCKS:
        if block.file:
            (tmp_path / block.file).write_text(block.code, encoding="utf-8")
    for name, value in {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TORCH_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    registries = [(registry, dict(registry)) for registry in (iscam.METHODS, iscam.METRICS)]
    yield tmp_path
    for registry, entries in registries:
        registry.clear()
        registry.update(entries)


def run(code: str) -> dict[str, object]:
    """The names that the code defines, run from an empty namespace."""
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(code, "page", "exec"), names)
    return names


def number(block: Block) -> str:
    same = [other for other in PYTHON if other.heading == block.heading]
    return f"{block.heading} {same.index(block) + 1}"


@pytest.mark.parametrize("block", PYTHON, ids=number)
def test_own_model_block_runs_as_printed(block: Block, folder: Path) -> None:
    for module in filter(None, re.findall(r"^(?:from|import) (\w+)", block.code, re.M)):
        pytest.importorskip(module)
    torch.manual_seed(0)  # random weights, the same in each run
    maps = run(block.code).get("maps")
    if isinstance(maps, torch.Tensor):
        assert maps.shape[1:] == (224, 224)
        assert maps.min() == 0 and maps.amax((1, 2)).tolist() == [1] * len(maps)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "bash"], ids=lambda b: b.heading)
def test_own_model_command_runs_as_printed(block: Block, folder: Path) -> None:
    subprocess.run(["bash", "-euc", block.code], check=True)
    assert len([*(folder / "maps").glob("*.png")]) == 2


def test_own_model_file_adds_a_method_to_the_command_line(folder: Path) -> None:
    entry = next(block.code for block in PYTHON if "iscam.METHODS[" in block.code).partition("study =")[0]
    with (folder / "my_models.py").open("a", encoding="utf-8") as file:
        file.write(f"\n\n{entry}")
    options = "--model my_models.py:network --method peak_cam --output maps"
    subprocess.run(["iscam", "explain", "dog.jpg", *options.split()], check=True)
    assert (folder / "maps/dog_peak_cam.png").exists()


@pytest.mark.parametrize("block", PYTHON, ids=number)
def test_own_model_block_has_ten_lines_at_most(block: Block) -> None:
    assert len([line for line in block.code.splitlines() if line.strip()]) <= 10


def test_readme_example_runs_as_printed(folder: Path) -> None:
    readme = read_blocks((ROOT / "README.md").read_text(encoding="utf-8"))
    (example,) = [block for block in readme if block.language == "python"]
    weights = folder / "hub/checkpoints" / ResNet18_Weights.DEFAULT.url.rpartition("/")[2]  # as if downloaded before
    weights.parent.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(resnet18().state_dict(), weights)
    run(example.code)
    with Image.open(folder / "dog_map.png") as figure:
        assert min(figure.size) > 100


def test_own_model_table_equals_the_record() -> None:
    with_table = runpy.run_path(str(ROOT / "book/architectures.py"))["with_table"]
    assert with_table(PAGE) == PAGE, "run: python book/architectures.py"


# ------------------------------------------------------------------------------------ what went wrong, by message


class Returns(nn.Module):
    """A classifier whose output `wrap` changes; `branch` does not reach the scores."""

    def __init__(self, wrap: Callable[[torch.Tensor], object]) -> None:
        super().__init__()
        self.model, self.branch, self.wrap = resnet18(num_classes=5), nn.Conv2d(3, 4, 3), wrap

    def forward(self, images: torch.Tensor) -> object:
        self.branch(images)
        return self.wrap(self.model(images))


def negative_head() -> nn.Module:
    """A network whose class scores all fall as more of the image is visible."""
    model = resnet18(num_classes=5)
    nn.init.constant_(model.fc.weight, -1)
    return model


class OneSize(nn.Sequential):
    """A network for images of 64x64 only; its layer 1 returns (batch, 16, 16, 16)."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 16, 4, 4), nn.ReLU(), nn.Flatten(), nn.Linear(16**3, 5))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[2:] == (64, 64)
        return super().forward(images)


def grad_cam(net: iscam.Network | nn.Module, channels: int = 3, size: int = 224) -> None:
    iscam.explain(net, torch.rand(1, channels, size, size), 3, method="grad_cam")


#: What causes each message of the page, in the page's order.
CAUSES: list[Callable[[], object]] = [
    lambda: grad_cam(iscam.Network(resnet18(num_classes=5), "avgpool")),
    lambda: grad_cam(negative_head()),
    lambda: grad_cam(Returns(lambda scores: scores.softmax(1))),
    lambda: iscam.Network(Returns(nn.functional.dropout)),
    lambda: iscam.Network(Returns(lambda scores: scores - scores.mean(0))),
    lambda: iscam.explain(resnet18(num_classes=5), torch.rand(1, 3, 64, 64)),
    lambda: grad_cam(iscam.Network(OneSize(), "1"), size=64),
    lambda: grad_cam(iscam.Network(resnet18(num_classes=5), "layer4.1.relu")),
    lambda: grad_cam(Returns(lambda scores: {"scores": scores})),
    lambda: grad_cam(iscam.Network(Returns(lambda scores: scores), "branch")),
    lambda: iscam.explain(vgg16(num_classes=5), torch.rand(1, 3, 224, 224), method="cam"),
    lambda: grad_cam(resnet18(num_classes=5), channels=1),
]

MESSAGES = re.findall(r"^\| `(.+?)` \|", PAGE.partition("## What went wrong")[2].partition("Some mistakes")[0], re.M)


def test_own_model_every_message_has_its_cause() -> None:
    assert len(MESSAGES) == len(CAUSES)


@pytest.mark.parametrize(("message", "cause"), zip(MESSAGES, CAUSES, strict=False), ids=MESSAGES)
def test_own_model_message_is_the_librarys(message: str, cause: Callable[[], object]) -> None:
    torch.manual_seed(0)
    with pytest.raises((iscam.InputError, UserWarning), match=re.escape(message)):  # warnings are errors in tests
        cause()


def cost(method: iscam.Method) -> str:
    """Forward passes per map as a formula of the number of channels or positions."""
    fixed, with_one = (method.passes(count, method.options()) for count in (0, 1))
    factor, count = with_one - fixed, "K" if method.cost_of == "channel" else "hw"
    return f"${factor if factor > 1 else ''}{count} + {fixed}$" if factor else f"{fixed}"


def test_own_model_costs_are_the_registrys() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\$?[\dKhw +]+\$?) \|", PAGE, re.M)
    assert dict(rows) == {name: cost(method) for name, method in iscam.METHODS.items()}


# ------------------------------------------------------------------------------- what the page says of the methods


def differences(name: str, method: str, other: str) -> pd.DataFrame:
    """Paired differences of a recorded run: "better" is 1, -1, or 0 if the interval contains zero."""
    frame = iscam.paired(recorded(name)[0], method, other)
    frame = frame[frame["metric"].isin(iscam.METRICS)]
    lower = frame["metric"].map(lambda metric: iscam.METRICS[metric].better == "lower")
    sign = (frame["low"] > 0).astype(int) - (frame["high"] < 0).astype(int)
    return frame.assign(better=sign.where(~lower, -sign)).set_index(["model", "metric"])


PAPER = ["insertion", "deletion", "average_drop", "average_increase", "energy"]


@pytest.mark.parametrize("method", ["score_cam", "grad_cam_pp"])
def test_own_model_claim_larger_maps_and_a_lower_drop_than_grad_cam(method: str) -> None:
    rows = differences("tables_menagerie", method, "grad_cam")
    better = rows["better"].unstack("metric")
    assert len(better) == 3
    assert (better["average_drop"] == 1).all()
    assert (better["complexity"] == -1).all()
    assert (rows["mean"].xs("part_correlation", level="metric").abs() <= 0.04).all()


def test_own_model_claim_no_method_wins_all() -> None:
    for name in ("tables_menagerie", "tables_squeezenet"):
        for method in ("score_cam", "grad_cam_pp", "is_cam", "ss_cam"):
            better = differences(name, method, "grad_cam")["better"].unstack("metric")
            won = better[[metric for metric in PAPER if metric in better]] == 1
            assert not won.all(axis=1).any(), (name, method)


def test_own_model_claim_is_cam_and_score_cam_differ_little() -> None:
    runs = ("tables_menagerie", "tables_squeezenet")
    better = pd.concat([differences(name, "is_cam", "score_cam")["better"] for name in runs])
    assert (better == 0).mean() > 0.6
    drawings = differences("tables_menagerie", "is_cam", "score_cam")
    assert (drawings["mean"].xs("average_drop", level="metric").abs() <= 0.015).all()
    photographs = differences("tables_squeezenet", "is_cam", "score_cam").loc["squeezenet1_0"]
    assert photographs.loc["average_drop", "better"] == -1
    assert photographs.loc["complexity", "high"] < 0


def test_own_model_claim_ss_cam_drops_more_than_score_cam() -> None:
    better = differences("tables_menagerie", "ss_cam", "score_cam")["better"].xs("average_drop", level="metric")
    assert better.tolist() == [-1, -1, -1]
