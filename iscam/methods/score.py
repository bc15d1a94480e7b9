r"""Weights from forward passes alone: Score-CAM, SS-CAM and IS-CAM.

Throughout, A is the layer's output (K, h, w), X the image, H_k = s(up(A_k)) the mask of channel k, upsampled to the
image and scaled to [0, 1] by its own minimum and maximum, and C(.) the explained class's probability (or logit).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from iscam.engine.batching import BATCH, first_batch
from iscam.engine.first_layer import scaled
from iscam.engine.scoring import masked_scores
from iscam.maps import active, upsampled_masks
from iscam.methods.schedules import quadrature
from iscam.record import ForwardRecord
from iscam.rng import noises
from iscam.validation import check_int, check_non_negative, unknown_choice

#: Passes from which the first layer is shared between the t of a channel; fewer are done by the model itself.
MANY = 1000


def score_cam(view: ForwardRecord, **scoring: Any) -> Tensor:
    r"""Score-CAM: the score of the image seen through the channel's mask,  α_k = C(X ∘ H_k).

    `scoring`: the options of `channel_weights`. Returns weights (K,), 0 for a constant channel.

    Source: Wang et al. 2020, arXiv 1910.01279, and its authors' code, which takes the class probability, subtracts no
    baseline and applies no softmax across channels. The paper's Algorithm 1 (logit, channel softmax) is
    `score="logit", channel_softmax=True`.
    """
    return channel_weights(view, torch.ones(1), torch.ones(1), **scoring)


def ss_cam(view: ForwardRecord, *, samples: int = 15, sigma: float = 2.0, seed: int = 0, **scoring: Any) -> Tensor:
    r"""SS-CAM: the mean score of noisy masked images,  α_k = 1/N Σ_n C(X ∘ H_k + ε_kn),  ε_kn ~ Normal(0, std_k).

    std_k = (`sigma` / range_k)², range_k = max - min of X ∘ H_k, as the authors' code has it: `sigma` is a factor, not
    a standard deviation. `samples` is N; the noise is fixed by (`seed`, channel, sample). `scoring`: the options of
    `channel_weights`. Returns weights (K,), 0 for a constant channel. With `sigma=0` this is Score-CAM.

    Source: Wang et al. 2020, arXiv 2006.14255 (its second variant: noise on the masked input), and a co-author's
    code. torch-cam's SSCAM puts noise of standard deviation 2 on the [0, 1] mask instead.
    """
    samples, sigma = check_int("samples", samples), check_non_negative("sigma", sigma)
    seed = check_int("seed", seed, minimum=0)

    def noisy(x: Tensor, channels_and_n: list[tuple[int, int]]) -> Tensor:
        extent = x.amax((1, 2, 3)) - x.amin((1, 2, 3))
        std = torch.where(extent > 0, (sigma / extent) ** 2, 0)
        draws = noises(view.image, [(seed, *pair) for pair in channels_and_n])
        return x.addcmul_(std[:, None, None, None], draws)

    disturb = noisy if sigma > 0 else None
    return channel_weights(view, torch.ones(samples), torch.full((samples,), 1 / samples), disturb, **scoring)


def is_cam(
    view: ForwardRecord,
    *,
    steps: int = 15,
    schedule: str | Sequence[float] = "cumulative",
    nodes: int | None = None,
    **scoring: Any,
) -> Tensor:
    r"""IS-CAM: the mean score over a growing masked image,  α_k = 1/N Σ_{i=1..N} C(t_i X ∘ H_k).

    `steps` is N. `schedule`: "cumulative", t_i = i(i+1)/(2N), equation 7 as its authors ran it, so that t grows to
    (N+1)/2; "linear", t_i = i/N; "integral", the mean over t in [0, 1] that linear tends to, by an N-node
    Gauss-Legendre rule; or the numbers t_i themselves. `nodes=n` replaces the N scores by a weighted sum of n at the
    nodes of the Gauss rule of the same sum or integral; `schedule=[0.2, 1, 2.4, 4.4, 7]`, every third of 15 steps, is
    nearer to their sum on photographs (chapter "Speed"). `scoring`: the options of `channel_weights`.
    Returns weights (K,), 0 for a constant channel. With `steps=1` (cumulative, linear) this is Score-CAM.

    Source: Naidu et al. 2020, arXiv 2010.03023, equations 6 and 7. Read literally, equation 7 starts at an empty
    input, t_i = i(i-1)/(2N); its second author's notebook scores i(i+1)/(2N), which is followed here.
    """
    return channel_weights(view, *quadrature(steps, schedule, nodes), **scoring)


def channel_weights(
    view: ForwardRecord,
    t: Tensor,
    w: Tensor,
    disturb: Callable[[Tensor, list[tuple[int, int]]], Tensor] | None = None,
    *,
    score: str = "probability",
    channel_softmax: bool = False,
    baseline: str | None = None,
    normalise: str = "upsampled",
    precision: str = "fp32",
    compile: str | bool = "auto",
    batch_size: str | int = "auto",
) -> Tensor:
    r"""What the three methods share,  α_k = Σ_n w_n C(t_n X ∘ H_k + ε_kn),  (K,).

    t and w (N,): coefficients and weights of the scored inputs; w (N, R) gives R sums of the same scores, (K, R).
    `disturb(x, kn)` adds ε_kn to masked images x (P, 3, height, width), given channel and step (k, n) of each; None:
    ε = 0, and the first layer runs once for all t, or as many as divide them and fit a batch.

    `score`: "probability" or "logit". `channel_softmax`: softmax of α across the channels. `baseline="zeros"`:
    subtract C(0), the score of the mean-grey image, which a channel softmax makes irrelevant. `normalise`: masks are
    scaled to [0, 1] after upsampling ("upsampled") or before ("layer"). `precision`: "fp32" or "bf16".
    `compile`: "auto", True or False. `batch_size`: "auto" or the most passes at once; it changes no result.

    Constant channels have weight 0 and cost no pass.
    """
    if normalise not in ("upsampled", "layer"):
        raise unknown_choice("normalise", normalise, ("upsampled", "layer"))
    if baseline not in (None, "zeros"):
        raise unknown_choice("baseline", baseline, (None, "zeros"))
    if channel_softmax not in (True, False):
        raise unknown_choice("channel_softmax", channel_softmax, (True, False))
    engine: dict[str, Any] = {"score": score, "precision": precision, "compile": compile, "batch_size": batch_size}
    activations = view.activations.detach()
    alive = active(activations).nonzero()[:, 0]  # (L,)
    channels, lively = alive.tolist(), activations[alive]
    t, steps = t.to(view.image), len(t)
    passes = len(alive) * steps
    fitting = largest_divisor(steps, min(BATCH, first_batch(batch_size)))
    shared = scaled(view, t) if disturb is None and fitting > 1 and passes >= MANY else None
    group_size = fitting if shared else 1

    def inputs(passes: range) -> tuple[Tensor, ...]:
        first, last = passes[0] // steps, passes[-1] // steps
        masks = upsampled_masks(lively[first : last + 1], view.image.shape[1:], normalise)
        numbers = torch.arange(passes.start, passes.stop, device=t.device)
        n = numbers % steps
        masks = masks[numbers[::group_size] // steps - first]  # not of the masked images, which are thrice as large
        if shared:
            return view.image * masks[:, None], t[n].reshape(-1, group_size)
        x = view.image * (t[n, None, None] * masks)[:, None]
        return (disturb(x, [(channels[p // steps], p % steps) for p in passes]) if disturb else x,)

    net = shared or view.net
    scores = masked_scores(net, inputs, passes, view.target, group_size=group_size, **engine).reshape(-1, steps)
    if baseline == "zeros":  # before the sum, so that a network that ignores its input leaves exact zeros
        blank = torch.zeros_like(view.image)[None]
        scores = scores - masked_scores(view.net, lambda passes: (blank,), 1, view.target, **engine)
    scores = scores @ w.to(scores)
    if channel_softmax:
        scores = scores.softmax(0)
    return scores.new_zeros(len(activations), *scores.shape[1:]).index_put_((alive,), scores)


def largest_divisor(steps: int, limit: int) -> int:
    return max(d for d in range(1, limit + 1) if steps % d == 0)
