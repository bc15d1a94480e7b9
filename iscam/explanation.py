"""`explain`: from images to saliency maps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iscam.maps import weighted_map
from iscam.methods import METHODS, options
from iscam.methods.controls import CONTROLS
from iscam.model import Network, check_images
from iscam.record import forward_record
from iscam.validation import check_targets, unknown_choice


def explain(
    net: Network, images: Tensor, targets: Tensor | None = None, method: str = "is_cam", **method_options: Any
) -> Tensor:
    r"""Saliency maps,  L = s(ReLU(Σ_k α_k up(A_k))).

    A (K, h, w) are the layer's activations, up(.) brings them to the image's size bilinearly, α are the weights that
    the method gives the channels, s(.) is min-max to [0, 1]. A map that would be constant is all zeros, never NaN.

    `images` (batch, channels, height, width), floating point, normalised as `net.transform` does. `targets` (batch,)
    whole numbers, the class to explain in each; None: the class predicted on the whole image. `method`: one of
    `iscam.METHODS` or `iscam.CONTROLS`; `method_options`: its options, listed in its docstring.

    Returns (batch, height, width) float32 in [0, 1] on the images' device. An image's map does not depend on the
    others in its batch.

    Raises `InputError` for images or logits that are not finite, shapes, targets, methods and options that will not do.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> image = iscam.load_images("menagerie", count=1)[0]
    >>> maps = iscam.explain(net, image.image[None], method="is_cam", steps=3)
    >>> maps.shape, float(maps.min()), float(maps.max())
    (torch.Size([1, 224, 224]), 0.0, 1.0)
    """
    if method not in METHODS and method not in CONTROLS:
        raise unknown_choice("method", method, [*METHODS, *CONTROLS])
    valid = options(METHODS.get(method) or CONTROLS[method])
    for name in method_options:
        if name not in valid:
            raise unknown_choice(f"option of {method}:", name, valid or ["none"])
    images = check_images(net, images)
    wanted = [None] * len(images) if targets is None else check_targets(targets, len(images))
    return torch.stack([saliency_map(net, *pair, method, method_options) for pair in zip(images, wanted, strict=True)])


def saliency_map(
    net: Network, image: Tensor, target: int | None, method: str, method_options: dict[str, Any]
) -> Tensor:
    """L (height, width) of one image (channels, height, width)."""
    view = forward_record(net, image, target)
    if method in CONTROLS:
        return CONTROLS[method](view, **method_options)
    weights = METHODS[method](view, **method_options)
    return weighted_map(weights, view.activations.detach(), image.shape[1:])
