r"""Methods that score masked images: Score-CAM, SS-CAM, IS-CAM, Score-CAM++ and Grad++ScoreCAM.

In all docstrings, A is the layer's output (K, h, w), X is the image, and C(.) is the probability (or logit) of the
explained class. H_k = s(up(A_k)) is the mask of channel k: A_k is upsampled to the size of the image, and scaled to
[0, 1] with its minimum and maximum.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from iscam.engine.batching import CPU_BATCH, group_that_fits
from iscam.engine.first_layer import split_network
from iscam.engine.scoring import Scoring, masked_scores
from iscam.maps import active, min_max, scaled_map, upsample, upsampled_masks, weighted_map, weighted_sum
from iscam.methods.gradient import grad_cam_pp
from iscam.methods.options import GatedOptions, IsCamOptions, NoOptions, ScoreOptions, SsCamOptions
from iscam.methods.schedules import quadrature
from iscam.record import ForwardRecord
from iscam.rng import noises

#: Minimum number of passes per map for which the first convolution is computed once for several factors of a channel.
MIN_PASSES_TO_SHARE = 1000

#: A function that adds noise to masked images (P, channels, height, width), given the channel and step (k, n) of each.
Perturb = Callable[[Tensor, list[tuple[int, int]]], Tensor]


def score_cam(record: ForwardRecord, options: ScoreOptions) -> Tensor:
    r"""Return the weights of Score-CAM: the score of the image under the channel's mask,  α_k = C(X ∘ H_k).

    Returns weights (K,). A constant channel has weight 0.

    Source: Wang et al. 2020, arXiv 1910.01279, and its authors' code, which takes the class probability, subtracts no
    baseline and applies no softmax across channels. For the paper's Algorithm 1 (logit, channel softmax), use
    `score="logit", channel_softmax=True`.
    """
    one = record.image.new_ones(1)
    return channel_weights(record, one, one, options)


def ss_cam(record: ForwardRecord, options: SsCamOptions) -> Tensor:
    r"""Return the weights of SS-CAM: the mean score of noisy masked images,  α_k = 1/N Σ_n C(X ∘ H_k + ε_kn).

    The noise is ε_kn ~ Normal(0, std_k) with std_k = (`sigma` / range_k)² and range_k = max - min of X ∘ H_k, as in the
    authors' code: `sigma` is a factor, not a standard deviation. `samples` is N, at most 1,000,000. The noise depends
    only on (`seed`, channel, sample). With `sigma=0`, SS-CAM equals Score-CAM.

    Returns weights (K,). A constant channel has weight 0.

    Source: Wang et al. 2020, arXiv 2006.14255 (the second variant, with noise on the masked input), and a co-author's
    code. torch-cam's SSCAM instead adds noise of standard deviation 2 to the [0, 1] mask.
    """
    samples = options.samples

    def add_noise(x: Tensor, channels_and_samples: list[tuple[int, int]]) -> Tensor:
        spread = x.amax((1, 2, 3)) - x.amin((1, 2, 3))
        std = torch.where(spread > 0, (options.sigma / spread) ** 2, 0)
        draws = noises(record.image, [(options.seed, *pair) for pair in channels_and_samples])
        return x.addcmul_(std[:, None, None, None], draws)

    perturb = add_noise if options.sigma > 0 else None
    ones = record.image.new_ones(samples)
    return channel_weights(record, ones, ones / samples, options, perturb)


def is_cam(record: ForwardRecord, options: IsCamOptions) -> Tensor:
    r"""Return the weights of IS-CAM: the mean score over scaled copies of the masked image,

    α_k = 1/N Σ_{i=1..N} C(t_i X ∘ H_k).

    `steps` is N, at most 1,000,000. `schedule` gives the factors t_i:

    - "cumulative": t_i = i(i+1)/(2N), which grows to (N+1)/2. This is equation 7 as its authors ran it.
    - "linear": t_i = i/N.
    - "integral": the mean over t in [0, 1], computed with an N-node Gauss-Legendre rule. "linear" tends to it.
    - a sequence of numbers: the factors themselves.

    `nodes=n` replaces the N scores with a weighted sum of n scores at the nodes of the Gauss rule for the same sum or
    integral. `schedule=[0.2, 1, 2.4, 4.4, 7]` takes every third of the 15 cumulative steps. On photographs the mean
    over these five steps is closer to the mean over all 15 than the weighted sum with `nodes=5` is (chapter "Speed").
    With `steps=1` (cumulative, linear), IS-CAM equals Score-CAM.

    Returns weights (K,). A constant channel has weight 0.

    Source: Naidu et al. 2020, arXiv 2010.03023, equations 6 and 7. Read literally, equation 7 starts at an empty input,
    t_i = i(i-1)/(2N). The notebook of the paper's second author scores i(i+1)/(2N), which is followed here.
    """
    t, w = quadrature(options.steps, options.schedule, options.nodes)
    return channel_weights(record, t, w, options)


def score_cam_pp(record: ForwardRecord, options: GatedOptions) -> Tensor:
    r"""Return the map of Score-CAM++, which uses gates G_k = tanh(up(A_k)) as masks and in the sum:

    L = s(ReLU(Σ_k α_k G_k)),  α_k = C(X ∘ G_k) - C(0).

    C(0) is the score of the mean-grey image; `baseline=None` leaves it out, as the authors' code does.

    The gates are not scaled to [0, 1]. A gate is close to 1 wherever the activation is large, and negative where the
    activation is negative (before a ReLU, or in a vision transformer). A channel of zeros adds nothing and costs no
    pass.

    Returns a map (height, width).

    Source: Mitra et al. 2024, arXiv 2404.19341 ("ScoreCAM++: Gated Score-Weighted Visual Explanations for CNNs"), and
    the class `ScoreCAM_both` of the authors' code. Another paper of 2022 has the name Score-CAM++, too.
    """
    activations = record.activations.detach()
    activations = activations[activations.flatten(1).any(1)]

    def gates(passes: range) -> Tensor:
        return upsample(activations[passes.start : passes.stop], record.image.shape[1:]).tanh()

    def images(passes: range) -> tuple[Tensor]:
        return (record.image * gates(passes)[:, None],)

    weights = masked_scores(record.net, images, len(activations), record.target, options)
    if options.baseline == "zeros":
        weights = weights - blank_score(record, options)
    total = record.image.new_zeros(record.image.shape[1:], dtype=torch.float32)
    for start in range(0, len(activations), CPU_BATCH):  # in parts, so that the gates of all channels need no memory
        span = range(start, min(start + CPU_BATCH, len(activations)))
        total += weighted_sum(weights[span.start : span.stop], gates(span))
    return scaled_map(total, total.shape)[0]


def grad_pp_score_cam(record: ForwardRecord, options: ScoreOptions) -> Tensor:
    r"""Return the map of Grad++ScoreCAM, reconstructed from the paper's abstract: the sum of two maps,

    L = s(s(L_Grad-CAM++) + s(L_Score-CAM)).

    The abstract says that Grad-CAM++ gives a coarse map, which is incremented by that of Score-CAM. Neither equations
    nor code were found, so the paper's own maps may differ. `options` are those of Score-CAM.

    Returns a map (height, width). Raises `InputError` if the logits carry no gradient to the layer.

    Source: Soomro, Niaz and Choi 2024, doi 10.1109/ACCESS.2024.3392853 (abstract only).
    """
    weights = (grad_cam_pp(record, NoOptions()), score_cam(record, options))
    maps = [weighted_map(each, record.activations.detach(), record.image.shape[1:]) for each in weights]
    return min_max(maps[0] + maps[1])


def channel_weights(
    record: ForwardRecord, t: Tensor, w: Tensor, options: ScoreOptions, perturb: Perturb | None = None
) -> Tensor:
    r"""Compute the weights of Score-CAM, SS-CAM and IS-CAM,  α_k = Σ_n w_n C(t_n X ∘ H_k + ε_kn),  (K,).

    `t` (N,) holds the factors of the scored inputs, and `w` (N,) holds the weights of their scores. If `w` has the
    shape (N, R), the result holds R sums of the same scores, (K, R). `perturb` adds the noise ε. Without noise, the
    first convolution is computed once for several t.

    Constant channels, and those that `options.channels` leaves out, have weight 0 and need no pass.
    """
    activations = record.activations.detach()
    channels = scored_channels(activations, options.channels)
    inputs = MaskedInputs(record, activations[channels], channels.tolist(), t, options, perturb)
    scores = inputs.scores()
    if options.baseline == "zeros":  # before the sum, so that the weights of a network that ignores its input are 0
        scores = scores - blank_score(record, options)
    weights = scores @ w.to(scores)
    if options.channel_softmax:
        weights = weights.softmax(0)
    return weights.new_zeros(len(activations), *weights.shape[1:]).index_put_((channels,), weights)


def scored_channels(activations: Tensor, most: int | None) -> Tensor:
    """Return the numbers of the channels that are not constant, at most `most` of them.

    If there are more, those of largest standard deviation over the positions are returned.
    """
    channels = active(activations).nonzero()[:, 0]
    if most is None or most >= len(channels):
        return channels
    spread = activations[channels].float().flatten(1).std(1, correction=0)
    largest = spread.argsort(descending=True, stable=True)[:most]
    return channels[largest.sort().values]


class MaskedInputs:
    """The inputs t_n X ∘ H_k of the active channels k and all steps n, computed batch by batch on the device."""

    def __init__(
        self,
        record: ForwardRecord,
        activations: Tensor,
        channels: list[int],
        t: Tensor,
        options: ScoreOptions,
        perturb: Perturb | None,
    ) -> None:
        self.record, self.activations, self.channels = record, activations, channels
        self.t, self.options, self.perturb = t.to(record.image), options, perturb
        self.passes = len(channels) * len(t)
        self.split = None
        group = group_that_fits(len(t), options.batch_size)
        if perturb is None and group > 1 and self.passes >= MIN_PASSES_TO_SHARE:
            self.split = split_network(record, self.t)
        self.group_size = group if self.split else 1

    def scores(self) -> Tensor:
        """Compute C of every input, (active channels, steps)."""
        net, make = (self.split, self.factors) if self.split else (self.record.net, self.images)
        scores = masked_scores(net, make, self.passes, self.record.target, self.options, self.group_size)
        return scores.reshape(-1, len(self.t))

    def masks(self, passes: range, every: int = 1) -> Tensor:
        """Return the masks of every `every`-th pass, (passes, height, width)."""
        steps = len(self.t)
        first, last = passes[0] // steps, passes[-1] // steps
        size = self.record.image.shape[1:]
        masks = upsampled_masks(self.activations[first : last + 1], size, self.options.normalise)
        channels = torch.arange(passes.start, passes.stop, every, device=self.t.device) // steps
        return masks[channels - first]  # the masks are expanded, not the inputs, which have three channels each

    def images(self, passes: range) -> tuple[Tensor]:
        """Return the masked images t X ∘ H."""
        steps = len(self.t)
        n = torch.arange(passes.start, passes.stop, device=self.t.device) % steps
        x = self.record.image * (self.t[n, None, None] * self.masks(passes))[:, None]
        if self.perturb:
            x = self.perturb(x, [(self.channels[p // steps], p % steps) for p in passes])
        return (x,)

    def factors(self, passes: range) -> tuple[Tensor, Tensor]:
        """Return X ∘ H and the factors t of each group of passes, for a network that scales after its first layer."""
        n = torch.arange(passes.start, passes.stop, device=self.t.device) % len(self.t)
        masks = self.masks(passes, every=self.group_size)
        return self.record.image * masks[:, None], self.t[n].reshape(-1, self.group_size)


def blank_score(record: ForwardRecord, options: Scoring) -> Tensor:
    """Compute C(0), (1,), the score of the image that is zero in normalised space."""
    blank = torch.zeros_like(record.image)[None]
    return masked_scores(record.net, lambda passes: (blank,), 1, record.target, options)
