r"""Weights from forward passes alone: Score-CAM, SS-CAM and IS-CAM.

Throughout, A is the layer's output (K, h, w), X the image, H_k = s(up(A_k)) the mask of channel k, upsampled to the
image and scaled to [0, 1] by its own minimum and maximum, and C(.) the explained class's probability (or logit).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from iscam.engine.batching import group_that_fits
from iscam.engine.first_layer import split_network
from iscam.engine.scoring import masked_scores
from iscam.maps import active, upsampled_masks
from iscam.methods.options import IsCamOptions, ScoreOptions, SsCamOptions
from iscam.methods.schedules import quadrature
from iscam.record import ForwardRecord
from iscam.rng import noises

#: Minimum passes per map for computing the first convolution once for all scale factors of a channel.
MIN_PASSES_TO_SHARE = 1000

#: Adds noise to masked images x (P, channels, height, width), given channel and step (k, n) of each.
Perturb = Callable[[Tensor, list[tuple[int, int]]], Tensor]


def score_cam(record: ForwardRecord, options: ScoreOptions) -> Tensor:
    r"""Score-CAM: the score of the image seen through the channel's mask,  α_k = C(X ∘ H_k).

    Returns weights (K,), 0 for a constant channel.

    Source: Wang et al. 2020, arXiv 1910.01279, and its authors' code, which takes the class probability, subtracts no
    baseline and applies no softmax across channels. The paper's Algorithm 1 (logit, channel softmax) is
    `score="logit", channel_softmax=True`.
    """
    one = record.image.new_ones(1)
    return channel_weights(record, one, one, options)


def ss_cam(record: ForwardRecord, options: SsCamOptions) -> Tensor:
    r"""SS-CAM: the mean score of noisy masked images,  α_k = 1/N Σ_n C(X ∘ H_k + ε_kn),  ε_kn ~ Normal(0, std_k).

    std_k = (`sigma` / range_k)² with range_k = max - min of X ∘ H_k, as in the authors' code: `sigma` is a factor, not
    a standard deviation. `samples` is N. The noise is fixed by (`seed`, channel, sample). With `sigma=0` this is
    Score-CAM.

    Returns weights (K,), 0 for a constant channel.

    Source: Wang et al. 2020, arXiv 2006.14255 (its second variant: noise on the masked input), and a co-author's code.
    torch-cam's SSCAM adds noise of standard deviation 2 to the [0, 1] mask instead.
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
    r"""IS-CAM: the mean score over a growing masked image,  α_k = 1/N Σ_{i=1..N} C(t_i X ∘ H_k).

    `steps` is N. `schedule` gives the factors t_i: "cumulative", t_i = i(i+1)/(2N), equation 7 as its authors ran it,
    so that t grows to (N+1)/2; "linear", t_i = i/N; "integral", the mean over t in [0, 1] that "linear" tends to, by an
    N-node Gauss-Legendre rule; or a sequence of numbers. `nodes=n` replaces the N scores by a weighted sum of n scores
    at the nodes of the Gauss rule of the same sum or integral. `schedule=[0.2, 1, 2.4, 4.4, 7]`, every third of 15
    steps, is closer to their sum on photographs (chapter "Speed"). With `steps=1` (cumulative, linear) this is
    Score-CAM.

    Returns weights (K,), 0 for a constant channel.

    Source: Naidu et al. 2020, arXiv 2010.03023, equations 6 and 7. Read literally, equation 7 starts at an empty input,
    t_i = i(i-1)/(2N). Its second author's notebook scores i(i+1)/(2N), which is followed here.
    """
    t, w = quadrature(options.steps, options.schedule, options.nodes)
    return channel_weights(record, t, w, options)


def channel_weights(
    record: ForwardRecord, t: Tensor, w: Tensor, options: ScoreOptions, perturb: Perturb | None = None
) -> Tensor:
    r"""The weights of all three methods,  α_k = Σ_n w_n C(t_n X ∘ H_k + ε_kn),  (K,).

    t (N,) are the factors of the scored inputs and w (N,) the weights of their scores. w (N, R) gives R sums of the
    same scores, (K, R). `perturb` adds the noise ε. Without it, the first convolution is computed once for several t.

    Constant channels have weight 0 and cost no pass.
    """
    activations = record.activations.detach()
    channels = active(activations).nonzero()[:, 0]
    inputs = MaskedInputs(record, activations[channels], channels.tolist(), t, options, perturb)
    scores = inputs.scores()
    if options.baseline == "zeros":  # before the sum, so that a network that ignores its input leaves exact zeros
        scores = scores - blank_score(record, options)
    weights = scores @ w.to(scores)
    if options.channel_softmax:
        weights = weights.softmax(0)
    return weights.new_zeros(len(activations), *weights.shape[1:]).index_put_((channels,), weights)


class MaskedInputs:
    """The inputs t_n X ∘ H_k of the active channels k and all steps n, made batch by batch on the device."""

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
        """C of every input, (active channels, steps)."""
        net, make = (self.split, self.factors) if self.split else (self.record.net, self.images)
        scores = masked_scores(net, make, self.passes, self.record.target, self.options, self.group_size)
        return scores.reshape(-1, len(self.t))

    def masks(self, passes: range, every: int = 1) -> Tensor:
        """The masks of every `every`-th pass, (passes, height, width)."""
        steps = len(self.t)
        first, last = passes[0] // steps, passes[-1] // steps
        size = self.record.image.shape[1:]
        masks = upsampled_masks(self.activations[first : last + 1], size, self.options.normalise)
        channels = torch.arange(passes.start, passes.stop, every, device=self.t.device) // steps
        return masks[channels - first]  # expand the masks, not the inputs, which have three channels each

    def images(self, passes: range) -> tuple[Tensor]:
        """The masked images t X ∘ H."""
        steps = len(self.t)
        n = torch.arange(passes.start, passes.stop, device=self.t.device) % steps
        x = self.record.image * (self.t[n, None, None] * self.masks(passes))[:, None]
        if self.perturb:
            x = self.perturb(x, [(self.channels[p // steps], p % steps) for p in passes])
        return (x,)

    def factors(self, passes: range) -> tuple[Tensor, Tensor]:
        """X ∘ H per group of passes, and their factors t, for a network that scales behind its first convolution."""
        n = torch.arange(passes.start, passes.stop, device=self.t.device) % len(self.t)
        masks = self.masks(passes, every=self.group_size)
        return self.record.image * masks[:, None], self.t[n].reshape(-1, self.group_size)


def blank_score(record: ForwardRecord, options: ScoreOptions) -> Tensor:
    """C(0), the score of the image that is zero in normalised space, (1,)."""
    blank = torch.zeros_like(record.image)[None]
    return masked_scores(record.net, lambda passes: (blank,), 1, record.target, options)
