r"""Maps from gradients with respect to the image: saliency, guided backpropagation, SmoothGrad, Integrated Gradients.

Captum computes the gradients. It is an optional dependency: `pip install iscam[captum]`.

In all docstrings, X is the image (channels, height, width), S is the logit of the explained class, and w = dS/dX. Each
method computes one value per pixel and channel. The option `colours` merges the channels (see `SaliencyOptions`), and
the result is scaled to [0, 1] with its minimum and maximum. No ReLU is applied: "max_abs", "sum_abs" and "abs_sum" show
evidence for and against the class alike. Only "positive_sum" cuts negative sums off.
"""

from __future__ import annotations

import threading
import types
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iscam.capture import (
    call_model,
    checked_finite,
    checked_gradient,
    eval_mode,
    grad_enabled,
    model_errors,
    traced,
)
from iscam.engine.first_layer import copy_with_shared_weights
from iscam.errors import InputError
from iscam.maps import unit_map
from iscam.methods.options import IntegratedGradientsOptions, SaliencyOptions, SmoothGradOptions
from iscam.model import Network
from iscam.record import ForwardPass, ForwardRecord
from iscam.rng import noises

#: Number of images per backward pass. It bounds the memory of the methods that average over many images.
GRADIENT_BATCH = 8

#: Held while warnings are filtered, because `warnings.catch_warnings` is not safe in several threads.
filtering = threading.Lock()

#: Functions that apply a ReLU.
RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_)

#: Value of `colours` -> function from the values (channels, height, width) to one value per pixel.
MERGE: dict[str, Callable[[Tensor], Tensor]] = {
    "max_abs": lambda w: w.abs().amax(0),
    "sum_abs": lambda w: w.abs().sum(0),
    "abs_sum": lambda w: w.sum(0).abs(),
    "positive_sum": lambda w: w.sum(0).relu(),
}


def saliency(record: ForwardRecord, options: SaliencyOptions) -> Tensor:
    r"""Return the map of the vanilla gradient,  L = s(max_c abs(w_c))  with  w = dS/dX.

    Returns a map (height, width) in [0, 1]. Raises `InputError` if Captum is not installed, and if the class score does
    not depend on the image through differentiable operations.

    Source: Simonyan et al. 2014, arXiv 1312.6034, section 3.
    """
    return merged_map(record.of_batch(image_gradients), options.colours)


def guided_backprop(record: ForwardRecord, options: SaliencyOptions) -> Tensor:
    r"""Return the map of guided backpropagation,  L = s(max_c abs(r_c)).

    r (channels, height, width) is computed like the gradient dS/dX, but each ReLU passes only positive values back:
    R_l = 1[x_l > 0] · max(0, R_{l+1}). Other activation functions pass the gradient back unchanged.

    The hooks are placed on a copy of the modules, which shares the weights of the model. A model that cannot be copied
    gets the hooks itself, until the pass ends.

    Returns a map (height, width) in [0, 1]. Raises the errors of `saliency`. Raises `InputError` if the model has no
    ReLU, where the result would be the vanilla gradient, and if it applies a ReLU as a function, which Captum cannot
    guide.

    Source: Springenberg et al. 2015, arXiv 1412.6806.
    """
    return merged_map(record.of_batch(guided_gradients), options.colours)


def guided_gradients(batch: ForwardPass) -> Sequence[Tensor]:
    """Compute the guided gradient of each image of a batch, (channels, height, width)."""
    attr = captum_attr()
    with filtering, differentiating(batch.net, batch.images), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting backward hooks")
        check_relus(batch.net, batch.images[:1])
        model = getattr(batch.net.model, "_orig_mod", batch.net.model)  # hooks have no effect on compiled code
        method = attr.GuidedBackprop(Logits(batch.net, copy_with_shared_weights(model) or model))
        return torch.cat([method.attribute(leaf(images), targets) for images, targets in parts_of(batch)]).unbind()


def image_gradients(batch: ForwardPass) -> Sequence[Tensor]:
    """Compute dS/dX of each image of a batch, (channels, height, width) float32."""
    return torch.cat([gradients(batch.net, images, targets) for images, targets in parts_of(batch)]).unbind()


def parts_of(batch: ForwardPass) -> Iterator[tuple[Tensor, list[int]]]:
    """Yield images and targets of a batch in parts of up to `GRADIENT_BATCH` images."""
    for start in range(0, len(batch.images), GRADIENT_BATCH):
        part = slice(start, start + GRADIENT_BATCH)
        yield batch.images[part], list(batch.targets[part])


def smoothgrad(record: ForwardRecord, options: SmoothGradOptions) -> Tensor:
    r"""Return the map of SmoothGrad,  L = s(Σ_c abs(w_c))  with  w = 1/N Σ_n dS/dX at X + ε_n.

    `samples` is the number N of noisy copies. `sigma` is the noise's standard deviation as a fraction of the image's
    range max X - min X. The noise of copy n depends only on (`seed`, n). The signed gradients are averaged. Every copy
    is scored for the class of the clean image. With `sigma=0`, SmoothGrad equals `saliency` with the same `colours`.

    Returns a map (height, width) in [0, 1]. Raises the errors of `saliency`.

    Source: Smilkov et al. 2017, arXiv 1706.03825. For display, the paper clips the map at its 99th percentile, which is
    not done here. Its authors' code averages squared gradients by default. Captum's NoiseTunnel is not used, because it
    draws its noise from torch's global generator.
    """
    image = record.image
    std = options.sigma * (image.max() - image.min())
    samples = options.samples if std > 0 else 1  # without noise all copies are equal
    w = torch.zeros_like(image, dtype=torch.float32)
    for start in range(0, samples, GRADIENT_BATCH):
        keys = [(options.seed, n) for n in range(start, min(start + GRADIENT_BATCH, samples))]
        noisy = image + std * noises(image, keys) if std > 0 else image[None]
        w += gradients(record.net, noisy, record.target).sum(0) / samples
    return merged_map(w, options.colours)


def integrated_gradients(record: ForwardRecord, options: IntegratedGradientsOptions) -> Tensor:
    r"""Return the map of Integrated Gradients,  L = s(max(0, Σ_c a_c))  with  a = X ∘ ∫₀¹ dS/dX at tX dt.

    The path starts at the image that is zero in normalised space, which is mean grey. The integral is computed with a
    Gauss-Legendre rule of `steps` nodes. The attributions a are complete: Σ a = S(X) - S(0), up to the error of the
    rule.

    Returns a map (height, width) in [0, 1]. Raises the errors of `saliency`.

    Source: Sundararajan et al. 2017, arXiv 1703.01365. The paper differentiates the probability, starts at a black
    image and uses a Riemann sum. Here S is the logit, as in the other gradient methods.
    """
    return merged_map(path_attributions(record, options.steps), options.colours)


def path_attributions(record: ForwardRecord, steps: int) -> Tensor:
    """Compute the attributions a of Integrated Gradients, (channels, height, width) float32."""
    attr = captum_attr()
    with differentiating(record.net, record.image[None]):
        method = attr.IntegratedGradients(Logits(record.net, record.net.model))
        images = record.image.detach()[None]
        found = method.attribute(images, target=record.target, n_steps=steps, internal_batch_size=GRADIENT_BATCH)
    return found[0].detach().float()


def gradients(net: Network, images: Tensor, targets: int | list[int]) -> Tensor:
    """Compute the gradients dS/dX at the images (n, channels, height, width), in float32."""
    attr = captum_attr()
    with differentiating(net, images):
        found = attr.Saliency(Logits(net, net.model)).attribute(leaf(images), targets, abs=False)
    return found.float()


class Logits(nn.Module):
    """A module for Captum that returns the logits (batch, classes) of a network, computed by its model or a copy."""

    def __init__(self, net: Network, model: nn.Module) -> None:
        super().__init__()
        self.net, self.model = net, model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.net.read_output(call_model(self.model, images), len(images))
        return checked_gradient(checked_finite(logits), images)


def merged_map(values: Tensor, colours: str) -> Tensor:
    """Compute the map (height, width) in [0, 1] of values (channels, height, width)."""
    return unit_map(MERGE[colours](values.detach().float()))


def leaf(images: Tensor) -> Tensor:
    """Return a copy of the images that requires gradients."""
    return images.detach().clone().requires_grad_()


@contextmanager
def differentiating(net: Network, images: Tensor) -> Iterator[None]:
    """Enable gradients and evaluation mode in the block. Errors of the model become `InputError`.

    Captum creates tensors on the default device, so the block sets it to the device of the images.
    """
    with grad_enabled(), torch.device(images.device), eval_mode(net.model), model_errors(images):
        yield


def captum_attr() -> types.ModuleType:
    """Import and return `captum.attr`. Raises `InputError` if Captum is not installed."""
    try:
        import captum.attr
    except ImportError as error:
        raise InputError(
            "saliency, guided_backprop, smoothgrad and integrated_gradients need Captum, which is not installed: "
            "pip install iscam[captum]"
        ) from error
    return captum.attr


def check_relus(net: Network, images: Tensor) -> None:
    """Raise `InputError` unless the model applies at least one ReLU, and every ReLU with a module `nn.ReLU`.

    One more forward pass counts the ReLUs, because the graph of autograd does not tell a module from a function.
    """
    name, logits = type(net.model).__name__, Logits(net, net.model)
    with traced(net.model) as calls, CountedReLUs() as relus:
        logits(leaf(images))
    modules = sum(isinstance(call.module, nn.ReLU) for call in calls)
    if relus.count > modules:
        raise InputError(
            f"guided_backprop needs every ReLU of {name} to be a module nn.ReLU, but {relus.count - modules} of "
            f"{relus.count} are function calls such as F.relu, which Captum cannot guide; use saliency or smoothgrad"
        )
    if modules == 0:
        raise InputError(
            f"guided_backprop needs a model with nn.ReLU modules, and {name} has none, so the result would be the "
            f"vanilla gradient; use saliency or smoothgrad"
        )


class CountedReLUs(TorchFunctionMode):
    """A context that counts the calls of a ReLU function, by modules or by other code, in the current thread."""

    count = 0

    def __torch_function__(
        self, function: Callable[..., Any], kinds: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        self.count += function in RELUS
        return function(*args, **(kwargs or {}))
