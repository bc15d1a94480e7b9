"""From pictures to saliency maps: activations, weights, the one equation."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iscam.activations import View, observe
from iscam.errors import InputError, one_of, positive
from iscam.methods import METHODS, options
from iscam.methods.score import to_unit_range, upsample
from iscam.network import Network
from iscam.noise import generator


def explain(
    net: Network, images: Tensor, targets: Tensor | None = None, method: str = "is_cam", **method_options: Any
) -> Tensor:
    r"""Saliency maps,  L = s(ReLU(Σ_k α_k up(A_k))).

    A (K, h, w) are the layer's activations, up(.) brings them to the picture's size bilinearly, α are the weights that
    the method gives the channels, s(.) is min-max to [0, 1]. A map that would be constant is all zeros, never NaN.

    `images` (batch, channels, height, width), floating point, normalised as `net.transform` does. `targets` (batch,)
    whole numbers, the class to explain in each; None: the class predicted on the whole picture. `method`: one of
    `iscam.METHODS` or `iscam.CONTROLS`; `method_options`: its options, listed in its docstring.

    Returns (batch, height, width) float32 in [0, 1] on the images' device. A picture's map does not depend on the
    others in its batch.

    Raises `InputError` for images or logits that are not finite, shapes, targets, methods and options that will not do.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> picture = iscam.load_images("menagerie", count=1)[0]
    >>> maps = iscam.explain(net, picture.image[None], method="is_cam", steps=3)
    >>> maps.shape, float(maps.min()), float(maps.max())
    (torch.Size([1, 224, 224]), 0.0, 1.0)
    """
    if method not in METHODS and method not in CONTROLS:
        raise one_of("method", method, [*METHODS, *CONTROLS])
    valid = options(METHODS.get(method) or CONTROLS[method])
    for name in method_options:
        if name not in valid:
            raise one_of(f"option of {method}:", name, valid or ["none"])
    images = checked_images(net, images)
    wanted = [None] * len(images) if targets is None else checked_targets(targets, len(images))
    return torch.stack([saliency_map(net, *pair, method, method_options) for pair in zip(images, wanted, strict=True)])


def saliency_map(
    net: Network, image: Tensor, target: int | None, method: str, method_options: dict[str, Any]
) -> Tensor:
    """L (height, width) of one picture (channels, height, width)."""
    view = observe(net, image, target)
    if method in CONTROLS:
        return CONTROLS[method](view, **method_options)
    weights = METHODS[method](view, **method_options)
    return weighted_map(weights, view.activations.detach(), image.shape[1:])


def weighted_map(weights: Tensor, activations: Tensor, size: torch.Size) -> Tensor:
    """L = s(ReLU(Σ_k α_k up(A_k))), (height, width) float32; the sum is taken before up(.), which is linear."""
    activations = activations.to(torch.promote_types(activations.dtype, torch.float32))  # half's sums may overflow
    total = torch.einsum("k,khw->hw", weights.to(activations), activations)[None].float()
    if is_constant(total):  # before upsampling, whose rounding could turn a constant into noise
        return torch.zeros(size, dtype=torch.float32, device=total.device)
    rectified = upsample(total, size)[0].relu()
    return torch.zeros_like(rectified) if is_constant(rectified) else to_unit_range(rectified)


def is_constant(x: Tensor) -> bool:
    """Whether x varies by no more than the rounding of its sum."""
    low, high = x.aminmax()
    return bool(high - low <= 1e-6 * torch.maximum(high.abs(), low.abs()))


def identity(view: View) -> Tensor:
    """The control that marks every pixel: a map of ones, which leaves the picture as it is."""
    return torch.ones(view.image.shape[1:], dtype=torch.float32, device=view.image.device)


def random_map(view: View, *, seed: int = 0) -> Tensor:
    """The control that knows nothing: uniform noise at the layer's resolution, upsampled, min-max to [0, 1].

    It is fixed by `seed` and the picture.
    """
    picture = zlib.crc32(view.image.detach().float().cpu().numpy().tobytes())
    noise = torch.rand(view.activations.shape[1:], generator=generator(positive("seed", seed, smallest=0), picture))
    return weighted_map(torch.ones(1), noise[None], view.image.shape[1:]).to(view.image.device)


#: Maps to compare the methods with, by name.
CONTROLS: dict[str, Callable[..., Tensor]] = {"identity": identity, "random": random_map}


def checked_images(net: Network, images: Tensor) -> Tensor:
    """The batch in the model's floating point type, else `InputError`."""
    if not isinstance(net, Network):
        raise InputError(f"net must be iscam.Network(model, layer=...), not {type(net).__name__}")
    if not isinstance(images, Tensor) or not images.is_floating_point():
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a floating point tensor, normalised as net.transform does; got {found}")
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(
            f"images must be (batch, channels, height, width) with at least one picture; got {tuple(images.shape)}; "
            f"one picture x goes in as x[None]"
        )
    if images.device != net.device:
        raise InputError(f"the images are on {images.device}, the model on {net.device}: move one with .to(device)")
    if bad := [i for i, image in enumerate(images) if not image.isfinite().all()]:
        raise InputError(f"NaN or infinite pixels in the pictures at positions {bad} of the batch")
    return images.to(net.dtype)


def checked_targets(targets: Tensor, pictures: int) -> list[int]:
    """One class a picture, else `InputError`."""
    try:
        targets = torch.as_tensor(targets)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"targets must be {pictures} whole numbers, one a picture, or None; got {targets!r}"
        ) from error
    if targets.is_floating_point() or targets.dtype == torch.bool or targets.shape != (pictures,):
        raise InputError(
            f"targets must be {pictures} whole numbers, one a picture, or None; "
            f"got {targets.dtype} of shape {tuple(targets.shape)}"
        )
    return [int(target) for target in targets]


def predicted(net: Network, images: Tensor, targets: Tensor | None) -> list[int]:
    """The targets, or where they are None the class predicted on each whole picture."""
    if targets is not None:
        return checked_targets(targets, len(images))
    return [int(net(image[None]).argmax()) for image in images]
