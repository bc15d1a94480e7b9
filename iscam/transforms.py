"""Transforms from an image to a network's input: the default, the conversion to torchvision v2, and normalisation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torchvision import transforms as v1
from torchvision.transforms import InterpolationMode, v2

#: Mean and standard deviation of ImageNet's pixels, per colour channel.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: The default transform from a PIL image to a network's input. It resizes the short side to 224, crops the centre, and
#: normalises with ImageNet's mean and standard deviation.
canonical_transform = v2.Compose(
    [
        v2.Resize(224, antialias=True),
        v2.CenterCrop(224),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
)


def imagenet_transform(
    resize: Sequence[int],
    crop: Sequence[int],
    interpolation: InterpolationMode,
    mean: Sequence[float],
    std: Sequence[float],
    antialias: bool = True,
) -> v2.Compose:
    """Return a transform that resizes the short side, crops the centre and normalises. It also transforms boxes."""
    return v2.Compose(
        [
            v2.Resize(list(resize), interpolation=interpolation, antialias=antialias),
            v2.CenterCrop(list(crop)),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(list(mean), list(std)),
        ]
    )


def as_v2(transform: Any) -> v2.Transform | None:
    """Convert a transform to an equivalent transform, up to rounding, that also applies to boxes and masks.

    The conversion supports the transforms of torchvision's weights, compositions of Resize, CenterCrop, ToTensor and
    Normalize (which timm uses), and v2 transforms. Returns None for any other transform. A function, also inside
    `v2.Lambda`, cannot be converted, because it may move pixels without moving the boxes.
    """
    steps = v2_steps(transform)
    return None if steps is None else v2.Compose(steps)


def v2_steps(transform: Any) -> list[v2.Transform] | None:
    """Return the steps of a transform as v2 transforms, or None if a step cannot be converted."""
    kind = type(transform)
    if kind in (v1.Compose, v2.Compose):
        parts = [v2_steps(step) for step in transform.transforms]
        return None if None in parts else [step for part in parts for step in part or ()]
    if kind.__name__ == "ImageClassification" and hasattr(transform, "resize_size"):
        resize = v2.Resize(transform.resize_size, transform.interpolation, antialias=transform.antialias)
        normalise = v2.Normalize(transform.mean, transform.std)
        return [resize, v2.CenterCrop(transform.crop_size), *to_float(), normalise]
    if kind is v1.Resize:
        return [v2.Resize(transform.size, transform.interpolation, transform.max_size, transform.antialias)]
    if kind is v1.CenterCrop:
        return [v2.CenterCrop(transform.size)]
    if kind is v1.ToTensor or kind.__name__ == "MaybeToTensor":
        return to_float()
    if kind is v1.Normalize:
        return [v2.Normalize(floats(transform.mean), floats(transform.std))]
    return [transform] if isinstance(transform, v2.Transform) and not isinstance(transform, v2.Lambda) else None


def to_float() -> list[v2.Transform]:
    """Return the steps from a PIL image to a float32 tensor in [0, 1]."""
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]


def normalisation(transform: Any) -> tuple[list[float], list[float]] | None:
    """Return the mean and standard deviation per channel of a transform's Normalize step.

    Returns None if the transform has no such step or several.
    """
    found = list(normalisations(transform))
    return found[0] if len(found) == 1 else None


def normalisations(transform: Any) -> Iterator[tuple[list[float], list[float]]]:
    if hasattr(transform, "mean") and hasattr(transform, "std"):  # Normalize, and torchvision's presets
        yield floats(transform.mean), floats(transform.std)
    elif hasattr(transform, "image_mean") and hasattr(transform, "image_std"):  # Hugging Face's image processors
        yield floats(transform.image_mean), floats(transform.image_std)
    elif isinstance(transform, torch.nn.Sequential):
        for step in transform:
            yield from normalisations(step)
    elif isinstance(steps := getattr(transform, "transforms", None), list | tuple):
        for step in steps:
            yield from normalisations(step)


def floats(values: Any) -> list[float]:
    """Convert numbers, or a tensor of numbers, to a list of floats."""
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
