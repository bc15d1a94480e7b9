"""`ForwardRecord`, the record of one image in a forward pass. It is the input of every CAM method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

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
from iscam.errors import InputError, is_out_of_memory
from iscam.layouts import AmbiguousLayout, Layout, Reading, possible_readings, read_layout
from iscam.model import Network
from iscam.probe import layer_names, listed, sees_images

T = TypeVar("T")

#: Maximum number of images in a batch that shares a forward and a backward pass.
IMAGES_PER_PASS = 16


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """A forward pass over a batch of images, which can share a backward pass."""

    net: Network
    images: Tensor  # (batch, channels, height, width)
    targets: Sequence[int]  # the explained class of each image
    activations: Sequence[Tensor]  # A (K, h, w) of each image, leaves of autograd's graph
    logits: Tensor  # (batch, classes)
    results: dict[Any, Any] = field(default_factory=dict)  # function -> its result, see `ForwardRecord.of_batch`


@dataclass(frozen=True, eq=False)
class ForwardRecord:
    """One image, its logits, and the activations of the explained layer."""

    net: Network
    image: Tensor  # X (channels, height, width)
    target: int  # the explained class
    activations: Tensor  # A (K, h, w), a leaf of autograd's graph on which the logits depend
    logits: Tensor  # S (classes,)
    runs: int = 1  # number of times that the layer ran; A is its last output
    shared: ForwardPass | None = None  # the pass over the batch that the image belongs to
    index: int = 0  # number of the image in this batch

    def of_batch(self, compute: Callable[[ForwardPass], Sequence[T]]) -> T:
        """Return this image's result of a function that computes one result per image of a batch.

        The function is called once per batch. A record with a replaced target or replaced activations is computed
        alone, and so is every record if memory runs out.
        """
        shared, i = self.shared, self.index
        if shared and shared.targets[i] == self.target and shared.activations[i] is self.activations:
            with suppress(torch.OutOfMemoryError):
                if compute not in shared.results:
                    shared.results[compute] = compute(shared)
                return shared.results[compute][i]
        alone = ForwardPass(self.net, self.image[None], [self.target], [self.activations], self.logits[None])
        return compute(alone)[0]


def layer_gradients(batch: ForwardPass) -> Sequence[Tensor | None]:
    """Compute dS/dA of each image in one backward pass, (K, h, w), or None if no logit depends on A."""
    with grad_enabled():
        score = batch.logits[range(len(batch.targets)), batch.targets].sum()
        return torch.autograd.grad(score, batch.activations, retain_graph=True, allow_unused=True)


def forward_record(net: Network, image: Tensor, target: int | None = None) -> ForwardRecord:
    """Run the model on one image (channels, height, width). See `forward_records`."""
    return forward_records(net, image[None], [target])[0]


def forward_records(net: Network, images: Tensor, targets: Sequence[int | None]) -> list[ForwardRecord]:
    """Run the model once on images (batch, channels, height, width), and return the record of each.

    If a target is None, the record has the class with the largest logit.

    Warns once per network if the layer runs several times, and once if the model seems to return probabilities.

    Raises InputError if the model fails on the images, if the layer does not run or its output does not fit
    `net.layout`, if activations or logits are not finite, or if a target is not a class of the model.
    """
    try:
        recorded, logits = run(net, images)
    except AmbiguousLayout as ambiguous:
        layout = layout_from_wide_image(net, images[:1], ambiguous)
        net.caches.layouts[net.layer, images.shape[1:]] = layout
        return forward_records(net, images, targets)
    if not all(activations.isfinite().all() for activations in recorded.activations):
        raise InputError(f"layer {net.layer!r} returned NaN or infinite activations, which give no map")
    if recorded.runs > 1:
        net.caches.warn_once(
            f"layer {net.layer!r} runs {recorded.runs} times in a forward pass; maps explain its last output. To "
            f"explain another output, use a separate module for each call and pass that module as layer=..."
        )
    net.check_probabilities(images, logits)
    predicted = logits.argmax(1).tolist()
    classes = [best if target is None else target for target, best in zip(targets, predicted, strict=True)]
    for target in classes:
        if not 0 <= target < logits.shape[1]:
            raise InputError(f"target {target} is out of range: the model has classes 0 to {logits.shape[1] - 1}")
    shared = ForwardPass(net, images, classes, recorded.activations, logits)
    return [
        ForwardRecord(net, image, target, activations, row, recorded.runs, shared, i)
        for i, (image, target, activations, row) in enumerate(
            zip(images, classes, recorded.activations, logits.unbind(), strict=True)
        )
    ]


def run(net: Network, images: Tensor) -> tuple[Recording, Tensor]:
    """Run the model on images (batch, channels, height, width). Only the part behind the layer has an autograd graph.

    Returns the recorded layer and the logits (batch, classes).
    """
    check_dependence(net, images[:1])
    record = recording(net.model, net.layer, reader(net, images))
    with torch.inference_mode(False), torch.no_grad(), model_errors(images), record as recorded:
        logits = checked_finite(net.read_output(call_model(net.model, images.detach()), len(images)))
    if not recorded.activations:
        raise InputError(
            f"layer {net.layer!r} did not run in the forward pass; valid layers: {listed(layer_names(net.model))}"
        )
    return recorded, logits


def check_dependence(net: Network, images: Tensor) -> None:
    """Raise InputError if the output of the layer does not depend on the images. This is checked once per layer."""
    check = f"layer {net.layer} depends on the image"
    if check in net.caches.warned:
        return
    record = recording(net.model, net.layer, reader(net, images))
    with grad_enabled(), model_errors(images), record as recorded:
        images = images.detach().clone().requires_grad_()
        call_model(net.model, images)
    if recorded.output is not None and not sees_images(net.model, net.layer, recorded.output, images):
        raise InputError(f"the output of layer {net.layer!r} does not depend on the image; choose another layer")
    net.caches.first_time(check)


def records_in_batches(net: Network, images: Tensor, targets: Sequence[int | None]) -> Iterator[ForwardRecord]:
    """Yield the record of each image (batch, channels, height, width). Up to `IMAGES_PER_PASS` images share a pass.

    If memory runs out, the batches are halved. If the model fails on a batch, the images run one at a time. So the
    error is that of the first image that fails.

    Raises the errors of `forward_records`.
    """
    size, done = IMAGES_PER_PASS, 0
    while done < len(images):
        count = min(size, len(images) - done)
        batch = slice(done, done + count)
        try:
            records = forward_records(net, images[batch], targets[batch])
        except (InputError, RuntimeError) as error:
            if count == 1 or not (isinstance(error, InputError) or is_out_of_memory(error)):
                raise
            size = 1 if isinstance(error, InputError) else count // 2
            continue
        yield from records
        done += count


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
