"""Transforms from an image to a network's input: as torchvision v2 transforms, and their mean and deviation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torchvision import transforms as v1
from torchvision.transforms import v2


def as_v2(transform: Any) -> v2.Transform | None:
    """The same transform as one that also moves boxes and masks; None if it cannot be translated.

    Translated are the transforms that come with torchvision's weights, and compositions of Resize, CenterCrop, ToTensor
    and Normalize, which timm uses.
    """
    if isinstance(transform, v2.Transform):
        return transform
    if type(transform).__name__ == "ImageClassification" and hasattr(transform, "resize_size"):
        return v2.Compose(
            [
                v2.Resize(transform.resize_size, transform.interpolation, antialias=transform.antialias),
                v2.CenterCrop(transform.crop_size),
                *to_float(),
                v2.Normalize(transform.mean, transform.std),
            ]
        )
    if type(transform) is v1.Compose:
        steps = [v2_steps(step) for step in transform.transforms]
        if all(step is not None for step in steps):
            return v2.Compose([each for step in steps for each in step or ()])
    return None


def v2_steps(step: Any) -> list[v2.Transform] | None:
    """One step of a composition as v2 transforms; None if it is another one."""
    kind = type(step)
    if isinstance(step, v2.Transform):
        return [step]
    if kind is v1.Resize:
        return [v2.Resize(step.size, step.interpolation, step.max_size, step.antialias)]
    if kind is v1.CenterCrop:
        return [v2.CenterCrop(step.size)]
    if kind is v1.ToTensor or kind.__name__ == "MaybeToTensor":
        return to_float()
    if kind is v1.Normalize:
        return [v2.Normalize(floats(step.mean), floats(step.std))]
    return None


def to_float() -> list[v2.Transform]:
    """From a PIL image to a float32 tensor in [0, 1]."""
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]


def normalisation(transform: Any) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation per channel of a transform's only Normalize step; None if there is no such step."""
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
    """Numbers, or a tensor of them, as a list of floats."""
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
