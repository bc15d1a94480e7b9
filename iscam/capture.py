"""The outputs of a model's layers during a forward pass. This is the only file with hooks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from iscam.errors import MACHINE_ERRORS, InputError, is_out_of_memory


@contextmanager
def model_errors(images: Tensor) -> Iterator[None]:
    """Turns the model's own failure on these images into `InputError`, and want of memory into `OutOfMemoryError`."""
    try:
        yield
    except InputError:
        raise
    except MACHINE_ERRORS:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:  # what torch and models raise for shapes
        reason = " ".join(str(error).split())
        if is_out_of_memory(error):
            raise torch.OutOfMemoryError(reason) from error
        raise InputError(
            f"the model fails on images (batch, channels, height, width) = {tuple(images.shape)}: {reason}"
        ) from error


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; each module's own mode comes back, whatever happens."""
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in training:
            module.training = mode


@contextmanager
def hooked(model: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """A list that a forward pass inside the `with` fills with the layer's output A (K, h, w) for each image.

    Each A is a leaf of autograd: gradients of the logits with respect to it touch none of the model's parameters.
    A layer that runs several times leaves its last output. Hook and mode are undone after success and after any error.

    Raises `InputError` where the layer's output is not (batch, K, h, w), or it does not run.
    """
    activations: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 4:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"layer {layer!r} must return (batch, channels, height, width); it returned {found}")
        activations[:] = [image.detach().requires_grad_(torch.is_grad_enabled()) for image in output]
        return torch.stack(activations)  # a copy, so that an in-place ReLU behind the layer leaves A as it was

    hook = model.get_submodule(layer).register_forward_hook(keep)
    try:
        with eval_mode(model):
            yield activations
        if not activations:
            raise InputError(f"layer {layer!r} did not run in the forward pass; choose one of {layer_names(model)}")
    finally:
        hook.remove()


@contextmanager
def grad_enabled() -> Iterator[None]:
    """Gradients on, whatever the caller's mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def outside_inference_mode(model: nn.Module, images: Tensor) -> Any:
    """The model's output, with copies of the tensors that were made in `torch.inference_mode` and bar gradients."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    normal = {name: tensor.clone() for name, tensor in tensors if tensor.is_inference()}
    if not normal:  # nor would every model, such as nn.DataParallel, take copies
        return model(images.clone())
    return torch.func.functional_call(model, normal, (images.clone(),))


def checked_logits(logits: Any, images: int) -> Tensor:
    """The model's output, if it is finite and has one row of class scores an image; else `InputError`."""
    return checked_finite(checked_shape(logits, images))


def checked_shape(logits: Any, images: int) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != images:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the model must return logits (batch, classes), one row an image; it returned {shape}")
    return logits


def checked_finite(logits: Tensor) -> Tensor:
    if not logits.isfinite().all():
        raise InputError("the model returned NaN or infinite logits: check its weights and the image's normalisation")
    return logits


def layer_names(model: nn.Module) -> list[str]:
    """Names of the modules whose output is (batch, K, h, w) with h, w > 1 on a blank 224x224 image.

    Where the model does not take such an image, all its modules.
    """
    spatial: list[str] = []
    hooks = [
        module.register_forward_hook(
            lambda _, __, output, name=name: (
                spatial.append(name)
                if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1
                else None
            )
        )
        for name, module in model.named_modules()
        if name
    ]
    try:
        with eval_mode(model), torch.no_grad():
            parameter = next(model.parameters())
            model(torch.zeros(1, 3, 224, 224, dtype=parameter.dtype, device=parameter.device))
    except Exception:  # any model, any failure: the names alone still help
        spatial = [name for name, _ in model.named_modules() if name]
    finally:
        for hook in hooks:
            hook.remove()
    return list(dict.fromkeys(spatial))
