"""`ForwardRecord`: the record of one forward pass, which every CAM method takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from iscam.capture import checked_logits, grad_enabled, hooked, model_errors, outside_inference_mode
from iscam.errors import InputError

if TYPE_CHECKING:
    from iscam.model import Network


@dataclass(frozen=True, eq=False)
class ForwardRecord:
    """One image as the network saw it: all that a method needs to weigh the layer's channels."""

    net: Network
    image: Tensor  # X (channels, height, width)
    target: int  # the explained class
    activations: Tensor  # A (K, h, w), from which autograd leads to the logits
    logits: Tensor  # S (classes,)


def forward_record(net: Network, image: Tensor, target: int | None = None) -> ForwardRecord:
    """One forward pass over an image (channels, height, width); `target` None is the class with the largest logit.

    Raises `InputError` where the model fails, as it does on images of a shape that it does not take.
    """
    with grad_enabled(), hooked(net.model, net.layer) as recorded, model_errors(image[None]):
        logits = checked_logits(outside_inference_mode(net.model, image[None]), 1)[0]
    if target is None:
        target = int(logits.argmax())
    if not 0 <= target < len(logits):
        raise InputError(f"target {target} is out of range: the model has classes 0 to {len(logits) - 1}")
    return ForwardRecord(net, image, target, recorded[0], logits)
