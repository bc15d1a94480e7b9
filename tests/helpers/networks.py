"""Small networks to explain. Each comes with images and with the same network for the slow reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision import models

import iscam
from helpers import reference
from helpers.images import smooth_images


class BiasFree(nn.Module):
    """Convolutions, ReLUs, max pooling and a linear head, all without bias: S(t x) = t S(x) for t > 0.

    Channel 3 of `features` is always zero.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.head = nn.Linear(8 * 5 * 4, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).flatten(1))


class Pooled(nn.Module):
    """A network whose layer `last` is followed by an in-place ReLU, global average pooling and one linear layer.

    Channel 2 of `last` is constant but not zero. Dropout and batch normalisation make training mode differ from
    evaluation mode.
    """

    def __init__(self) -> None:
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
    """Draw random weights from a seed. `gain` scales the head, so that probabilities lie well between 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, (2 / parameter[0].numel()) ** 0.5, generator=generator)
            else:
                parameter.uniform_(0, 0.2, generator=generator)
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
    """A network in the forms that the package and the reference take, with images and their classes."""

    net: iscam.Network
    split: reference.Split
    images: Tensor
    targets: Tensor


def bias_free_case() -> Case:
    """The fastest network."""
    model = bias_free()
    halves = reference.split(model, lambda m, x: m.features(x), lambda m, a: m.head(a.flatten(1)))
    return Case(iscam.Network(model, "features"), halves, smooth_images(3, 20, 16), torch.tensor([2, 0, 4]))


def pooled_case() -> Case:
    """A network with global average pooling and an in-place ReLU directly after the explained layer."""
    model = pooled()
    halves = reference.split(model, lambda m, x: m.last(m.first(x)), lambda m, a: m.head(a.relu().mean((2, 3))))
    return Case(iscam.Network(model, "last"), halves, smooth_images(3, 25, 31), torch.tensor([2, 3, 4]))


def squeezenet_case() -> Case:
    """SqueezeNet explained at features.3: a Fire module of 128 channels, whose last ReLU works in place."""
    model = squeezenet()
    halves = reference.split(
        model, lambda m, x: m.features[:4](x), lambda m, a: m.classifier(m.features[4:](a)).flatten(1)
    )
    return Case(iscam.Network(model, "features.3"), halves, smooth_images(1, 40, 36), torch.tensor([4]))


CASES: dict[str, Callable[[], Case]] = {
    "bias-free": bias_free_case,
    "pooled": pooled_case,
    "squeezenet": squeezenet_case,
}
