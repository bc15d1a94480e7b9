"""`Network`: a classifier, the layer to explain, and the transform from an image to its input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from iscam.capture import checked_logits, eval_mode, layer_names, model_errors
from iscam.errors import InputError
from iscam.validation import check_targets, unknown_choice

#: Mean and standard deviation of ImageNet's pixels, per colour.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


#: The protocol's way from an image (PIL) and its boxes to a network's input.
canonical_transform = v2.Compose(
    [
        v2.Resize(224, antialias=True),
        v2.CenterCrop(224),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
)


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier with the layer that explanations weigh.

    `model` maps (batch, channels, height, width) to (batch, classes) logits; `layer` is the dotted name of the module
    whose output is A (batch, K, h, w); `transform` turns a PIL image into one input (None: short side to 224, centre
    crop, ImageNet mean and standard deviation); `categories` are the class names in the order of the outputs.

    Raises `InputError` where the model has no such layer; the message lists the layers that would do.

    >>> from torchvision.models import resnet18
    >>> net = iscam.Network(resnet18(weights=None), layer="layer4")
    >>> net(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 1000])
    """

    model: nn.Module
    layer: str
    transform: Callable[..., Any] | None = None
    categories: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise InputError(f"model must be a torch.nn.Module, not {type(self.model).__name__}")
        if isinstance(self.model, torch.jit.ScriptModule):
            raise InputError("a scripted or traced model takes no hooks: give the module that it was made from")
        if self.layer not in dict(self.model.named_modules()) or not self.layer:
            given = type(self.layer).__name__ if isinstance(self.layer, nn.Module) else self.layer
            raise unknown_choice(f"layer of {type(self.model).__name__}:", given, layer_names(self.model))
        if self.transform is None:
            object.__setattr__(self, "transform", canonical_transform)

    @property
    def device(self) -> torch.device:
        """Where the model's first parameter lives."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating point type of the model's first parameter."""
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)

    def to(self, device: torch.device | str) -> Network:
        """The same network, its model moved to `device`."""
        self.model.to(device)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (batch, classes) of images (batch, channels, height, width), in evaluation mode, without gradients."""
        with eval_mode(self.model), torch.no_grad(), model_errors(images):
            return checked_logits(self.model(images.clone()), len(images))  # it may overwrite its input

    def at_temperature(self, temperature: float) -> Network:
        """The network with its logits divided by `temperature`: surer below 1, less sure above, same predictions."""
        return replace(self, model=TemperatureScaled(self.model, temperature), layer=f"model.{self.layer}")

    def category(self, target: int) -> str:
        """The name of a class, or its number where no names are known; `InputError` for a class beyond the names."""
        if self.categories and not 0 <= target < len(self.categories):
            raise InputError(f"class {target} has no name: categories has {len(self.categories)}, one for each output")
        return self.categories[target] if self.categories else f"class {target}"


class TemperatureScaled(nn.Module):
    """A model whose logits are divided by a temperature."""

    def __init__(self, model: nn.Module, temperature: float) -> None:
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images) / self.temperature


def check_images(net: Network, images: Tensor) -> Tensor:
    """The batch in the model's floating point type, else `InputError`."""
    if not isinstance(net, Network):
        raise InputError(f"net must be iscam.Network(model, layer=...), not {type(net).__name__}")
    if not isinstance(images, Tensor) or not images.is_floating_point():
        found = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a floating point tensor, normalised as net.transform does; got {found}")
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(
            f"images must be (batch, channels, height, width) with at least one image; got {tuple(images.shape)}; "
            f"one image x goes in as x[None]"
        )
    if images.device != net.device:
        raise InputError(f"the images are on {images.device}, the model on {net.device}: move one with .to(device)")
    if bad := [i for i, image in enumerate(images) if not image.isfinite().all()]:
        raise InputError(f"NaN or infinite pixels in the images at positions {bad} of the batch")
    return images.to(net.dtype)


def predicted_classes(net: Network, images: Tensor, targets: Tensor | None) -> list[int]:
    """The targets, or where they are None the class predicted on each whole image."""
    if targets is not None:
        return check_targets(targets, len(images))
    return [int(net(image[None]).argmax()) for image in images]
