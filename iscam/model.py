"""`Network`: a classifier, the layer to explain, and the transform from an image to its input."""

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
from iscam.validation import check_int, check_targets, unknown_choice

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier and the layer that explanations use.

    `model` maps images (batch, channels, height, width) to class scores (batch, classes).

    `layer`: the module whose output is the activations A, by its dotted name or the module itself. None: the last
    layer with a spatial output on which the class scores depend. `net.layer` is always the name.

    `layout`: how A is stored. "nchw" (batch, K, h, w); "nhwc" (batch, h, w, K); "tokens" (batch, n, K), the image's
    grid behind class, distillation or register tokens; or a function from the layer's output to (batch, K, h, w) that
    rearranges or selects values. "auto" takes the only reading that fits the images.

    `output`: a function from what the model returns to the class scores. None: a tensor, or `.logits` or ["logits"].

    `probability`: "softmax" over the classes, or "sigmoid" for multi-label heads and single scores, (batch, 1) or
    (batch,).

    `transform`: from a PIL image to one input. None: short side to 224, centre crop, ImageNet mean and standard
    deviation. `categories`: names of the classes in the order of the scores, or a dictionary from class to name.

    Warns, when it searches the layer, if the class scores of an image are random or depend on the rest of its batch.

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
        if probability not in PROBABILITIES:
            raise unknown_choice("probability", probability, PROBABILITIES)
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
        """The dotted name of a layer, given by its name, as a module, or as None for the automatic one."""
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
        """The network with its model moved to `device`. Raises InputError for a device that is not available."""
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
        """Logits (batch, classes) of images (batch, channels, height, width), in evaluation mode, without gradients."""
        images = check_images(self, images)
        with eval_mode(self.model), torch.no_grad(), no_autocast(images), model_errors(images):
            logits = checked_finite(self.read_output(self.model(images.clone()), len(images)))  # it may overwrite them
        self.check_probabilities(images, logits)
        return logits

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities (batch, classes) in [0, 1] of images (batch, channels, height, width)."""
        return self.scores_to_probabilities(self(images))

    def scores_to_probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities of logits (batch, classes), of the same shape."""
        return logits.sigmoid() if self.probability == "sigmoid" else logits.softmax(-1)

    def read_output(self, returned: Any, images: int) -> Tensor:
        """Logits (batch, classes) in the output of the model for this number of images.

        Raises InputError if there are none; the message says what the model returned.
        """
        return read_logits(returned, images, self.output, self.probability)

    def check_probabilities(self, images: Tensor, logits: Tensor) -> None:
        """Warn once per network if the model seems to return probabilities; images and logits of one call."""
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
        """The network with another layer and the same caches."""
        other = replace(self, layer=layer)  # type: ignore[arg-type]
        object.__setattr__(other, "caches", self.caches)
        return other

    def clear_caches(self) -> None:
        """Free compiled copies of the model, and forget measured batch sizes."""
        self.caches.clear()

    def at_temperature(self, temperature: float) -> Network:
        """The network with logits divided by `temperature` T > 0.

        T < 1 sharpens the probabilities, T > 1 flattens them; predictions are unchanged. Raises InputError unless T is
        a finite number above 0.
        """
        number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
        if not number or not 0 < temperature < math.inf:
            raise InputError(f"temperature must be a finite number above 0, not {temperature!r}")
        model = TemperatureScaled(self.model, float(temperature), self.output)
        return replace(self, model=model, layer=f"model.{self.layer}", output=None)

    def category(self, target: int) -> str:
        """The name of a class, or its number if no names are known. Raises InputError for a class without a name."""
        target = check_int("target", target, minimum=0)
        if self.categories and target >= len(self.categories):
            raise InputError(f"class {target} has no name: categories has {len(self.categories)}, one per class")
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
    """The network itself, or `Network(module)` for a bare module. Raises InputError for anything else."""
    if isinstance(net, Network):
        return net
    if isinstance(net, nn.Module):
        return Network(net)
    raise InputError(f"net must be an iscam.Network or a torch.nn.Module, not {type(net).__name__}")


def check_model(model: object) -> None:
    """Raise InputError unless it is a module that takes hooks."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("a scripted or traced model takes no hooks: pass the module that it was made from")
    if isinstance(model, torch.fx.GraphModule) and not calls_modules(model):
        raise InputError("an exported model runs no modules: pass the module that it was made from")


def calls_modules(model: torch.fx.GraphModule) -> bool:
    """Return True if the graph calls modules with parameters; the graph of an exported model calls functions."""
    called = [model.get_submodule(str(node.target)) for node in model.graph.nodes if node.op == "call_module"]
    return any(True for module in called for _ in module.parameters())


def check_function(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise InputError(f"{name} must be a function or None, not {type(value).__name__}")


def category_names(categories: object) -> tuple[str, ...] | None:
    """Class names in the order of the scores."""
    if categories is None:
        return None
    if isinstance(categories, Mapping):
        if set(categories) != set(range(len(categories))):
            raise InputError(f"categories must name the classes 0 to {len(categories) - 1}, one key each")
        categories = [categories[i] for i in range(len(categories))]
    if isinstance(categories, str) or not isinstance(categories, Sequence):
        raise InputError(f"categories must be a sequence of names or a dictionary, not {type(categories).__name__}")
    return tuple(map(str, categories))


def check_images(net: Network, images: object) -> Tensor:
    """The batch in the model's floating point type. Raises InputError for anything that is not a valid batch."""
    if not isinstance(net, Network):
        raise InputError(f"net must be iscam.Network(model, layer=...), not {type(net).__name__}")
    if not isinstance(images, Tensor) or images.dtype not in FLOATS:
        found: object = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise InputError(f"images must be a floating point tensor, normalised as net.transform does; got {found}")
    if images.is_nested or images.layout != torch.strided:
        found = "nested" if images.is_nested else images.layout
        raise InputError(f"images must be a dense tensor (batch, channels, height, width); got a {found} one")
    if images.ndim != 4 or 0 in images.shape:
        raise InputError(
            f"images must be (batch, channels, height, width) with at least one image; got {tuple(images.shape)}; "
            f"pass one image x as x[None]"
        )
    if images.device != net.device:
        raise InputError(f"the images are on {images.device}, the model on {net.device}: move one with .to(device)")
    if images.is_meta:
        raise InputError("images and model are on the meta device, which stores no values: move both to a real device")
    if bad := [i for i, image in enumerate(images) if not image.isfinite().all()]:
        raise InputError(f"NaN or infinite pixels in the images at positions {bad} of the batch")
    return images.to(net.dtype)


def predicted_classes(net: Network, images: Tensor, targets: Any) -> list[int]:
    """The targets, or if they are None the class with the largest logit of each image."""
    if targets is not None:
        return check_targets(targets, len(images))
    return [int(net(image[None]).argmax()) for image in images]
