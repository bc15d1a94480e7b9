"""Evaluation of one image of a study: the rows with the metrics of its maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from iscam.data import ImageDataset
from iscam.errors import DEVICE_ERRORS, InputError, is_out_of_memory
from iscam.explanation import explain
from iscam.metrics import ImageBatch, MetricCall, MetricInputs
from iscam.model import Network
from iscam.record import forward_record
from iscam.study.spec import MethodEntry, Study
from iscam.study.store import Row
from iscam.zoo import load_model

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

#: The target of an image whose predicted class is unknown.
NO_TARGET = -1


class Networks:
    """The networks of a run. They are loaded on first use and freed together with this object."""

    def __init__(self, study: Study, device: str) -> None:
        self.study, self.device = study, device
        self.loaded: dict[str, Network] = {}
        self.variants: dict[tuple[str, str | None, float | None], Network] = {}

    def get(self, model: str) -> Network:
        """Return a model of the study, on the device of the run."""
        if model not in self.loaded:
            self.loaded[model] = load_model(model, self.study.weights.get(model, "default")).to(self.device)
        return self.loaded[model]

    def variant(self, model: str, entry: MethodEntry) -> Network:
        """Return the network with the layer and the temperature of a method's entry."""
        key = (model, entry.layer_of(model), entry.temperature)
        if key not in self.variants:
            net = self.get(model)
            net = net if key[1] is None else net.with_layer(key[1])
            self.variants[key] = net if entry.temperature is None else net.at_temperature(entry.temperature)
        return self.variants[key]


def inspect_networks(study: Study, networks: Networks, dataset: ImageDataset) -> dict[str, int]:
    """Load the study's networks and check its layers and ranks.

    Returns the number of channels K of each network's default layer. K is measured on the first image that can be read.
    It is 0 if none of the first ten images can be read.

    Raises InputError if a network cannot be loaded or does not have a layer or rank of the study.
    """
    channels = {}
    for model in study.models:
        net = networks.get(model)
        for entry in study.method_entries.values():
            networks.variant(model, entry)
        channels[model] = measure_channels(study, net, dataset, model)
    return channels


def measure_channels(study: Study, net: Network, dataset: ImageDataset, model: str) -> int:
    images = replace(dataset, transform=net.transform)
    for index in range(min(10, len(images))):
        item, _ = attempt(images.__getitem__, index)
        record = item and attempt(forward_record, net, item.image.to(net.device))[0]
        if record:
            check_ranks(study, len(record.logits), model)
            return len(record.activations)
    return 0


def check_ranks(study: Study, classes: int, model: str) -> None:
    for entry in study.method_entries.values():
        if entry.rank > classes:
            raise InputError(f"rank of {entry.name} must be at most {classes}, the number of classes of {model}")


@dataclass(frozen=True, eq=False)
class ImageContext:
    """One image and the values that the maps of all methods share.

    - `batch`: the image as a batch of one, with its predicted class and annotations.
    - `ranked` (1, classes): the classes in order of decreasing logit.
    - `compiled`: run score methods and curves through `torch.compile`.
    """

    study: Study
    networks: Networks
    model: str
    batch: ImageBatch
    ranked: Tensor
    compiled: bool


def image_rows(
    study: Study, networks: Networks, dataset: ImageDataset, model: str, index: int, compiled: bool = False
) -> list[Row]:
    """Evaluate one image and return one row per method and metric. Errors are recorded in the rows.

    Re-raises out-of-memory errors and errors caused by a lost GPU.
    """
    name = dataset.entries[index].name
    base: Row = {"model": model, "image": name, "target": NO_TARGET}
    context, error = attempt(read_context, study, networks, dataset, model, index, compiled)
    if context is None:
        return failed_image(study, base, error)
    base["target"] = int(context.batch.targets)
    maps, errors = make_maps(context)
    curves = shared_curves(context, maps)
    rows = []
    for method in study.methods:
        for call in study.metric_calls:
            value, error = float("nan"), errors.get(method, "")
            if method in maps:
                known = curves.get(call, {}).get(method)
                value, error = (known, "") if known is not None else measure(call, maps[method])
            rows.append(base | {"method": method, "metric": str(call), "value": value, "error": error})
    maps.clear()  # the maps refer to each other; without this, they would stay in memory until a full collection
    return rows


def attempt(
    compute: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> tuple[Result | None, str]:
    """Return the result of a computation and "", or None and the error in one line.

    Re-raises out-of-memory errors and errors caused by a lost GPU.
    """
    try:
        return compute(*args, **kwargs), ""
    except DEVICE_ERRORS:
        raise
    except Exception as error:  # one bad image or one failure of a model must not end a run over thousands of images
        if is_out_of_memory(error):
            raise
        return None, " ".join(f"{type(error).__name__}: {error}".split())


def read_context(
    study: Study, networks: Networks, dataset: ImageDataset, model: str, index: int, compiled: bool
) -> ImageContext:
    """Read an image through the network's transform and predict its class."""
    net = networks.get(model)
    item = replace(dataset, transform=net.transform)[index]
    images = item.image.to(net.device)[None]
    ranked = net(images).argsort(dim=1, descending=True, stable=True)
    batch = ImageBatch(
        net,
        images,
        targets=ranked[:, 0],
        boxes=[item.boxes],
        masks=None if item.mask is None else item.mask[None].to(net.device),
        drawings=[item.drawing],
        compile=compiled,
        pixels_per_step=study.pixels_per_step,
    )
    return ImageContext(study, networks, model, batch, ranked, compiled)


def make_maps(context: ImageContext) -> tuple[dict[str, MetricInputs], dict[str, str]]:
    """Compute the map of each method. Returns inputs for the metrics by method, and the errors of methods that fail."""
    found: dict[str, MetricInputs] = {}
    errors: dict[str, str] = {}
    for name, entry in context.study.method_entries.items():
        again = repeated(context, entry)
        maps, error = attempt(again, context.batch.images)
        if maps is None:
            errors[name] = error
        else:
            found[name] = MetricInputs(context.batch, maps, method=name, explain=again, others=found)
    return found, errors


def repeated(context: ImageContext, entry: MethodEntry) -> Callable[[Tensor], Tensor]:
    """Return a function from images to one method's maps (1, height, width) for the class that the entry explains."""
    net = context.networks.variant(context.model, entry)

    def maps_of(images: Tensor) -> Tensor:
        if entry.drawn_control:
            return drawn_map(context, entry, net)
        targets = context.ranked[:, entry.rank - 1]
        return explain(net, images, targets, entry.method, **entry.keywords(context.compiled))

    return maps_of


def drawn_map(context: ImageContext, entry: MethodEntry, net: Network) -> Tensor:
    """Compute the map (1, height, width) of a control that is made from the drawing, at the layer's resolution."""
    assert entry.drawn_control
    drawing, importance = context.batch.drawn[0], context.batch.importances[0]
    resolution = forward_record(net, context.batch.images[0]).activations.shape[1:]
    return entry.drawn_control(drawing, importance, resolution)[None].to(net.device)


def shared_curves(context: ImageContext, maps: Mapping[str, MetricInputs]) -> dict[MetricCall, dict[str, float]]:
    """Compute the metrics that take forward passes for all maps of the image, in shared batches.

    Returns a mapping from metric to method to value. A metric that fails is left out. It is then computed separately
    for each map, and the row of the map gets the error.
    """
    if not maps:
        return {}
    count = len(maps)
    batch = replace(
        context.batch,
        images=context.batch.images.expand(count, -1, -1, -1),
        targets=context.batch.targets.expand(count),
    )
    together = MetricInputs(batch, torch.cat([inputs.maps for inputs in maps.values()]))
    found = {}
    for call in context.study.metric_calls:
        if call.metric.passes and not call.metric.needs:
            values, _ = attempt(call.compute, together)
            if values is not None:
                found[call] = dict(zip(maps, values.tolist(), strict=True))
    return found


def measure(call: MetricCall, inputs: MetricInputs) -> tuple[float, str]:
    """Compute one metric of one map. Returns the value and the error.

    If the metric is not defined, the value is NaN and the error is the reason.
    """
    values, error = attempt(call.compute, inputs)
    if values is None:
        return float("nan"), error
    value = float(values)
    if value != value:
        return value, f"{call} is not defined for this image: {call.undefined}"
    return value, ""


def failed_image(study: Study, base: Row, error: str) -> list[Row]:
    """Return the rows of an image that could not be evaluated."""
    found = {"value": float("nan"), "error": error}
    return [base | {"method": method, "metric": metric} | found for method in study.methods for metric in study.metrics]
