"""Small networks to explain, each with its literal counterpart, and the devices to try them on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import hypothesis
import matplotlib as mpl
import numpy as np
import pytest
import reference
import torch
from torch import Tensor, nn
from torchvision import models

import iscam

mpl.use("Agg")
hypothesis.settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
hypothesis.settings.load_profile("repeatable")
torch.set_num_threads(1)  # networks this small lose more than they gain by waiting for each other's threads

CUDA = pytest.param(
    "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
)


@pytest.fixture
def strict_float32(monkeypatch):
    """Convolutions in float32 on a GPU, too, not in TensorFloat-32, which the reference would not agree with."""
    monkeypatch.setattr("torch.backends.cudnn.allow_tf32", False)


@pytest.fixture(params=["cpu", CUDA])
def device(request, strict_float32):
    return request.param


@pytest.fixture(autouse=True)
def _one_cache_a_test(tmp_path_factory, monkeypatch):
    """No test reads or fills the user's cache, and none reaches the network."""
    monkeypatch.setenv("ISCAM_CACHE", str(tmp_path_factory.mktemp("cache")))

    def refuse(url, *args, **kwargs):
        raise ConnectionError(f"a test asked for {url}")

    monkeypatch.setattr("pooch.retrieve", refuse)


class BiasFree(nn.Module):
    """Convolutions, ReLUs, max pooling and a linear head, all without bias: S(t x) = t S(x) for t > 0.

    Channel 3 of `features` is dead.
    """

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(8 * 5 * 4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class Pooled(nn.Module):
    """Global average pooling and one linear layer behind `last`, whose output an in-place ReLU overwrites.

    Channel 2 of `last` is constant, not zero; dropout and batch normalisation tell training from evaluation.
    """

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.last = nn.Conv2d(6, 8, 3, stride=2)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        a = self.relu(self.last(self.first(x)))
        return self.head(self.drop(a).mean((2, 3)))


def scaled(model: nn.Module, seed: int, gain: float) -> nn.Module:
    """Random weights from a seed, with a head strong enough to give probabilities between 0 and 1."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=g)
            else:
                parameter.uniform_(0, 0.2, generator=g)
        model.head.weight.mul_(gain)
    return model.eval()


def bias_free() -> nn.Module:
    model = scaled(BiasFree(), 1, 1)
    with torch.no_grad():
        model.features[3].weight[3] = 0
    return model


def pooled() -> nn.Module:
    model = scaled(Pooled(), 2, 2)
    with torch.no_grad():
        model.first[1].weight.fill_(1)
        model.last.weight[2] = 0
        model.last.bias[2] = 0.7
    return model


def squeezenet() -> nn.Module:
    """SqueezeNet with random weights, a narrow layer to explain and logits that differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = models.squeezenet1_0(weights=None, num_classes=10)
    with torch.no_grad():
        model.classifier[1].weight.mul_(15)
    return model.eval()


@dataclass
class Case:
    """A network for the package and the same one for the reference; images and their classes."""

    net: iscam.Network
    split: reference.Split
    images: Tensor
    targets: Tensor


def bias_free_case() -> Case:
    model = bias_free()
    halves = reference.split(model, lambda m, x: m.features(x), lambda m, a: m.head(a.flatten(1)))
    return Case(iscam.Network(model, "features"), halves, smooth_images(3, 20, 16), torch.tensor([2, 0, 4]))


def pooled_case() -> Case:
    model = pooled()
    halves = reference.split(model, lambda m, x: m.last(m.first(x)), lambda m, a: m.head(a.relu().mean((2, 3))))
    return Case(iscam.Network(model, "last"), halves, smooth_images(3, 25, 31), torch.tensor([2, 3, 4]))


def squeezenet_case() -> Case:
    """Explained at features.3, a Fire module of 128 channels whose output an in-place ReLU leaves >= 0."""
    model = squeezenet()
    halves = reference.split(
        model, lambda m, x: m.features[:4](x), lambda m, a: m.classifier(m.features[4:](a)).flatten(1)
    )
    return Case(iscam.Network(model, "features.3"), halves, smooth_images(1, 40, 36), torch.tensor([4]))


CASES = {"bias-free": bias_free_case, "pooled": pooled_case, "squeezenet": squeezenet_case}


def smooth_images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Smooth random images, normalised: noise at a quarter of the size, upsampled."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, height // 4 + 1, width // 4 + 1, generator=g)
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)


def array(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()


@pytest.fixture
def case() -> Case:
    """The bias-free network, which is the quickest."""
    return bias_free_case()


@pytest.fixture
def gap() -> Case:
    """The network with global average pooling and an in-place ReLU right behind the explained layer."""
    return pooled_case()


@pytest.fixture
def peak_memory() -> Callable[..., float]:
    """The most memory in MB that a Python script held at once, run by itself with some arguments."""
    pytest.importorskip("resource")

    def peak(script: str, *arguments: object) -> float:
        last = "\nimport resource\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        command = [sys.executable, "-c", script + last, *map(str, arguments)]
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        return int(found.stdout.split()[-1]) * (1 if sys.platform == "darwin" else 1024) / 2**20

    return peak
