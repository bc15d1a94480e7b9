r"""Ablation-CAM and Recipro-CAM, which change the activations of the layer and run the part of the network behind it.

In all docstrings, A is the layer's output (K, h, w), and C(.) is the probability (or logit) of the explained class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from iscam.engine.behind import activation_scores
from iscam.engine.scoring import Scoring
from iscam.maps import unit_map, upsample
from iscam.methods.options import AblationOptions, ReciproOptions
from iscam.record import ForwardRecord

#: The Gaussian of Recipro-CAM's paper, which sums to 1.
GAUSSIAN = ((1 / 16, 1 / 8, 1 / 16), (1 / 8, 1 / 4, 1 / 8), (1 / 16, 1 / 8, 1 / 16))


def ablation_cam(record: ForwardRecord, options: AblationOptions) -> Tensor:
    r"""Return the weights of Ablation-CAM: the relative loss of the score if one channel is set to zero,

    α_k = (y - y_k) / y,

    where y = C(A) is the class's logit, and y_k is the logit without channel k.

    Only the part of the network behind the layer runs for each channel, if the network allows it. A channel of zeros
    has weight 0 and costs no pass. If y = 0, all weights are 0. If y < 0, the quotient changes its sign, so the map
    shows evidence against the class; `score="probability"` avoids this.

    Returns weights (K,).

    Source: Desai and Ramaswamy 2020, doi 10.1109/WACV45572.2020.9093360. pytorch-grad-cam sets the channel to a large
    negative number instead of zero if the layer has negative activations.
    """
    activations = record.activations.detach()
    channels = activations.flatten(1).any(1).nonzero()[:, 0]
    kept = activations.new_ones(1 + len(channels), len(activations))  # in pass 0, all channels are kept
    kept[torch.arange(1, len(kept), device=kept.device), channels] = 0

    def ablated(passes: range) -> Tensor:
        return activations * kept[passes.start : passes.stop, :, None, None]

    scoring = Scoring(score=options.score, batch_size=options.batch_size)
    y, y_k = activation_scores(record, ablated, len(kept), scoring).split([1, len(channels)])
    losses = torch.where(y == 0, 0, (y - y_k) / y)
    return losses.new_zeros(len(activations)).index_put_((channels,), losses)


def recipro_cam(record: ForwardRecord, options: ReciproOptions) -> Tensor:
    r"""Return the map of Recipro-CAM: the score of the class if only one position of A is kept,

    L = s(up(R)),  R_ij = C(A ∘ E_ij).

    E_ij is 1 at the position (i, j) and 0 elsewhere. With `gaussian=True`, the activations of this position are instead
    multiplied by a Gaussian and placed on its 3x3 neighbours, as in the paper. The authors' code turns the Gaussian
    off, and so does the default here. Class tokens and other prefix tokens are kept.

    Only the part of the network behind the layer runs for each position, if the network allows it.

    Returns a map (height, width), which is all zeros if all positions have the same score.

    Source: Byun and Lee 2022, arXiv 2209.14074, and the authors' code.
    """
    height, width = record.activations.shape[1:]
    cells = record.activations.detach().flatten(1).T  # (h w, K)
    footprints = torch.eye(len(cells), dtype=cells.dtype, device=cells.device).view(-1, 1, height, width)
    if options.gaussian:
        footprints = F.conv2d(footprints, footprints.new_tensor(GAUSSIAN)[None, None], padding=1)

    def kept(passes: range) -> Tensor:
        span = slice(passes.start, passes.stop)
        return cells[span, :, None, None] * footprints[span]

    scoring = Scoring(score=options.score, batch_size=options.batch_size)
    scores = activation_scores(record, kept, len(cells), scoring).view(height, width)
    return unit_map(upsample(scores[None], record.image.shape[1:])[0])
