"""`View`: the record of one forward pass, which every CAM method takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from iscam.capture import checked_logits, differentiating, outside_inference_mode, record, taking
from iscam.errors import InputError

if TYPE_CHECKING:
    from iscam.model import Network


@dataclass(frozen=True, eq=False)
class View:
    """One picture as the network saw it: all that a method needs to weigh the layer's channels."""

    net: Network
    image: Tensor  # X (channels, height, width)
    target: int  # the explained class
    activations: Tensor  # A (K, h, w), from which autograd leads to the logits
    logits: Tensor  # S (classes,)


def observe(net: Network, image: Tensor, target: int | None = None) -> View:
    """One forward pass over a picture (channels, height, width); `target` None is the class with the largest logit.

    Raises `InputError` where the model fails, as it does on pictures of a shape that it does not take.
    """
    with differentiating(), record(net.model, net.layer) as recorded, taking(image[None]):
        logits = checked_logits(outside_inference_mode(net.model, image[None]), 1)[0]
    if target is None:
        target = int(logits.argmax())
    if not 0 <= target < len(logits):
        raise InputError(f"target {target} is out of range: the model has classes 0 to {len(logits) - 1}")
    return View(net, image, target, recorded[0], logits)
