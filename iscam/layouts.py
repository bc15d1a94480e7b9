"""Layouts, which describe how the output of a layer stores channels and positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iscam.errors import InputError

LAYOUTS = ("auto", "nchw", "nhwc", "tokens")

#: Maximum number of prefix tokens (class, distillation and register tokens) before the tokens of the image.
MOST_PREFIX_TOKENS = 9

#: Largest number of values that float32 can number with different integers.
MOST_NUMBERS = 1 << 24

#: Modules whose 4-d output is (batch, K, h, w) by definition.
CHANNELS_FIRST = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm2d,
    nn.InstanceNorm2d,
    nn.GroupNorm,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)

#: Class names of modules that operate on the last axis, which therefore holds the channels. Subclasses may permute.
CHANNELS_LAST = ("LayerNorm", "RMSNorm", "RmsNorm", "Linear")

Layout = str | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Reading:
    """One interpretation of a layer's output as maps (batch, K, h, w), with conversions in both directions."""

    channels: int
    height: int
    width: int
    layout: Layout  # the explicit layout for this reading
    to_maps: Callable[[Tensor], Tensor]
    to_output: Callable[[Tensor, Tensor], Tensor]  # takes maps and the layer's output, whose other values are kept

    @property
    def kind(self) -> str:
        return self.layout if isinstance(self.layout, str) else "function"

    def __str__(self) -> str:
        transposed = f"lambda x: x.unflatten(2, ({self.height}, {self.width}))"
        layout = repr(self.layout) if isinstance(self.layout, str) else transposed
        return f"layout={layout} reads {self.channels} channels of {self.height}x{self.width}"


class AmbiguousLayout(InputError):
    """An input error: the output of a layer allows several readings."""

    def __init__(self, message: str, readings: list[Reading]) -> None:
        super().__init__(message)
        self.readings = readings


def read_layout(layout: Layout, model: nn.Module, layer: str, output: Any, images: torch.Size) -> Reading:
    """Return the reading of a layer's output for images (batch, channels, height, width).

    `layout` is one of `LAYOUTS` or a function from the output to (batch, K, h, w). "auto" uses the only reading that
    fits the images and the model. The spatial axes must keep the aspect ratio of the image. If the channels are on the
    last axis, a norm or linear layer of the model must operate on an axis of this size.

    Raises InputError if the output does not fit the layout. With "auto", it is also raised if the output allows no
    reading or several.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        found = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise InputError(f"layer {layer!r} must return a floating point tensor (batch, ...); it returned {found}")
    if callable(layout):
        return function_reading(layout, layer, output, images)
    shape = tuple(output.shape)
    if len(output) != images[0] or 0 in shape:
        raise InputError(f"layer {layer!r} must return one row per image; it returned {shape} for {images[0]} images")
    readings = (
        possible_readings(model, layer, output, images) if layout == "auto" else readings_as(layout, output, images)
    )
    if len(readings) == 1:
        return readings[0]
    size = f"on images of {images[2]}x{images[3]}"
    if not readings:
        raise InputError(
            f"layer {layer!r} returned {shape} {size}, which layout={layout!r} cannot read as maps "
            f"(batch, channels, height, width); choose another layer, or pass layout='nchw', 'nhwc', 'tokens' or a "
            f"function that returns the maps"
        )
    raise AmbiguousLayout(
        f"layer {layer!r} returned {shape} {size}, which allows several readings; pass one: "
        + "; ".join(map(str, readings)),
        readings,
    )


def possible_readings(model: nn.Module, layer: str, output: Any, images: torch.Size) -> list[Reading]:
    """Return all readings of a layer's output that fit the images and the model."""
    if not isinstance(output, Tensor) or len(output) != images[0] or may_be_attention(model, layer, output, images):
        return []
    module = model.get_submodule(layer)
    if output.ndim == 4:
        return [
            reading
            for reading in readings_4d(module, output)
            if isinstance(module, CHANNELS_FIRST) or same_aspect((reading.height, reading.width), images[2:])
        ]
    return readings_3d(module, last_axes(model), output, images) if output.ndim == 3 else []


def readings_as(layout: str, output: Tensor, images: torch.Size) -> list[Reading]:
    """Return the reading for an explicit layout, in a list that is empty if the output does not fit the layout."""
    if output.ndim == 4 and layout in ("nchw", "nhwc"):
        return [nchw(output) if layout == "nchw" else nhwc(output)]
    if output.ndim == 3 and layout == "tokens":
        return token_readings(output, images)[:1] or token_readings(output, images, exact=False)[:1]
    return []


def readings_4d(module: nn.Module, output: Tensor) -> list[Reading]:
    """Return the channels-first and channels-last readings, without those that the type of the module excludes."""
    if isinstance(module, CHANNELS_FIRST) or output[0].numel() == 1:
        return [nchw(output)]
    if type(module).__name__ in CHANNELS_LAST:
        return [nhwc(output)]
    return [nchw(output), nhwc(output)]


def nchw(output: Tensor) -> Reading:
    _, channels, height, width = output.shape
    return Reading(channels, height, width, "nchw", lambda x: x, lambda maps, _: maps)


def nhwc(output: Tensor) -> Reading:
    _, height, width, channels = output.shape
    return Reading(
        channels,
        height,
        width,
        "nhwc",
        lambda x: x.permute(0, 3, 1, 2),
        lambda maps, _: maps.permute(0, 2, 3, 1).contiguous(),
    )


def may_be_attention(model: nn.Module, layer: str, output: Tensor, images: torch.Size) -> bool:
    """Return True if the output looks like attention between tokens, (batch, heads, n, n) or (batch, n, n, heads).

    This is the case if each row is a distribution over the columns. It is also the case if the layer is part of an
    attention module and n is the number of tokens of a grid of the image, with at most two prefix tokens.
    """
    if output.ndim < 3 or isinstance(model.get_submodule(layer), CHANNELS_FIRST):
        return False
    if is_distribution(output):
        return True
    *_, first, second, last = output.shape
    tokens = last if second == last else second if first == second and output.ndim == 4 else 0
    parents = [model.get_submodule(layer.rsplit(".", i)[0]) for i in range(1, layer.count(".") + 1)]
    inside = any("att" in type(parent).__name__.lower() for parent in parents)
    return inside and any(grids(tokens - prefix, images[2:]) for prefix in range(3))


def is_distribution(output: Tensor) -> bool:
    """Return True if the last two axes hold square matrices whose rows have no negative values and sum to 1."""
    if output.shape[-2] != output.shape[-1] or output.shape[-1] == 1:
        return False
    values = output.detach().float()
    return bool((values >= 0).all() and ((values.sum(-1) - 1).abs() < 1e-2).all())


def token_readings(output: Tensor, images: torch.Size, exact: bool = True) -> list[Reading]:
    """Return the reading of tokens (batch, n, K), in a list that is empty if no grid fits.

    The tokens are class, distillation or register tokens, followed by a grid with the shape of the image. If several
    numbers of prefix tokens fit, the smallest is used.
    """
    tokens, channels = output.shape[1:]
    for prefix in range(min(MOST_PREFIX_TOKENS, tokens) + 1):
        for height, width in grids(tokens - prefix, images[2:], exact):
            return [tokens_reading(prefix, height, width, channels)]
    return []


def tokens_reading(prefix: int, height: int, width: int, channels: int) -> Reading:
    def to_maps(x: Tensor) -> Tensor:
        return x[:, prefix:].transpose(1, 2).unflatten(2, (height, width))

    def to_output(maps: Tensor, x: Tensor) -> Tensor:
        kept = x[:, :prefix].detach().expand(len(maps), -1, -1)
        return torch.cat([kept, maps.flatten(2).transpose(1, 2)], 1)

    return Reading(channels, height, width, "tokens", to_maps, to_output)


def readings_3d(module: nn.Module, widths: set[int], output: Tensor, images: torch.Size) -> list[Reading]:
    """Return readings of tokens (batch, n, K) if the model operates on a last axis of size K, else of (batch, K, n)."""
    first, second = output.shape[1:]
    if first == second and type(module).__name__ not in CHANNELS_LAST:
        return []
    if second in widths:
        return token_readings(output, images)
    return [transposed_reading(first, *grid) for grid in grids(second, images[2:])]


def transposed_reading(channels: int, height: int, width: int) -> Reading:
    def to_maps(x: Tensor) -> Tensor:
        return x.unflatten(2, (height, width))

    return Reading(channels, height, width, to_maps, to_maps, lambda maps, _: maps.flatten(2))


def last_axes(model: nn.Module) -> set[int]:
    """Return the sizes of the last axis in the inputs and outputs of the model's norms and linear layers."""
    weights = [getattr(m, "weight", None) for m in model.modules() if type(m).__name__ in CHANNELS_LAST]
    return {size for weight in weights if isinstance(weight, Tensor) for size in weight.shape}


def grids(positions: int, image: torch.Size, exact: bool = True) -> list[tuple[int, int]]:
    """Return the grids (h, w) with h, w > 1 and h w = `positions` that have the aspect ratio of the image.

    With `exact`, the stride between image and grid must be an integer.
    """
    height, width = image
    pairs = [(h, positions // h) for h in range(2, positions // 2 + 1) if positions % h == 0]
    if exact:
        return [(h, w) for h, w in pairs if height % h == 0 and width % w == 0 and height * w == width * h]
    return [pair for pair in pairs if same_aspect(pair, image)]


def same_aspect(size: tuple[int, int], image: torch.Size) -> bool:
    """Return True if a chain of convolutions and poolings can reduce the size of the image to `size`.

    Nested floors reduce to one floor, so the result is h = floor((H + c) / s) and w = floor((W + c) / s). Here s is the
    product of the strides, and c depends on the paddings and kernels. For square images this means h = w.
    """
    (h, w), (height, width) = size, image
    for s in range(1, max(height, width) + 1):
        low, high = max(h * s - height, w * s - width), min(h * s - height, w * s - width) + s - 1
        if low <= high and low <= 3 * s and high >= -min(height, width) / 2:
            return True
    return False


def function_reading(function: Callable[[Tensor], Tensor], layer: str, output: Tensor, images: torch.Size) -> Reading:
    """Return the reading for the user's function, which rearranges or selects values."""
    try:
        maps = function(output.detach())
    except Exception as error:  # the user's code
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"layout fails on the output {tuple(output.shape)} of layer {layer!r}: {reason}") from error
    if not isinstance(maps, Tensor) or maps.ndim != 4 or len(maps) != images[0] or 0 in maps.shape:
        found = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"layout must return maps (batch, channels, height, width) of layer {layer!r}, not {found}")
    if output.numel() <= MOST_NUMBERS and not rearranges(function, output):
        raise InputError(
            f"layout must only rearrange or select the values of layer {layer!r}; it computes or repeats values"
        )

    def to_output(maps: Tensor, x: Tensor) -> Tensor:
        places = read_places(function, x)
        return x.detach().flatten().index_put((places,), maps.flatten().to(x)).view_as(x)

    _, channels, height, width = maps.shape
    return Reading(channels, height, width, function, function, to_output)


def rearranges(function: Callable[[Tensor], Tensor], output: Tensor) -> bool:
    """Return True if the function returns values of its argument, each at most once.

    The function is applied to different integers in a random order, and to their negatives.
    """
    order = torch.randperm(output.numel(), generator=torch.Generator().manual_seed(0), device="cpu")
    numbers = (order + 1).view(output.shape).to(output.device, torch.float32)
    found = function(numbers)
    inside = (found > 0) & (found <= len(order)) & (found == found.round())
    return bool(
        inside.all() and found.long().flatten().bincount().max() == 1 and torch.equal(function(-numbers), -found)
    )


def read_places(function: Callable[[Tensor], Tensor], output: Tensor) -> Tensor:
    """Return the places in the flat output from which the function reads the values of the maps, in the maps' order.

    Each place is read as two digits, because the function may convert to float32, which cannot hold large integers.
    """
    places = torch.arange(output.numel(), device=output.device).view(output.shape)
    high, low = (function(digit.float()).flatten().long() for digit in (places // MOST_NUMBERS, places % MOST_NUMBERS))
    return high * MOST_NUMBERS + low
