"""`ForwardRecord`, the record of a forward pass over one image. It is the input of every CAM method."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iscam.capture import (
    Recording,
    call_model,
    checked_finite,
    grad_enabled,
    model_errors,
    recording,
    replacing,
    traced,
)
from iscam.errors import InputError
from iscam.layouts import AmbiguousLayout, Layout, Reading, possible_readings, read_layout
from iscam.model import Network
from iscam.probe import layer_names, listed, sees_images


@dataclass(frozen=True, eq=False)
class ForwardRecord:
    """One image, its logits, and the activations of the explained layer."""

    net: Network
    image: Tensor  # X (channels, height, width)
    target: int  # the explained class
    activations: Tensor  # A (K, h, w), a leaf of autograd's graph on which the logits depend
    logits: Tensor  # S (classes,)
    runs: int = 1  # number of times that the layer ran; A is its last output


def forward_record(net: Network, image: Tensor, target: int | None = None) -> ForwardRecord:
    """Run the model on an image (channels, height, width).

    If `target` is None, the record has the class with the largest logit.

    Warns once per network if the layer runs several times, and once if the model seems to return probabilities.

    Raises InputError if the model fails on the image, if the layer does not run or its output does not fit
    `net.layout`, if activations or logits are not finite, or if the target is not a class of the model.
    """
    images = image[None]
    try:
        recorded, logits = run(net, images)
    except AmbiguousLayout as ambiguous:
        net.caches.layouts[net.layer, image.shape] = layout_from_wide_image(net, images, ambiguous)
        return forward_record(net, image, target)
    activations = recorded.activations[0]
    if not activations.isfinite().all():
        raise InputError(f"layer {net.layer!r} returned NaN or infinite activations, which give no map")
    if recorded.runs > 1:
        net.caches.warn_once(
            f"layer {net.layer!r} runs {recorded.runs} times in a forward pass; maps explain its last output. To "
            f"explain another output, use a separate module for each call and pass that module as layer=..."
        )
    net.check_probabilities(images, logits[None])
    if target is None:
        target = int(logits.argmax())
    if not 0 <= target < len(logits):
        raise InputError(f"target {target} is out of range: the model has classes 0 to {len(logits) - 1}")
    return ForwardRecord(net, image, target, activations, logits, recorded.runs)


def run(net: Network, images: Tensor) -> tuple[Recording, Tensor]:
    """Run the model on one image (1, channels, height, width). Returns the recorded layer and the logits (classes,)."""
    check = f"layer {net.layer} depends on the image"
    with grad_enabled(), model_errors(images), recording(net.model, net.layer, reader(net, images)) as recorded:
        images = images.detach().clone().requires_grad_(check not in net.caches.warned)
        logits = checked_finite(net.read_output(call_model(net.model, images), 1))[0]
    if not recorded.activations:
        raise InputError(
            f"layer {net.layer!r} did not run in the forward pass; valid layers: {listed(layer_names(net.model))}"
        )
    output, recorded.output = recorded.output, None  # frees the autograd graph of the output
    if images.requires_grad and output is not None and not sees_images(net.model, net.layer, output, images):
        raise InputError(f"the output of layer {net.layer!r} does not depend on the image; choose another layer")
    net.caches.first_time(check)
    return recorded, logits


def logits_with(record: ForwardRecord, activations: Tensor, one_image: bool = False) -> Tensor:
    """Compute the logits (n, classes) that the record's image would have with these activations (n, K, h, w).

    The network runs on n copies of the image, and the last output of the layer is replaced. With `one_image`, it runs
    on a single copy, so only the part behind the layer computes n results. This needs a network whose operations behind
    the layer combine n rows with one (`iscam.engine.behind` checks it).

    If gradients are enabled, the logits have gradients with respect to the activations.

    Raises InputError if the model fails.
    """
    net, copies = record.net, 1 if one_image else len(activations)
    images = record.image.expand(copies, *record.image.shape)
    own = activations.clone()  # an in-place operation behind the layer must not change the caller's activations
    with model_errors(images), replacing(net.model, net.layer, reader(net, images), own, record.runs):
        return checked_finite(net.read_output(call_model(net.model, images), len(activations)))


def reader(net: Network, images: Tensor) -> Callable[[Any], Reading]:
    """Return a function from the output of the network's layer to the `Reading` of that output."""
    layout = net.caches.layouts.get((net.layer, images.shape[1:]), net.layout)
    return lambda output: read_layout(layout, net.model, net.layer, output, images.shape)


def layout_from_wide_image(net: Network, images: Tensor, ambiguous: AmbiguousLayout) -> Layout:
    """Return the layout of the only reading of an ambiguous output that also fits a wider image.

    With a wider image, only the spatial axes of the output grow.

    Raises the error `ambiguous` if the model does not accept the wider image or if several readings fit.
    """
    wide = torch.cat([images, images[..., : images.shape[-1] // 2]], -1)
    with torch.no_grad(), traced(net.model) as calls, suppress(Exception):  # a head may reject the size
        call_model(net.model, wide)
    call = next((call for call in reversed(calls) if call.name == net.layer), None)
    readings = possible_readings(net.model, net.layer, call.output, wide.shape) if call else []
    kinds = {(reading.kind, reading.channels) for reading in readings}
    left = [reading for reading in ambiguous.readings if (reading.kind, reading.channels) in kinds]
    if len(left) == 1:
        return left[0].layout
    raise ambiguous
