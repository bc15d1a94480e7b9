"""The equations written a second time, slowly and literally, in float64. The package is compared with them.

The only code shared with the package is its noise, which is a convention and not an equation. A network consists of two
functions here, `front` (image to activations A) and `back` (A to logits). Both take one image at a time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.polynomial import legendre
from torch import Tensor, nn

from iscam.rng import noise


@dataclass
class Split:
    """A network in float64, cut at the explained layer."""

    front: Callable[[Tensor], Tensor]  # (1, 3, H, W) -> (1, K, h, w)
    back: Callable[[Tensor], Tensor]  # (1, K, h, w) -> (1, classes)

    def logits(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.back(self.front(torch.tensor(x, dtype=torch.float64)[None]))[0].numpy()

    def activations(self, x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return self.front(torch.tensor(x, dtype=torch.float64)[None])[0].clone().numpy()

    def probability(self, x: np.ndarray, target: int) -> float:
        return softmax(self.logits(x))[target]

    def score_behind(self, a: np.ndarray, target: int, score: str) -> float:
        """The score of activations A."""
        with torch.no_grad():
            logits = self.back(torch.tensor(a)[None])[0].numpy()
        return softmax(logits)[target] if score == "probability" else float(logits[target])

    def logit(self, x: np.ndarray, target: int) -> float:
        return float(self.logits(x)[target])

    def gradient(self, x: np.ndarray, target: int) -> np.ndarray:
        """dS/dA of the class logit S."""
        a = torch.tensor(self.activations(x), requires_grad=True)
        self.back(a[None].clone())[0, target].backward()
        return a.grad.numpy()


def softmax(logits: np.ndarray) -> list[float]:
    exponentials = [math.exp(s - max(logits)) for s in logits]
    return [each / sum(exponentials) for each in exponentials]


def split(model: nn.Module, front: Callable, back: Callable) -> Split:
    """A float64 copy of a model in evaluation mode, in two parts: `front(model, x)` and `back(model, a)`."""
    double = copy.deepcopy(model).double().eval().requires_grad_(False)
    return Split(lambda x: front(double, x), lambda a: back(double, a))


# ----------------------------------------------------------------------------------------------- pieces of the equation


def upsample(a: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation, align_corners=False: pixel centres lie at 1/2, and outer values extend to the border."""
    h, w = a.shape
    out = np.empty((height, width))
    for i in range(height):
        y = max((i + 0.5) * h / height - 0.5, 0)
        y0 = int(y)
        y1 = min(y0 + 1, h - 1)
        for j in range(width):
            x = max((j + 0.5) * w / width - 0.5, 0)
            x0 = int(x)
            x1 = min(x0 + 1, w - 1)
            top = (1 - (x - x0)) * a[y0, x0] + (x - x0) * a[y0, x1]
            bottom = (1 - (x - x0)) * a[y1, x0] + (x - x0) * a[y1, x1]
            out[i, j] = (1 - (y - y0)) * top + (y - y0) * bottom
    return out


def min_max(a: np.ndarray) -> np.ndarray:
    """Equation 8. A constant map becomes all zeros."""
    if a.max() == a.min():
        return np.zeros_like(a)
    return (a - a.min()) / (a.max() - a.min())


def saliency(weights: np.ndarray, activations: np.ndarray, height: int, width: int) -> np.ndarray:
    """L = s(ReLU(sum over k of alpha_k up(A_k))), or of up(alpha_k A_k) if alpha_k holds a weight per position."""
    total = np.zeros((height, width))
    for k in range(len(activations)):
        total += upsample(weights[k] * activations[k], height, width)
    return min_max(np.maximum(total, 0))


# ----------------------------------------------------------------------------------------------------- gradient methods


def cam(net: Split, x: np.ndarray, target: int, *, head: np.ndarray) -> np.ndarray:
    """alpha_k = w_k of the last linear layer's row of the class, `head` (classes, K)."""
    return np.array([head[target, k] for k in range(head.shape[1])])


def grad_cam(net: Split, x: np.ndarray, target: int) -> np.ndarray:
    """alpha_k = 1/Z sum over i, j of dS/dA_kij."""
    g = net.gradient(x, target)
    return np.array([sum(g[k].flat) / g[k].size for k in range(len(g))])


def grad_cam_pp(net: Split, x: np.ndarray, target: int) -> np.ndarray:
    g = net.gradient(x, target)
    return plus_plus(net.activations(x), g, g**2, g**3)


def smooth_grad_cam_pp(
    net: Split, x: np.ndarray, target: int, *, samples: int = 15, sigma: float = 0.15, seed: int = 0
) -> np.ndarray:
    """The first three powers of the gradient, averaged over noisy images. Class and A are those of the clean image."""
    std = sigma * (x.max() - x.min())
    gradients = []
    for n in range(samples):
        drawn = noise(torch.tensor(x, dtype=torch.float32), seed, n).double().numpy()
        gradients.append(net.gradient(x + std * drawn, target))
    g1, g2, g3 = (sum(g**power for g in gradients) / samples for power in (1, 2, 3))
    return plus_plus(net.activations(x), g1, g2, g3)


def plus_plus(a: np.ndarray, g1: np.ndarray, g2: np.ndarray, g3: np.ndarray) -> np.ndarray:
    """Grad-CAM++, equations 10 and 19 with Y = exp(S), whose derivatives are exp(S) times powers of g."""
    alpha = np.zeros(len(a))
    for k in range(len(a)):
        total = sum(a[k].flat)
        for i in range(a.shape[1]):
            for j in range(a.shape[2]):
                denominator = 2 * g2[k, i, j] + total * g3[k, i, j]
                if denominator != 0:
                    alpha[k] += g2[k, i, j] / denominator * max(g1[k, i, j], 0)
    return alpha


def layer_cam(net: Split, x: np.ndarray, target: int) -> np.ndarray:
    """alpha_kij = ReLU(dS/dA_kij)."""
    g = net.gradient(x, target)
    weights = np.zeros_like(g)
    for position in np.ndindex(g.shape):
        weights[position] = max(g[position], 0)
    return weights


def xgrad_cam(net: Split, x: np.ndarray, target: int) -> np.ndarray:
    """alpha_k = sum over i, j of A_kij / (sum over a, b of A_kab) dS/dA_kij, and 0 for a channel whose sum is 0."""
    a, g = net.activations(x), net.gradient(x, target)
    alpha = np.zeros(len(a))
    for k in range(len(a)):
        total = sum(a[k].flat)
        if total != 0:
            alpha[k] = sum(a[k, i, j] / total * g[k, i, j] for i, j in np.ndindex(a[k].shape))
    return alpha


# ------------------------------------------------------------------------------------------------- changed activations


def ablation_cam(net: Split, x: np.ndarray, target: int, *, score: str = "logit") -> np.ndarray:
    """alpha_k = (y - y_k) / y."""
    a = net.activations(x)
    y = net.score_behind(a, target, score)
    alpha = np.zeros(len(a))
    for k in range(len(a)):
        without = a.copy()
        without[k] = 0
        alpha[k] = (y - net.score_behind(without, target, score)) / y
    return alpha


def recipro_cam(
    net: Split, x: np.ndarray, target: int, *, score: str = "probability", gaussian: bool = False
) -> np.ndarray:
    """The map: one position of A at a time is kept, or spread over its neighbours that lie inside the layer."""
    a = net.activations(x)
    scores = np.zeros(a.shape[1:])
    for i, j in np.ndindex(scores.shape):
        kept = np.zeros_like(a)
        if gaussian:
            for di, dj in np.ndindex(3, 3):
                row, column = i + di - 1, j + dj - 1
                if 0 <= row < a.shape[1] and 0 <= column < a.shape[2]:
                    kept[:, row, column] = a[:, i, j] * (2 - abs(di - 1)) * (2 - abs(dj - 1)) / 16
        else:
            kept[:, i, j] = a[:, i, j]
        scores[i, j] = net.score_behind(kept, target, score)
    return min_max(upsample(scores, *x.shape[1:]))


# ------------------------------------------------------------------------------------------------------------- Opti-CAM


def opti_cam(net: Split, x: np.ndarray, target: int, *, steps: int = 50, learning_rate: float = 0.1) -> np.ndarray:
    """softmax(w) of the step with the highest logit, from torch's Adam. Constant channels have no weight."""
    activations = net.activations(x)
    channels = [k for k, each in enumerate(activations) if each.max() > each.min()]
    image, a = torch.tensor(x), torch.tensor(activations[channels])
    w = torch.full((len(a),), 0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w], lr=learning_rate, maximize=True)
    best, weights = -math.inf, None
    for _ in range(steps):
        total = sum(alpha * each for alpha, each in zip(w.softmax(0), a, strict=True))
        large = F.interpolate(total[None, None], x.shape[1:], mode="bilinear", align_corners=False)[0, 0]
        mask = (large - large.min()) / (large.max() - large.min())
        logit = net.back(net.front((image * mask)[None]))[0, target]
        if logit.item() > best:
            best, weights = logit.item(), w.detach().softmax(0).numpy()
        adam.zero_grad()
        logit.backward()
        adam.step()
    alpha = np.zeros(len(activations))
    alpha[channels] = weights
    return alpha


# -------------------------------------------------------------------------------------------------------- score methods


def score_cam(net: Split, x: np.ndarray, target: int, **options) -> np.ndarray:
    return integrated(net, x, target, lambda masked, k: [masked], [1.0], **options)


def ss_cam(
    net: Split, x: np.ndarray, target: int, *, samples: int = 15, sigma: float = 2.0, seed: int = 0, **options
) -> np.ndarray:
    def noisy(masked: np.ndarray, k: int) -> list[np.ndarray]:
        std = (sigma / (masked.max() - masked.min())) ** 2
        like = torch.tensor(x, dtype=torch.float32)
        return [masked + std * noise(like, seed, k, n).double().numpy() for n in range(samples)]

    return integrated(net, x, target, noisy, [1 / samples] * samples, **options)


def is_cam(
    net: Split,
    x: np.ndarray,
    target: int,
    *,
    steps: int = 15,
    schedule="cumulative",
    nodes: int | None = None,
    **options,
) -> np.ndarray:
    t, w = schedule_of(steps, schedule, nodes)
    return integrated(net, x, target, lambda masked, k: [each * masked for each in t], w, **options)


def integrated(
    net: Split,
    x: np.ndarray,
    target: int,
    inputs: Callable[[np.ndarray, int], list[np.ndarray]],
    w: list[float],
    *,
    score: str = "probability",
    channel_softmax: bool = False,
    baseline: str | None = None,
    normalise: str = "upsampled",
    channels: int | None = None,
) -> np.ndarray:
    """alpha_k = sum over n of w_n C(input_kn), minus w_n C(0) with a baseline. Passes run one by one.

    Only the `channels` channels of largest standard deviation are scored.
    """
    c = {"probability": net.probability, "logit": net.logit}[score]
    activations = net.activations(x)

    def up(a: np.ndarray) -> np.ndarray:
        return upsample(a, *x.shape[1:])

    spread = [math.sqrt(sum((value - a.mean()) ** 2 for value in a.flat) / a.size) for a in activations]
    chosen = sorted(range(len(activations)), key=lambda k: -spread[k])[:channels]
    alpha = {}
    for k, a in enumerate(activations):
        if a.max() == a.min() or k not in chosen:
            continue
        first, second = (up, min_max) if normalise == "upsampled" else (min_max, up)
        mask = second(first(a))
        alpha[k] = 0.0
        for w_n, scored in zip(w, inputs(mask * x, k), strict=True):
            alpha[k] += w_n * c(scored, target)
            if baseline == "zeros":
                alpha[k] -= w_n * c(np.zeros_like(x), target)
    if channel_softmax and alpha:
        total = sum(math.exp(value - max(alpha.values())) for value in alpha.values())
        alpha = {k: math.exp(value - max(alpha.values())) / total for k, value in alpha.items()}
    return np.array([alpha.get(k, 0.0) for k in range(len(activations))])


def score_cam_pp(
    net: Split, x: np.ndarray, target: int, *, score: str = "probability", baseline: str | None = "zeros"
) -> np.ndarray:
    """The map: gates tanh(up(A_k)) mask the image, and the map sums the same gates."""
    c = {"probability": net.probability, "logit": net.logit}[score]
    total = np.zeros(x.shape[1:])
    for a in net.activations(x):
        gate = np.tanh(upsample(a, *x.shape[1:]))
        alpha = c(x * gate, target)
        if baseline == "zeros":
            alpha -= c(np.zeros_like(x), target)
        total += alpha * gate
    return min_max(np.maximum(total, 0))


def grad_pp_score_cam(net: Split, x: np.ndarray, target: int, **options) -> np.ndarray:
    """The sum of both maps, scaled again."""
    total = np.zeros(x.shape[1:])
    for weights in (grad_cam_pp(net, x, target), score_cam(net, x, target, **options)):
        total += saliency(weights, net.activations(x), *x.shape[1:])
    return min_max(total)


def schedule_of(steps: int, schedule, nodes: int | None) -> tuple[list[float], list[float]]:
    """The numbers t and the weights w in IS-CAM's sum over C(t X o H)."""
    if not isinstance(schedule, str):
        return list(schedule), [1 / len(schedule)] * len(schedule)
    if schedule == "integral":
        return gauss_on_unit_interval(nodes or steps)
    i, w = (range(1, steps + 1), [1 / steps] * steps) if nodes is None else gauss_on_integers(steps, nodes)
    if schedule == "cumulative":  # M_i = M_{i-1} + (X o H) i/N, where i = 1..N may be the fractional node of a rule
        return [each * (each + 1) / (2 * steps) for each in i], list(w)
    return [each / steps for each in i], list(w)


def gauss_on_unit_interval(nodes: int) -> tuple[list[float], list[float]]:
    """Gauss-Legendre on [0, 1]: the zeros z of P_n and weights 2 / ((1 - z^2) P_n'(z)^2), mapped from [-1, 1]."""
    p = legendre.Legendre.basis(nodes)
    zeros = sorted(np.real(p.roots()))
    return [(z + 1) / 2 for z in zeros], [1 / ((1 - z**2) * p.deriv()(z) ** 2) for z in zeros]


def gauss_on_integers(steps: int, nodes: int) -> tuple[list[float], list[float]]:
    """Gauss's rule for the mean over i = 1..steps: zeros of the discrete orthogonal polynomial, weights from moments.

    Least squares gives the polynomial of degree n that is orthogonal on the points to all polynomials of lower degree.
    """
    points = (np.arange(1, steps + 1) - (steps + 1) / 2) / steps
    if nodes == steps:
        return list(range(1, steps + 1)), [1 / steps] * steps
    powers = np.vander(points, nodes + 1, increasing=True)
    lower = powers[:, :nodes]
    coefficients, *_ = np.linalg.lstsq(lower, powers[:, nodes], rcond=None)
    z = np.sort(np.real(np.roots([1, *(-coefficients[::-1])])))
    moments = lower.mean(0)
    w = np.linalg.solve(np.vander(z, nodes, increasing=True).T, moments)
    return list(z * steps + (steps + 1) / 2), list(w)


# -------------------------------------------------------------------------------------------------------------- metrics


def insertion(
    net: Split, x: np.ndarray, saliency_map: np.ndarray, target: int, step: int = 224, start: str = "zeros"
) -> tuple[list[float], list[float], float]:
    return curve(net, np.zeros_like(x) if start == "zeros" else blurred(x), x, saliency_map, target, step)


def deletion(net: Split, x: np.ndarray, saliency_map: np.ndarray, target: int, step: int = 224):
    return curve(net, x, np.zeros_like(x), saliency_map, target, step)


def curve(net: Split, before: np.ndarray, after: np.ndarray, saliency_map: np.ndarray, target: int, step: int):
    """Fractions, probabilities and the area under the curve while pixels change one by one, the highest first."""
    height, width = saliency_map.shape
    order = sorted(range(height * width), key=lambda p: (-saliency_map[p // width, p % width], p))
    canvas = before.copy()
    fractions, scores = [0.0], [net.probability(canvas, target)]
    for done, pixel in enumerate(order, start=1):
        canvas[:, pixel // width, pixel % width] = after[:, pixel // width, pixel % width]
        if done % step == 0 or done == len(order):
            fractions.append(done / len(order))
            scores.append(net.probability(canvas, target))
    area = 0.0
    for j in range(1, len(scores)):
        area += (fractions[j] - fractions[j - 1]) * (scores[j] + scores[j - 1]) / 2
    return fractions, scores, area


def blurred(x: np.ndarray, size: int = 11, sigma: float = 5.0) -> np.ndarray:
    """Gaussian blur with a normalised kernel of size x size. The image is mirrored at its borders."""
    r = size // 2
    padded = np.pad(x, ((0, 0), (r, r), (r, r)), mode="reflect")
    out, total = np.zeros_like(x), 0.0
    for i in range(-r, r + 1):
        for j in range(-r, r + 1):
            weight = math.exp(-(i * i + j * j) / (2 * sigma**2))
            out += weight * padded[:, r + i : r + i + x.shape[1], r + j : r + j + x.shape[2]]
            total += weight
    return out / total


def confidence(net: Split, x: np.ndarray, saliency_map: np.ndarray, target: int) -> tuple[float, float]:
    return net.probability(x, target), net.probability(x * saliency_map, target)


def upper_pixels(saliency_map: np.ndarray, keep: float) -> np.ndarray:
    """The map with zeros at all pixels but the n of largest value. Of equal pixels, the first row by row stay."""
    height, width = saliency_map.shape
    n = max(1, round(keep * height * width))
    pixels = sorted((-saliency_map[i, j], i, j) for i in range(height) for j in range(width))
    out = np.zeros_like(saliency_map)
    for _, i, j in pixels[:n]:
        out[i, j] = saliency_map[i, j]
    return out


def average_drop(y: float, o: float) -> float:
    return max(0, y - o) / y if y > 0 else 0


def average_increase(y: float, o: float) -> bool:
    return y < o


def average_gain(y: float, o: float) -> float:
    return math.nan if y == 1 else max(0, o - y) / (1 - y)


def complexity(saliency_map: np.ndarray) -> float:
    """The mean absolute value of the map."""
    total = 0.0
    for value in saliency_map.flat:
        total += abs(value)
    return total / saliency_map.size


def coherency(saliency_map: np.ndarray, again: np.ndarray) -> float:
    """Pearson's correlation of two maps, mapped from [-1, 1] to [0, 1]. It is NaN if a map is constant."""
    a, b = list(saliency_map.flat), list(again.flat)
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    covariance = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True)) / len(a)
    deviations = [math.sqrt(sum((x - m) ** 2 for x in each) / len(each)) for each, m in ((a, mean_a), (b, mean_b))]
    if 0 in deviations:
        return math.nan
    return (covariance / (deviations[0] * deviations[1]) + 1) / 2


def adcc(y: float, o: float, saliency_map: np.ndarray, again: np.ndarray) -> float:
    parts = [coherency(saliency_map, again), 1 - complexity(saliency_map), 1 - average_drop(y, o)]
    return 0 if 0 in parts else 3 / (1 / parts[0] + 1 / parts[1] + 1 / parts[2])


def win(y: float, o_a: float, o_b: float) -> bool:
    """a wins if its drop Y - O is smaller."""
    return y - o_a < y - o_b


def energy(saliency_map: np.ndarray, boxes: np.ndarray) -> float:
    """The share of the map inside the boxes, pixel by pixel."""
    if len(boxes) == 0:
        return math.nan
    inside = total = 0.0
    for i in range(saliency_map.shape[0]):
        for j in range(saliency_map.shape[1]):
            total += saliency_map[i, j]
            if any(xmin <= j + 0.5 < xmax and ymin <= i + 0.5 < ymax for xmin, ymin, xmax, ymax in boxes):
                inside += saliency_map[i, j]
    return inside / total if total > 0 else 0.0


def single_box_energy(saliency_map: np.ndarray, boxes: np.ndarray) -> float:
    """The energy if there is one box and at most half of the pixels are inside it, else NaN."""
    share = energy(np.ones(saliency_map.shape), boxes)
    return energy(saliency_map, boxes) if len(boxes) == 1 and 0 < share <= 0.5 else math.nan
