"""The equations of the methods that return maps, written a second time, slowly and literally, in float64.

The package and this file share only conventions that are no equations: the noise of a key, and the grid and the shift
of a mask of RISE. A network is a `reference.Split`.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor, nn

from helpers.reference import Split, min_max
from iscam.rng import noise


def image_gradient(net: Split, x: np.ndarray, target: int) -> np.ndarray:
    """dS/dX of the class logit S."""
    image = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    net.back(net.front(image[None]))[0, target].backward()
    return image.grad.numpy()


def merged(values: np.ndarray, colours: str) -> np.ndarray:
    """One value per pixel, from the values of the channels."""
    out = np.empty(values.shape[1:])
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            pixel = values[:, i, j]
            out[i, j] = {
                "max_abs": max(abs(v) for v in pixel),
                "sum_abs": sum(abs(v) for v in pixel),
                "abs_sum": abs(sum(pixel)),
                "positive_sum": max(sum(pixel), 0),
            }[colours]
    return out


def saliency(net: Split, x: np.ndarray, target: int, *, colours: str = "max_abs") -> np.ndarray:
    return min_max(merged(image_gradient(net, x, target), colours))


def smoothgrad(
    net: Split,
    x: np.ndarray,
    target: int,
    *,
    samples: int = 50,
    sigma: float = 0.15,
    seed: int = 0,
    colours: str = "sum_abs",
) -> np.ndarray:
    """The mean of the signed gradients at X + noise."""
    total = np.zeros_like(x)
    for n in range(samples):
        drawn = noise(torch.tensor(x, dtype=torch.float32), seed, n).double().numpy()
        total += image_gradient(net, x + sigma * (x.max() - x.min()) * drawn, target)
    return min_max(merged(total / samples, colours))


def integrated_gradients(
    net: Split, x: np.ndarray, target: int, *, steps: int = 50, colours: str = "positive_sum"
) -> np.ndarray:
    """X times the mean gradient on the path t X, at the nodes of the Gauss-Legendre rule of [0, 1]."""
    nodes, weights = legendre.leggauss(steps)
    total = np.zeros_like(x)
    for node, weight in zip(nodes, weights, strict=True):
        total += weight / 2 * image_gradient(net, (1 + node) / 2 * x, target)
    return min_max(merged(x * total, colours))


class GuidedReLU(nn.Module):
    """R_l = 1[x_l > 0] · max(0, R_{l+1})."""

    class Rule(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.where(x > 0, x, 0)

        @staticmethod
        def backward(ctx, r):
            (x,) = ctx.saved_tensors
            return (x > 0) * torch.where(r > 0, r, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.Rule.apply(x)


def guided_backprop(model: nn.Module, x: np.ndarray, target: int, *, colours: str = "max_abs") -> np.ndarray:
    """The gradient of a copy of the model whose ReLUs follow the guided rule."""
    double = copy.deepcopy(model).double().eval()
    for name, module in list(double.named_modules()):
        if isinstance(module, nn.ReLU):
            double.set_submodule(name, GuidedReLU())
    image = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    double(image[None])[0, target].backward()
    return min_max(merged(image.grad.numpy(), colours))


def rise_mask(grid: np.ndarray, shift: list[int], height: int, width: int) -> np.ndarray:
    """One mask as in the authors' code, with their library: resize to (s + 1) cells, then cut at the shift."""
    from skimage.transform import resize

    s = len(grid)
    size = [(s + 1) * math.ceil(side / s) for side in (height, width)]
    up = resize(grid, size, order=1, mode="edge", anti_aliasing=False)
    return up[shift[0] : shift[0] + height, shift[1] : shift[1] + width]


def rise(net: Split, x: np.ndarray, target: int, masks: list[np.ndarray], keep: float) -> np.ndarray:
    """S = 1 / (N p) sum over n of C(X o M_n) M_n."""
    total = np.zeros(x.shape[1:])
    for mask in masks:
        total += net.probability(x * mask, target) * mask
    return total / (len(masks) * keep)


class MaskLoss:
    """The objective of Mask for one shift of 0 pixels, as a function of the mask m (h, w)."""

    def __init__(self, net: Split, x: np.ndarray, target: int, l1: float, tv: float) -> None:
        self.net, self.x, self.target, self.l1, self.tv = net, x, target, l1, tv
        self.scale = min(x.shape[1:]) / 224
        self.blurred = np.stack([smoothed(channel, 10 * self.scale) for channel in x])

    def __call__(self, m: np.ndarray) -> float:
        kept = self.at_image_size(m)
        image = kept * self.x + (1 - kept) * self.blurred
        penalty = self.l1 * sum(abs(1 - value) for value in m.flat)
        for i in range(m.shape[0]):
            for j in range(m.shape[1]):
                down = m[i + 1, j] - m[i, j] if i + 1 < m.shape[0] else 0
                right = m[i, j + 1] - m[i, j] if j + 1 < m.shape[1] else 0
                penalty += self.tv * math.hypot(down, right) ** 3
        return penalty + self.net.probability(image, self.target)

    def at_image_size(self, m: np.ndarray) -> np.ndarray:
        height, width = self.x.shape[1:]
        repeated = np.empty((height, width))
        for i in range(height):
            for j in range(width):
                repeated[i, j] = m[i * m.shape[0] // height, j * m.shape[1] // width]
        return smoothed(repeated, 5 * self.scale)


def smoothed(a: np.ndarray, sigma: float) -> np.ndarray:
    """The mean of all pixels, weighted with a Gaussian of their distance."""
    out = np.empty_like(a)
    y, x = np.mgrid[: a.shape[0], : a.shape[1]]
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            weights = np.exp(-((y - i) ** 2 + (x - j) ** 2) / (2 * sigma**2))
            out[i, j] = (weights * a).sum() / weights.sum()
    return out
