"""The function `explain`, which computes saliency maps of images."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import numpy as np
import torch
from torch import Tensor, nn

from iscam import plots
from iscam.errors import InputError
from iscam.maps import scaled_map, weighted_sum
from iscam.methods import CONTROLS, METHODS, Method, find_method
from iscam.methods.options import MethodOptions
from iscam.model import Network, as_network, check_images
from iscam.record import ForwardRecord, forward_record, records_in_batches
from iscam.validation import check_targets, printable
from iscam.weights import first_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: `explain` warns if one call takes more forward passes than this on a CPU, because such a call takes minutes.
MANY_PASSES = 5000


@dataclass(frozen=True, eq=False)
class Explanation:
    """Saliency maps and the settings that produced them, returned by `explain(..., details=True)`.

    - `maps` (batch, height, width) in [0, 1].
    - `raw` (batch, height, width): the maps before ReLU and min-max scaling. They equal `maps` if the method returns a
      map.
    - `weights`: (batch, K), or (batch, K, h, w) if the method weights each position. None if the method returns a map.
    - `targets` (batch,): the explained classes.
    - `probabilities` (batch,): the probabilities of these classes on the full images.
    - `method` and `options`: the name of the method, and all of its options with their values.
    - `images` and `labels`: the explained images, and the names of the explained classes.
    - `network`: the explained network.
    """

    maps: Tensor
    raw: Tensor
    weights: Tensor | None
    targets: Tensor
    probabilities: Tensor
    method: str
    options: Mapping[str, Any]
    images: Tensor
    labels: Sequence[str]
    network: Network

    def plot(self, index: int = 0) -> Figure:
        """Draw a figure of one image of the batch: image, map and overlay."""
        title = f"{self.method}: {self.labels[index]} ({self.probabilities[index]:.1%})"
        return plots.explanation_figure(self.images[index], self.maps[index], title, transform=self.network.transform)

    def save(self, folder: str | Path) -> Path:
        """Write `maps.npz` (maps, raw, weights, targets, probabilities), `explanation.json` and one PNG per image.

        NumPy has no bfloat16, so such values are written as float32.

        Returns the folder. Raises `InputError` if the files cannot be written.
        """
        folder = Path(folder)
        arrays = {name: getattr(self, name) for name in ("maps", "raw", "weights", "targets", "probabilities")}
        found: dict[str, Any] = {name: numpy_array(array) for name, array in arrays.items() if array is not None}
        described = {"method": self.method, "options": dict(self.options), "layer": self.network.layer}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(folder / "maps.npz", **found)
            text = json.dumps(described | {"labels": list(self.labels)}, indent=1, default=str)
            (folder / "explanation.json").write_text(text, encoding="utf-8")
            for index in range(len(self.maps)):
                self.plot(index).savefig(folder / f"{index}.png", dpi=150)
        except (OSError, ValueError) as error:  # ValueError: the name has a null character
            reason = getattr(error, "strerror", None) or first_line(error)
            raise InputError(f"cannot write the explanation to {printable(folder)}: {reason}") from error
        return folder


def numpy_array(values: Tensor) -> np.ndarray:
    return (values.float() if values.dtype == torch.bfloat16 else values).cpu().numpy()


Weights = Callable[[ForwardRecord], Tensor]


@overload
def explain(
    net: Network | nn.Module,
    images: Tensor,
    targets: Any = None,
    method: str | Weights = "is_cam",
    *,
    details: Literal[False] = False,
    **options: Unpack[MethodOptions],
) -> Tensor: ...
@overload
def explain(
    net: Network | nn.Module,
    images: Tensor,
    targets: Any = None,
    method: str | Weights = "is_cam",
    *,
    details: Literal[True],
    **options: Unpack[MethodOptions],
) -> Explanation: ...
def explain(
    net: Network | nn.Module,
    images: Tensor,
    targets: Any = None,
    method: str | Weights = "is_cam",
    *,
    details: bool = False,
    **options: Unpack[MethodOptions],
) -> Tensor | Explanation:
    r"""Compute saliency maps,  L = s(ReLU(Σ_k α_k up(A_k))).

    A (K, h, w) are the layer's activations, up(.) resizes them bilinearly to the size of the image, α are the weights
    that the method assigns to the channels, and s(.) is min-max scaling to [0, 1]. A map that would be constant is all
    zeros, never NaN. Attribution methods (`saliency`, `rise`, ...) compute L in another way and do not use the layer.

    - `net`: a `Network`, or a model, which is wrapped in `Network(model)`.
    - `images` (batch, channels, height, width): a floating point tensor, normalised like the output of
      `net.transform`.
    - `targets`: the class to explain in each image. It is a tensor, array or list of ints (batch,), an int for all
      images, or None for the predicted class.
    - `method`: a name in `iscam.METHODS` or `iscam.CONTROLS`, or a function `ForwardRecord -> weights` that returns
      (K,) or (K, h, w).
    - `details`: return an `Explanation` with raw maps, weights, targets and probabilities.
    - `options`: the options of the method. `iscam.METHODS[name].option_names` lists their names. The docstrings of the
      method and of its option class define them.

    Returns maps (batch, height, width), float32 in [0, 1], on the device of the images. Other images of the batch
    change a map only by rounding.

    Warns once per network if a map is all zeros, and once if a call takes more than 5,000 forward passes on a CPU.

    Raises `InputError` for invalid images, targets, methods or options, and if the model fails on the images.

    >>> net = iscam.load_model("menagerie/resnet")
    >>> image = iscam.load_images("menagerie", count=1)[0].image
    >>> maps = iscam.explain(net, image[None], method="is_cam", steps=3)
    >>> maps.shape, float(maps.min()), float(maps.max())
    (torch.Size([1, 224, 224]), 0.0, 1.0)
    """
    chosen = find_method(method, {**METHODS, **CONTROLS})
    name = method if isinstance(method, str) else chosen.title
    values = chosen.parse(options, name)
    net = as_network(net)
    images = check_images(net, images)
    classes = [None] * len(images) if targets is None else check_targets(targets, len(images))
    parts: list[Part] = []
    with torch.autocast(images.device.type, enabled=False):  # the caller's autocast would round the sums
        for record in records(net, images, classes, chosen):
            if not parts:
                warn_of_many_passes(record, chosen, values, len(images))
            parts.append(explain_record(record, chosen, values))
    maps = torch.stack([part.map for part in parts])
    if not details:
        return maps
    return collect(net, images, maps, parts, name, values)


def records(net: Network, images: Tensor, targets: Sequence[int | None], method: Method) -> Iterator[ForwardRecord]:
    """Yield the record of each image. Images share a forward pass if the method works in batches."""
    if method.in_batches:
        yield from records_in_batches(net, images, targets)
    else:
        for image, target in zip(images, targets, strict=True):
            yield forward_record(net, image, target)


@dataclass(frozen=True, eq=False)
class Part:
    """The map of one image, with the values that belong to it."""

    map: Tensor
    raw: Tensor
    weights: Tensor | None
    target: int
    probability: Tensor


def explain_record(record: ForwardRecord, method: Method, options: Any) -> Part:
    """Compute the map of one image from the record of its forward pass."""
    found = method.function(record, options)
    probability = record.net.scores_to_probabilities(record.logits.detach()[None])[0, record.target]
    weights = None
    if method.kind == "map":
        saliency = raw = check_map(found, record.image, method.title)
    else:
        weights = check_weights(found, record.activations, method.title)
        saliency, raw = scaled_map(weighted_sum(weights, record.activations.detach()), record.image.shape[1:])
    if not saliency.any() and record.net.caches.first_time("zero map"):
        warn_of_zero_map(record, weights)
    return Part(saliency, raw, weights, record.target, probability)


def check_map(found: object, image: Tensor, name: str) -> Tensor:
    """Return `found` if it is a finite map (height, width) of the image (channels, height, width).

    Raises `InputError` for any other value.
    """
    if not isinstance(found, Tensor) or found.shape != image.shape[1:]:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise InputError(f"{name} must return a map of shape {tuple(image.shape[1:])}; got {got}")
    if not found.isfinite().all():
        raise InputError(f"{name} returned a map with NaN or infinite values")
    return found.detach()


def check_weights(weights: object, activations: Tensor, name: str) -> Tensor:
    """Return `weights` if their shape is (K,) or (K, h, w), given activations (K, h, w).

    Raises `InputError` for any other value.
    """
    shapes = (activations.shape[:1], activations.shape)
    if not isinstance(weights, Tensor) or weights.shape not in shapes:
        found = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
        raise InputError(f"{name} must return weights of shape {tuple(shapes[0])} or {tuple(shapes[1])}; got {found}")
    if not weights.isfinite().all():
        raise InputError(f"{name} returned NaN or infinite weights")
    return weights.detach()


def warn_of_zero_map(record: ForwardRecord, weights: Tensor | None) -> None:
    layer = record.net.layer
    if weights is None:
        reason = "the method finds no difference between the pixels; choose another class or method"
    elif record.activations[0].numel() == 1:
        reason = f"layer {layer!r} has one spatial position, so its maps are constant; choose an earlier layer"
    elif not weights.any():
        reason = f"all weights of layer {layer!r} are zero; choose another layer, another class or score='logit'"
    else:
        reason = f"the weighted sum of layer {layer!r} is constant or nowhere positive; choose another layer or method"
    warnings.warn(f"the map of class {record.target} is all zeros: {reason}", stacklevel=4)


def warn_of_many_passes(record: ForwardRecord, method: Method, options: Any, count: int) -> None:
    passes = count * method.cost(len(record.activations), record.activations[0].numel(), options)
    many = passes > MANY_PASSES and record.net.device.type == "cpu"
    if many and record.net.caches.first_time("many passes"):
        fewer = "nodes=5 takes a third of the passes" if hasattr(options, "nodes") else "method='grad_cam' takes 3"
        warnings.warn(
            f"{method.title} of {count} images takes up to {passes:,} forward passes on the CPU; a GPU is faster, and "
            f"{fewer}",
            stacklevel=3,
        )


def collect(net: Network, images: Tensor, maps: Tensor, parts: Sequence[Part], name: str, options: Any) -> Explanation:
    weights = [part.weights for part in parts if part.weights is not None]
    return Explanation(
        maps=maps,
        raw=torch.stack([part.raw for part in parts]),
        weights=torch.stack(weights) if weights else None,
        targets=torch.tensor([part.target for part in parts], device=images.device),
        probabilities=torch.stack([part.probability for part in parts]),
        method=name,
        options=dataclasses.asdict(options),
        images=images,
        labels=[net.category(part.target) for part in parts],
        network=net,
    )
