"""Adapters with which the metrics of Captum and Quantus can measure maps of this package.

This module imports neither library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iscam.errors import InputError
from iscam.explanation import Weights, explain
from iscam.methods import CONTROLS, METHODS, find_method
from iscam.model import Network, as_network

#: Arguments that Quantus adds to those of the user: the device, and the name that Quantus uses for the method.
QUANTUS_ARGUMENTS = ("device", "method")


@dataclass(frozen=True)
class CaptumAttribution:
    """Saliency maps with the interface of Captum's attribution methods. `captum_attribution` creates this object."""

    net: Network
    method: str | Weights
    options: dict[str, Any] = field(default_factory=dict)

    def attribute(
        self, inputs: Tensor | tuple[Tensor], target: Any = None, additional_forward_args: Any = None
    ) -> Tensor | tuple[Tensor]:
        """Compute saliency maps (batch, 1, height, width) in [0, 1] of images (batch, channels, height, width).

        `target` is a class for all images, a list or tensor (batch,) of classes, or None for the predicted classes. If
        `inputs` is a tuple of one tensor, the result is also a tuple, as in Captum.

        Raises the same errors as `explain`, and an InputError if there are several inputs or additional arguments.
        """
        if additional_forward_args is not None:
            raise InputError("additional_forward_args must be None, because the network takes only images")
        images = inputs[0] if isinstance(inputs, tuple) and inputs else inputs
        if not isinstance(images, Tensor) or images.ndim != 4 or (isinstance(inputs, tuple) and len(inputs) > 1):
            raise InputError("inputs must be one tensor (batch, channels, height, width), alone or in a tuple")
        maps = explain(self.net, images, broadcast(target, len(images)), self.method, **self.options)
        maps = maps[:, None].to(images.dtype)
        return (maps,) if isinstance(inputs, tuple) else maps


def captum_attribution(net: Network | nn.Module, method: str | Weights = "is_cam", **options: Any) -> CaptumAttribution:
    """Return an object with Captum's method `.attribute(inputs, target=None, additional_forward_args=None)`.

    `net`, `method` and `options` are those of `explain`. The maps (batch, 1, height, width) broadcast over the
    channels of the images. Captum's `infidelity` needs maps with the shape of the images; pass it
    `maps.expand_as(images)`.

    Raises InputError for an unknown method or an invalid option.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> image = iscam.load_images("menagerie", count=1)[0].image[None]
    >>> iscam.captum_attribution(net, method="grad_cam").attribute(image, target=3).shape
    torch.Size([1, 1, 224, 224])
    """
    check_options(method, options)
    return CaptumAttribution(as_network(net), method, options)


def quantus_explain(net: Network | nn.Module, method: str = "is_cam", **options: Any) -> Callable[..., np.ndarray]:
    """Return a function for Quantus' argument `explain_func`. It returns maps (batch, 1, height, width) in [0, 1].

    `net`, `method` and `options` are those of `explain`. Quantus' `explain_func_kwargs` may add options. If Quantus
    passes a model other than `net.model`, such as a copy with randomised weights, the function explains that model at
    the layer of the same name.

    Raises InputError for an unknown method or an invalid option. The function raises the errors of `explain`, and an
    InputError if Quantus passes the name of another method.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> image = iscam.load_images("menagerie", count=1)[0].image[None]
    >>> explain_func = iscam.quantus_explain(net, method="grad_cam")
    >>> explain_func(net.model, image.numpy(), [3]).shape
    (1, 1, 224, 224)
    """
    check_options(method, options)
    network = as_network(net)

    def explain_func(model: nn.Module, inputs: Any, targets: Any = None, **kwargs: Any) -> np.ndarray:
        asked = kwargs.get("method")
        if asked != method and isinstance(asked, str) and asked in {**METHODS, **CONTROLS}:
            raise InputError(f"this function explains with {method!r}; use quantus_explain(net, {asked!r})")
        every = options | {name: value for name, value in kwargs.items() if name not in QUANTUS_ARGUMENTS}
        check_options(method, every)
        explained = network if model is network.model else replace(network, model=model)
        images = read_images(inputs).to(explained.dtype).to(explained.device)
        maps = explain(explained, images, broadcast(targets, len(images)), method, **every)
        return maps[:, None].cpu().numpy()

    return explain_func


def check_options(method: object, options: dict[str, Any]) -> None:
    """Raise InputError for an unknown method or an invalid option."""
    chosen = find_method(method, {**METHODS, **CONTROLS})
    chosen.parse(options, method if isinstance(method, str) else chosen.title)


def read_images(inputs: Any) -> Tensor:
    """Return the images of an array, list or tensor as a tensor.

    Raises InputError unless they are floating point and have four axes.
    """
    expected = "inputs must be floating point images (batch, channels, height, width)"
    try:
        images = inputs if isinstance(inputs, Tensor) else np.asarray(inputs)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{expected}; got {type(inputs).__name__}") from error
    floating = images.is_floating_point() if isinstance(images, Tensor) else images.dtype.kind == "f"
    if not floating or images.ndim != 4:
        raise InputError(f"{expected}; got {images.dtype} of shape {tuple(images.shape)}")
    if isinstance(images, Tensor):
        return images
    return torch.from_numpy(np.ascontiguousarray(images, np.float64))  # in the machine's byte order


def broadcast(target: Any, count: int) -> Tensor | None:
    """Return one class per image, given one class for all images or one for each. None stays None."""
    if target is None:
        return None
    try:
        targets = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"target must be one class, {count} classes or None; got {target!r}") from error
    return targets.reshape(-1).expand(count) if targets.numel() == 1 else targets
