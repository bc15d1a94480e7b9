"""Networks that are small enough to check equations and axioms by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iscam.model import Network


class Split(nn.Module):
    """A network of two parts. `features`, the explained layer, maps an image to A, and `head` maps A to logits."""

    def __init__(self, features: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Apply(nn.Module):
    """A module that applies a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def image(seed: int = 0, size: int = 16) -> Tensor:
    """Return a smooth random image (3, size, size) with values around 0."""
    coarse = torch.randn(1, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (size, size), mode="bicubic", align_corners=False)[0]


def small(seed: int = 0, *, bias: bool = True, pooled: bool = False) -> Network:
    """Return a ReLU network with random weights, 5 classes, and an explained layer with 6 channels.

    The maps of the explained layer have half the size of the image. With `pooled`, the head is global average pooling
    and one linear layer, which CAM needs. Otherwise, a convolution with ReLU precedes them. Without `bias`, the network
    is positively homogeneous: S(t x) = t S(x) for t > 0.
    """
    features = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=bias), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 6, 3, padding=1, bias=bias), nn.ReLU(),
    )  # fmt: skip
    before = [] if pooled else [nn.Conv2d(6, 8, 3, padding=1, bias=bias), nn.ReLU()]
    last = nn.Linear(6 if pooled else 8, 5, bias=bias)
    model = Split(features, nn.Sequential(*before, nn.AdaptiveAvgPool2d(1), nn.Flatten(), last))
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 50
            parameter.normal_(0, (2 / fan_in) ** 0.5, generator=g)
        last.weight.mul_(3)  # increases the differences between the probabilities
    return Network(model.eval(), "features")


def flipping(size: int = 4) -> Network:
    """Return a network with A = ReLU(1 - x) for an image (1, size, size).

    If one pixel is set to 1, the prediction changes from class 0 to class 1.
    """
    layer, head = nn.Conv2d(1, 1, 1), nn.Linear(size**2, 2)
    with torch.no_grad():
        layer.weight.fill_(-1)
        layer.get_parameter("bias").fill_(1)
        head.weight.copy_(torch.tensor([4.0, -4.0])[:, None].expand(2, size**2))
        head.bias.copy_(torch.tensor([-4.0, 4.0]) * (size**2 - 0.5))
    return Network(Split(nn.Sequential(layer, nn.ReLU()), nn.Sequential(nn.Flatten(), head)).eval(), "features")


def half_blind() -> Network:
    """Return a network whose head ignores channel 1 of A.

    Channel 0 of A is the left half of a one-channel image, and channel 1 is the right half.
    """

    def halves(x: Tensor) -> Tensor:
        left = (torch.arange(x.shape[3], device=x.device) < x.shape[3] // 2).to(x)
        return torch.cat([x * left, x * (1 - left)], dim=1)

    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[4.0, 0.0], [0.0, 0.0]]))
    return Network(Split(Apply(halves), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)).eval(), "features")


def constant(net: Network) -> Network:
    """Return a copy of the network whose last linear layer has zero weights, so every image has the same logits."""
    model = copy.deepcopy(net.model)
    *_, last = model.modules()
    with torch.no_grad():
        last.get_parameter("weight").zero_()
    return Network(model, net.layer)


def rewritten(net: Network, there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]) -> Network:
    """Return a network that computes the same function.

    The explained layer returns there(A), and the head starts with back(.). `back` must be the inverse of `there`.
    """
    features, head = net.model.get_submodule("features"), net.model.get_submodule("head")
    return Network(Split(nn.Sequential(features, Apply(there)), nn.Sequential(Apply(back), head)), "features")


def without_biases(net: Network) -> Network:
    """Return a copy without biases and without the running means of batch normalisation: the limit of S(t x) / t."""
    model = copy.deepcopy(net.model)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.split(".")[-1] in ("bias", "running_mean"):
                tensor.zero_()
    return Network(model, net.layer)
