r"""Recipro-CAM, which changes the activations of the layer and runs the part of the network behind it.

In all docstrings, A is the layer's output (K, h, w), and C(.) is the probability (or logit) of the explained class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from iscam.engine.behind import activation_scores
from iscam.engine.scoring import Scoring
from iscam.maps import is_constant, min_max, upsample
from iscam.methods.options import ReciproOptions
from iscam.record import ForwardRecord

#: The Gaussian of Recipro-CAM's paper, which sums to 1.
GAUSSIAN = ((1 / 16, 1 / 8, 1 / 16), (1 / 8, 1 / 4, 1 / 8), (1 / 16, 1 / 8, 1 / 16))


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
    size = record.image.shape[1:]
    return scores.new_zeros(size) if is_constant(scores) else min_max(upsample(scores[None], size)[0])
