"""Scores of activations: forward passes through the part of a network behind the explained layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from iscam.engine.first_layer import agrees
from iscam.engine.scoring import Scoring, masked_scores
from iscam.errors import DEVICE_ERRORS
from iscam.record import ForwardRecord, logits_with


class BehindLayer(nn.Module):
    """The part of a network behind the explained layer: a model of activations (n, K, h, w) that returns logits.

    Values that bypass the layer, as in a residual network, and prefix tokens are those of the record's image.

    The part before the layer runs on one image per batch. This works if the operations behind the layer combine n rows
    with one, as additions do. Otherwise the complete network runs on n copies of the image. `runs_on_one_image` checks
    which of the two is possible.
    """

    def __init__(self, record: ForwardRecord) -> None:
        super().__init__()
        self.model = record.net.model
        self.record = record
        self.one_image = runs_on_one_image(record)

    def forward(self, activations: Tensor) -> Tensor:
        return logits_with(self.record, activations, self.one_image)


def runs_on_one_image(record: ForwardRecord) -> bool:
    """Return True if one image before the layer gives the logits that copies of the image give.

    Costs 4 forward passes.
    """
    activations = record.activations.detach()
    pair = torch.stack([activations, activations.flip(0, 1, 2) / 2])
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=False):
        expected = logits_with(record, pair)
        try:
            return agrees(logits_with(record, pair, one_image=True), expected)
        except DEVICE_ERRORS:
            raise
        except Exception:  # an operation behind the layer cannot combine two rows with one
            return False


def activation_scores(
    record: ForwardRecord, activations: Callable[[range], Tensor], passes: int, scoring: Scoring
) -> Tensor:
    """Compute the scores C of the record's class for activations in place of A, float32 (passes,).

    `activations` returns a batch (n, K, h, w), given a range of pass numbers.

    Raises `InputError` for logits that are not finite, and if the model fails.
    """
    behind = replace(record.net, model=BehindLayer(record), layer=f"model.{record.net.layer}", output=None)
    object.__setattr__(behind, "caches", record.net.caches)  # holds the measured batch sizes
    return masked_scores(behind, lambda span: (activations(span),), passes, record.target, scoring)
