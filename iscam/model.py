"""`Network`, a classifier with the layer to explain and the transform from an image to the classifier's input."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from iscam.caches import Caches
from iscam.capture import call_model, checked_finite, eval_mode, grad_enabled, model_errors, no_autocast
from iscam.errors import InputError, is_out_of_memory
from iscam.layouts import LAYOUTS, Layout
from iscam.outputs import PROBABILITIES, class_scores, in_unit_range, kind_of_probabilities, read_logits
from iscam.probe import automatic_layer, layer_names, listed
from iscam.transforms import canonical_transform
from iscam.validation import check_choice, check_int, check_targets, unknown_choice

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier and the layer that explanations use.

    - `model` maps images (batch, channels, height, width) to class scores (batch, classes).
    - `layer`: the module whose output is the activations A, given as a dotted name or as the module. None selects the
      last layer with a spatial output on which the class scores depend. `net.layer` is always the name.
    - `layout`: the layout of the layer's output. "nchw" is (batch, K, h, w), and "nhwc" is (batch, h, w, K). "tokens"
      is (batch, n, K), with class, distillation or register tokens before the grid of the image. A function from the
      output to (batch, K, h, w) may rearrange or select values. "auto" uses the only layout that fits the images.
    - `output`: a function from the return value of the model to the class scores. None accepts a tensor, and a return
      value with `.logits` or ["logits"].
    - `probability`: "softmax" over the classes, or "sigmoid" for multi-label heads and for single scores, (batch, 1) or
      (batch,).
    - `transform`: a function from a PIL image to one input. None resizes the short side to 224, crops the centre, and
      normalises with ImageNet's mean and standard deviation.
    - `categories`: the names of the classes in the order of the scores, or a dictionary from class to name.

    When searching for the layer, warns if the class scores of an image are random or depend on the rest of its batch.

    Raises InputError for a layer that the model does not have (the message lists valid layers), for a model without a
    spatial layer, and for scripted and exported models.

    >>> from torchvision.models import resnet18
    >>> net = iscam.Network(resnet18(weights=None))
    >>> net.layer, net(torch.zeros(2, 3, 64, 64)).shape
    ('layer4', torch.Size([2, 1000]))
    """

    model: nn.Module
    layer: str
    layout: Layout
    output: Callable[[Any], Tensor] | None
    probability: str
    transform: Callable[..., Any]
    categories: Sequence[str] | None
    caches: Caches = field(init=False, repr=False)

    def __init__(
        self,
        model: nn.Module,
        layer: str | nn.Module | None = None,
        layout: Layout = "auto",
        output: Callable[[Any], Tensor] | None = None,
        probability: str = "softmax",
        transform: Callable[..., Any] | None = None,
        categories: Sequence[str] | Mapping[int, str] | None = None,
    ) -> None:
        check_model(model)
        if not callable(layout) and layout not in LAYOUTS:
            raise unknown_choice("layout", layout, [*LAYOUTS, "or a function"])
        check_choice("probability", probability, PROBABILITIES)
        check_function("output", output)
        check_function("transform", transform)
        values = {
            "model": model,
            "layout": layout,
            "output": output,
            "probability": probability,
            "transform": transform or canonical_transform,
            "categories": category_names(categories),
            "caches": Caches(),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "layer", self.find_layer(layer))

    def find_layer(self, layer: str | nn.Module | None) -> str:
        """Return the dotted name of a layer, given its name, its module, or None for the automatic layer."""
        if layer is None:
            return automatic_layer(self.model, self.read_output, self.layout)
        for name, module in self.model.named_modules():
            if name and (layer is module or layer == name):
                return name
        given = type(layer).__name__ if isinstance(layer, nn.Module) else layer
        valid = listed(layer_names(self.model, self.layout))
        raise unknown_choice(f"layer of {type(self.model).__name__}:", given, [valid])

    @property
    def device(self) -> torch.device:
        """The device of the model's first parameter."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating point type of the model's first parameter."""
        return next((p.dtype for p in self.model.parameters() if p.is_floating_point()), torch.float32)

    def to(self, device: torch.device | str) -> Network:
        """Move the model to `device` and return this network.

        Raises InputError for a device that is not available.
        """
        try:
            self.model.to(device)
        except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
            if is_out_of_memory(error):
                raise
            reason = " ".join(str(error).split())
            raise InputError(f"cannot move the model to device {str(device)!r}: {reason[:200]}") from error
        self.clear_caches()
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits (batch, classes) of images (batch, channels, height, width).

        The model runs in evaluation mode and without gradients.
        """
        images = check_images(self, images)
        with eval_mode(self.model), torch.no_grad(), no_autocast(images), model_errors(images):
            # The model gets a copy, because it may overwrite its input.
            logits = checked_finite(self.read_output(self.model(images.clone()), len(images)))
        self.check_probabilities(images, logits)
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """Compute class probabilities (batch, classes) in [0, 1] of images (batch, channels, height, width)."""
        return self.scores_to_probabilities(self(images))

    def scores_to_probabilities(self, logits: Tensor) -> Tensor:
        """Convert logits (batch, classes) to class probabilities of the same shape."""
        return logits.sigmoid() if self.probability == "sigmoid" else logits.softmax(-1)

    def read_output(self, returned: Any, images: int) -> Tensor:
        """Return the logits (batch, classes) in the output of the model for this number of images.

        Raises InputError if the output contains no logits. The message describes the output.
        """
        return read_logits(returned, images, self.output, self.probability)

    def check_probabilities(self, images: Tensor, logits: Tensor) -> None:
        """Warn once per network if the model seems to return probabilities.

        `images` and `logits` belong to the same call.
        """
        if not self.caches.first_time("check_probabilities") or not in_unit_range(logits):
            return
        if not logits.requires_grad:  # the graph of autograd shows a sigmoid
            with grad_enabled(), eval_mode(self.model):
                returned = call_model(self.model, images[:1].detach().clone().requires_grad_())
                logits = self.read_output(returned, 1)
        if kind := kind_of_probabilities(logits):
            inverse = {"softmax": "torch.log", "sigmoid": "torch.logit"}[kind]
            self.caches.warn_once(
                f"the model seems to return probabilities, a {kind}, to which iscam applies {self.probability}; pass "
                f"probability={kind!r} and output={inverse}, or the model without its last {kind}"
            )

    def with_layer(self, layer: str | nn.Module | None) -> Network:
        """Return a network that explains `layer` and shares the caches of this one."""
        other = replace(self, layer=layer)  # type: ignore[arg-type]
        object.__setattr__(other, "caches", self.caches)
        return other

    def clear_caches(self) -> None:
        """Delete compiled copies of the model, measured batch sizes and all other cached data."""
        self.caches.clear()

    def at_temperature(self, temperature: float) -> Network:
        """Return a network whose logits are divided by `temperature` T > 0.

        T < 1 sharpens the probabilities, and T > 1 flattens them. Predictions do not change.

        Raises InputError unless T is a finite number above 0.
        """
        number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not number or not 0 < temperature < math.inf:
            raise InputError(f"temperature must be a finite number above 0, not {temperature!r}")
        model = TemperatureScaled(self.model, float(temperature), self.output)
        return replace(self, model=model, layer=f"model.{self.layer}", output=None)

    def category(self, target: int) -> str:
        """Return the name of a class, or "class N" if the network has no names.

        Raises InputError for a class without a name.
        """
        target = check_int("target", target, minimum=0)
        if self.categories and target >= len(self.categories):
            raise InputError(f"class {target} has no name; categories has only {len(self.categories)} names")
        return self.categories[target] if self.categories else f"class {target}"


class TemperatureScaled(nn.Module):
    """A model whose logits are divided by a temperature."""

    def __init__(self, model: nn.Module, temperature: float, output: Callable[[Any], Tensor] | None = None) -> None:
        super().__init__()
        self.model, self.temperature, self.output = model, temperature, output

    def forward(self, images: Tensor) -> Tensor:
        return class_scores(self.model(images), self.output) / self.temperature

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


def as_network(net: Network | nn.Module) -> Network:
    """Return `net` if it is a network, and `Network(net)` if it is a module.

    Raises InputError for any other value.
    """
    if isinstance(net, Network):
        return net
    if isinstance(net, nn.Module):
        return Network(net)
    raise InputError(f"net must be an iscam.Network or a torch.nn.Module, not {type(net).__name__}")


def check_model(model: object) -> None:
    """Raise InputError unless `model` is a module that accepts hooks."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a scripted or traced model does not accept hooks; pass the module that it was made from")
    if isinstance(model, torch.fx.GraphModule) and not calls_modules(model):
        raise InputError("an exported model does not run modules; pass the module that it was made from")


def calls_modules(model: torch.fx.GraphModule) -> bool:
    """Return True if the graph calls modules with parameters. The graph of an exported model calls only functions."""
    called = [model.get_submodule(str(node.target)) for node in model.graph.nodes if node.op == "call_module"]
    return any(True for module in called for _ in module.parameters())


def check_function(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise InputError(f"{name} must be a function or None, not {type(value).__name__}")


def category_names(categories: object) -> tuple[str, ...] | None:
    """Return the class names in the order of the scores.

    Raises InputError unless `categories` is None, a sequence, or a dictionary with the keys 0, 1, ...
    """
    if categories is None:
        return None
    if isinstance(categories, Mapping):
        if set(categories) != set(range(len(categories))):
            raise InputError(f"categories must have one key for each of the classes 0 to {len(categories) - 1}")
        categories = [categories[i] for i in range(len(categories))]
    if isinstance(categories, str) or not isinstance(categories, Sequence):
        raise InputError(f"categories must be a sequence of names or a dictionary, not {type(categories).__name__}")
    return tuple(map(str, categories))


def check_images(net: Network, images: object) -> Tensor:
    """Return the images in the model's floating point type.

    Raises InputError unless they are a valid batch.
    """
    if not isinstance(net, Network):
        raise InputError(f"net must be iscam.Network(model, layer=...), not {type(net).__name__}")
    if not isinstance(images, Tensor) or images.dtype not in FLOATS:
        found: object = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a floating point tensor, normalised like net.transform's output; got {found}")
    if images.is_nested or images.layout != torch.strided:
        found = "nested" if images.is_nested else images.layout
        raise InputError(f"images must be a dense tensor (batch, channels, height, width); got a {found} tensor")
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(
            f"images must be (batch, channels, height, width) with at least one image; got {tuple(images.shape)}; "
            f"pass one image x as x[None]"
        )
    if images.device != net.device:
        raise InputError(
            f"the images are on {images.device}, but the model is on {net.device}; move one of them with .to(device)"
        )
    if images.is_meta:
        raise InputError("images and model are on the meta device, which stores no values; move both to a real device")
    if bad := [i for i, image in enumerate(images) if not image.isfinite().all()]:
        raise InputError(f"NaN or infinite pixels in the images at positions {bad} of the batch")
    return images.to(net.dtype)


def predicted_classes(net: Network, images: Tensor, targets: Any) -> list[int]:
    """Return the targets. If they are None, return the class with the largest logit of each image."""
    if targets is not None:
        return check_targets(targets, len(images))
    return [int(net(image[None]).argmax()) for image in images]
