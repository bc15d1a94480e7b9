"""The automatic choice of the layer to explain, with one forward pass over a random image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iscam.capture import Call, call_model, depends_on, eval_mode, grad_enabled, is_constant, traced
from iscam.errors import DEVICE_ERRORS, InputError
from iscam.layouts import AmbiguousLayout, Layout, Reading, read_layout, same_aspect

#: Image sizes to try if the model declares no size or fails on the declared size.
SIZES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 512)

#: Number of gradients that one backward pass of the search computes.
AT_ONCE = 24

#: Largest change of the class scores that rounding explains, as a share of the largest score. On a GPU, convolutions
#: in float32 round as TensorFloat-32.
SAME_SCORES = {"cpu": 0.001, "cuda": 0.02}

#: Maximum number of layers that an error message lists.
MOST_NAMES = 20


@dataclass
class Candidate:
    """A call of a module whose output can be read as maps with h, w > 1."""

    place: int  # position in the order in which the calls finished
    call: Call
    reading: Reading


def automatic_layer(model: nn.Module, read_output: Callable[[Any, int], Tensor], layout: Layout) -> str:
    """Return the name of the last executed module with a spatial output on which the class scores depend.

    A spatial output can be read as maps (batch, K, h, w) with h, w > 1. The search skips modules that return their
    input unchanged, linear projections of tokens, and class maps that are followed only by pooling. It also skips the
    tokens after the last attention layer of a vision transformer if the class scores depend only on the class token.

    Warns if the class scores of an image are random or depend on the rest of its batch.

    Raises InputError if there is no such layer or if the model fails on the probe image.
    """
    with grad_enabled(), torch.random.fork_rng(devices=[]):
        images, calls, returned = probe(model)
        logits = read_output(returned, 1)
        warn_if_unrepeatable(model, read_output, images, logits)
        candidates = [
            candidate
            for candidate in spatial(model, calls, layout, images.shape)
            if not candidate.call.unchanged and not isinstance(candidate.call.module, nn.Linear)
        ]
        last = max((place for place, call in enumerate(calls) if has_weights(call.module)), default=-1)
        features = [c for c in candidates if c.place < last or c.reading.channels != logits.shape[1]]
        found = last_used(model, features, calls, logits, images) or last_used(model, candidates, calls, logits, images)
    if found is None:
        raise InputError(
            f"{type(model).__name__} has no layer with a spatial output (batch, channels, height, width) on which the "
            f"class scores depend{scripted_parts(model)}; pass layer=..., one of: {listed(hookable(model))}"
        )
    return found.call.name


def probe(model: nn.Module) -> tuple[Tensor, list[Call], Any]:
    """Run the model on a random image (1, channels, height, width) of a size that it accepts.

    Returns the image, the calls of the model's modules, and the output of the model.
    """
    first_error = None
    for size in dict.fromkeys([*declared_sizes(model), *((s, s) for s in SIZES)]):
        images = random_image(model, *size)
        with traced(model) as calls:
            try:
                return images, calls, call_model(model, images)
            except DEVICE_ERRORS:
                raise
            except Exception as error:  # a model may raise any exception for a size that it does not accept
                first_error = first_error or error
    reason = " ".join(f"{type(first_error).__name__}: {first_error}".split())
    raise InputError(
        f"no layer was given, and {type(model).__name__} fails on the random image that finds one: {reason[:300]}; "
        f"pass layer=..., one of: {listed(hookable(model))}"
    ) from first_error


def warn_if_unrepeatable(
    model: nn.Module, read_output: Callable[[Any, int], Tensor], images: Tensor, logits: Tensor
) -> None:
    """Warn if the class scores of an image change when it runs again, or beside another image.

    `images` (1, channels, height, width) and their `logits` (1, classes). Costs one pass of two images.
    """

    def changed(batch: Tensor) -> bool:
        with eval_mode(model), torch.no_grad():
            found = read_output(call_model(model, batch), len(batch))[0]
        tolerance = max(SAME_SCORES.get(images.device.type, 0.02), 16 * torch.finfo(images.dtype).eps)
        return bool((found - logits[0]).abs().max() > tolerance * logits.abs().max())

    pair = torch.cat([images, 1 - images.flip(-1)]).detach()
    try:
        if not changed(pair):
            return
        random = changed(pair[:1])
    except Exception:  # a model that fails on two images says so when it explains them
        return
    reason = (
        "change from pass to pass, so its maps are random: F.dropout needs training=self.training"
        if random
        else "depend on the rest of its batch, so its maps do, too: batch normalisation needs running statistics"
    )
    warnings.warn(f"{type(model).__name__}: the class scores of an image {reason}", stacklevel=5)


def hookable(model: nn.Module) -> list[str]:
    """Return the names of all modules that accept hooks."""
    return [n for n, module in model.named_modules() if n and not isinstance(module, torch.jit.ScriptModule)]


def scripted_parts(model: nn.Module) -> str:
    """Return a remark for the error message if parts of the model are scripted, and "" otherwise."""
    scripted = any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())
    return " (scripted or traced parts do not count; pass the original modules)" if scripted else ""


def random_image(model: nn.Module, height: int, width: int) -> Tensor:
    """Return the same normal noise in every call: (1, channels, height, width) in the model's dtype, on its device."""
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0, device="cpu"))
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    channels = convolution.in_channels if convolution else next(declared(model, "num_channels"), 3)
    image = noise(1, channels, height, width)
    return image.to(parameter.device, parameter.dtype).requires_grad_()


def noise(*shape: int) -> Tensor:
    """Return normal noise on the CPU. It is the same in every call and does not depend on torch's default device."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(0), device="cpu")


def declared_sizes(model: nn.Module) -> Iterator[tuple[int, int]]:
    """Yield the image sizes (height, width) that timm, Hugging Face and torchvision models declare."""
    for config in (*declared(model, "pretrained_cfg"), *declared(model, "default_cfg")):
        if isinstance(config, dict) and len(config.get("input_size") or ()) == 3:
            yield config["input_size"][1:]
    for size in (*declared(model, "config", "image_size"), *declared(model, "image_size")):
        if isinstance(size, int):
            yield size, size
        elif isinstance(size, Sequence) and len(size) == 2:
            yield size[0], size[1]


def declared(model: nn.Module, *path: str) -> Iterator[Any]:
    """Yield the values of an attribute, such as `config.image_size`, of all modules of the model that have it."""
    for module in model.modules():
        value: Any = module
        for name in path:
            value = getattr(value, name, None)
        if value is not None and not isinstance(value, nn.Module):
            yield value


def spatial(model: nn.Module, calls: Sequence[Call], layout: Layout, images: torch.Size) -> list[Candidate]:
    """Return the calls whose output can be read as maps with h, w > 1."""
    found = []
    for place, call in enumerate(calls):
        try:
            readings = [read_layout(layout, model, call.name, call.output, images)]
        except AmbiguousLayout as error:
            readings = error.readings
        except InputError:
            continue
        size = readings[0].height, readings[0].width
        if min(size) > 1 and same_aspect(size, images[2:]):
            found.append(Candidate(place, call, readings[0]))
    return found


def has_weights(module: nn.Module) -> bool:
    """Return True if the module itself, without its submodules, has parameters."""
    return any(True for _ in module.parameters(recurse=False))


def last_used(
    model: nn.Module, candidates: Sequence[Candidate], calls: Sequence[Call], logits: Tensor, images: Tensor
) -> Candidate | None:
    """Return the last candidate that depends on the images and on whose maps the class scores depend.

    The class scores depend on the maps if the gradient of a random sum of the scores is not zero.
    """
    if not logits.requires_grad:  # the model turns gradients off
        return candidates[-1] if candidates else None
    scores = scores_with_gradient(calls, logits)
    for end in range(len(candidates), 0, -AT_ONCE):  # starts at the end, where the backward pass is short
        some = candidates[max(end - AT_ONCE, 0) : end]
        gradients = gradients_of(scores, [candidate.call.output for candidate in some])
        for candidate, gradient in zip(reversed(some), reversed(gradients), strict=True):
            used = gradient is not None and candidate.reading.to_maps(gradient).any()
            if used and sees_images(model, candidate.call.name, candidate.call.output, images):
                return candidate
    return None


def sees_images(model: nn.Module, layer: str, output: Tensor, images: Tensor) -> bool:
    """Return True if the layer's output depends on the images, which must require gradients.

    A table of weights, for example, does not depend on them. If autograd's graph does not lead from the output to the
    images, as after a part without gradients, the function compares the outputs for two different images.
    """
    return depends_on(output, images) or not is_constant(model, layer, images)


def scores_with_gradient(calls: Sequence[Call], logits: Tensor) -> Tensor:
    """Return the logits, or the input of the head if its weights are all zero, so that no gradient flows through it."""
    head = next((call.argument for call in reversed(calls) if has_weights(call.module)), None)
    if isinstance(head, Tensor) and head.requires_grad:
        (gradient,) = gradients_of(logits, [head])
        if gradient is not None and not gradient.any():
            return head
    return logits


def gradients_of(scores: Tensor, outputs: Sequence[Tensor]) -> list[Tensor | None]:
    """Compute the gradients of a random sum of the scores with respect to each output.

    The gradient is None if the scores do not depend on the output.
    """
    distinct = list({id(x): x for x in outputs if x.requires_grad}.values())
    if not distinct:
        return [None] * len(outputs)
    score = (scores * noise(*scores.shape).to(scores)).sum()
    found = torch.autograd.grad(score, distinct, retain_graph=True, allow_unused=True)
    gradients = {id(x): gradient for x, gradient in zip(distinct, found, strict=True)}
    return [gradients.get(id(x)) for x in outputs]


def layer_names(model: nn.Module, layout: Layout = "auto") -> list[str]:
    """Return the names of the layers whose output can be read as maps with h, w > 1.

    If the model fails on the probe image, the names of all modules that accept hooks are returned.
    """
    try:
        with grad_enabled(), torch.random.fork_rng(devices=[]):
            images, calls, _ = probe(model)
    except InputError:
        return hookable(model)
    found = [candidate.call for candidate in spatial(model, calls, layout, images.shape)]
    return list(
        dict.fromkeys(
            call.name
            for call in found
            if not call.output.requires_grad or sees_images(model, call.name, call.output, images)
        )
    )


def listed(names: Sequence[str]) -> str:
    """Return a string with the last names of a list. These layers are nearest to the class scores."""
    shown = ", ".join(names[-MOST_NAMES:])
    shown = shown or "none"
    return shown if len(names) <= MOST_NAMES else f"..., {shown} ({len(names)} in all)"
