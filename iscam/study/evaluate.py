"""One image of a study: its maps and their metrics."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from iscam.data import ImageDataset
from iscam.errors import DEVICE_ERRORS, InputError
from iscam.explanation import explain
from iscam.methods import METHODS
from iscam.metrics import UNDEFINED, measured, needs
from iscam.metrics.confidence import masked_confidence
from iscam.metrics.ground_truth import DRAWN_CONTROLS, part_importance
from iscam.model import Network
from iscam.record import forward_record
from iscam.study.spec import COMMON, Study, asks_for_truth
from iscam.study.store import Row, file_signature
from iscam.zoo import load_model

#: One unit of work: a model's name and the number of an image.
Task = tuple[str, int]


def check_networks(study: Study, engine: str) -> None:
    """Nothing where each network can be loaded and has the layers and ranks that are asked of it, else `InputError`."""
    for model in study.models:
        load = get_network if engine == "local" else load_model  # on Ray the GPUs are the workers'
        net = load(model, study.weights.get(model, "default"))
        for name, chosen in study.methods.items():
            as_chosen(study, name, model, net)
            if net.categories and chosen.get("rank", 1) > len(net.categories):
                raise InputError(f"rank of {name} must be at most {len(net.categories)}, the classes of {model}")


def as_chosen(study: Study, name: str, model: str, net: Network) -> Network:
    """The network as one line of the study's methods explains it: at its layer and temperature."""
    chosen = study.methods[name]
    layer = chosen.get("layer", net.layer)
    if isinstance(layer, Mapping):
        if model not in layer:
            raise InputError(f"layer of {name} names none of {model}: add '{model}: LAYER'")
        layer = layer[model]
    if "temperature" in chosen:
        net, layer = tempered(net, chosen["temperature"]), f"model.{layer}"
    return dataclasses.replace(net, layer=layer)


def run_tasks(study: Study, dataset: ImageDataset, tasks: Sequence[Task]) -> Iterator[list[Row]]:
    """The rows of each task, in order, here."""
    for model, i in tasks:
        yield image_rows(study, model, get_network(model, study.weights.get(model, "default")), dataset, i)


def get_network(model: str, weights: str | None) -> Network:
    """A study's network, on the GPU if there is one; it stays in memory, and compiled where that repays."""
    return loaded_as_of(model, weights, file_signature(weights))


@functools.lru_cache(maxsize=8)
def loaded_as_of(model: str, weights: str | None, file_signature: str) -> Network:
    return load_model(model, weights).to("cuda" if torch.cuda.is_available() else "cpu")


@functools.lru_cache(maxsize=32)
def tempered(net: Network, temperature: float) -> Network:
    """The network at a temperature, the same one for all images."""
    return net.at_temperature(temperature)


def image_rows(study: Study, model: str, net: Network, dataset: ImageDataset, i: int) -> list[Row]:
    """All rows of one image; whatever goes wrong with it stands in them."""
    base: dict[str, Any] = {"model": model, "image": dataset.entries[i].name, "target": -1}
    try:
        item = dataset[i]
        image = item.image.to(net.device)[None]
        ranked = net(image).argsort(dim=1, descending=True, stable=True)
        target = ranked[:, 0]
        base["target"] = int(target)
        given = {
            "model": model,
            "net": net,
            "ranked": ranked,
            "images": image,
            "targets": target,
            "boxes": [item.boxes],
            "drawings": [item.drawing],
        }
        if item.drawing and asks_for_truth(study):
            given["importances"] = [part_importance(net, item.drawing.species, item.drawing.seed)]
        given["original"] = masked_confidence(net, image[0], torch.ones_like(image[0, 0]), base["target"])
    except DEVICE_ERRORS:
        raise
    except Exception as error:  # one bad image must not end a run of thousands
        return [base | row for name in study.methods for row in failed_rows(study, name, error)]
    maps: dict[str, dict[str, Tensor]] = {}
    rows = []
    for name in study.methods:
        try:
            map = method_map(study, given, name)
            maps[name] = {"maps": map, "explained": masked_confidence(net, image[0], map[0], base["target"])}
        except DEVICE_ERRORS:
            raise
        except Exception as error:
            rows += failed_rows(study, name, error)
    for metric in study.metrics:
        if "pixels_per_step" in needs(metric) and maps:
            add_curves(given, maps, metric)
    rows += [measured_row(study, given, maps, name, metric) for name in maps for metric in study.metrics]
    return [base | row for row in rows]


def add_curves(given: dict[str, Any], maps: dict[str, dict[str, Tensor]], metric: str) -> None:
    """Insertion or deletion of all maps at once, whose passes then fill each other's batches."""
    together = {
        "images": given["images"].expand(len(maps), -1, -1, -1),
        "maps": torch.cat([map["maps"] for map in maps.values()]),
        "targets": given["targets"].expand(len(maps)),
    }
    with suppress(Exception):  # then each map is measured for itself, and its row holds the error
        for map, value in zip(maps.values(), measured(metric, given | together), strict=True):
            map[metric] = value


def method_map(study: Study, given: dict[str, Any], name: str) -> Tensor:
    """The map (1, height, width) of one line of the study's methods."""
    line = study.methods[name]
    method, rank = line.get("method", name), line.get("rank", 1)
    chosen = {option: value for option, value in line.items() if option not in COMMON}
    net = as_chosen(study, name, given["model"], given["net"])
    if method in DRAWN_CONTROLS:
        if given["drawings"] == [None]:
            raise InputError(f"{method} needs the menagerie's drawings")
        resolution = forward_record(net, given["images"][0]).activations.shape[1:]
        map = DRAWN_CONTROLS[method](given["drawings"][0], given["importances"][0], resolution, **chosen)
        return map[None].to(net.device)
    if method in METHODS and "precision" in METHODS[method].option_names:
        chosen = {"precision": study.precision, **chosen}
    return explain(net, given["images"], given["ranked"][:, rank - 1], method, **chosen)


def measured_row(
    study: Study, given: dict[str, Any], maps: dict[str, dict[str, Tensor]], name: str, metric: str
) -> Row:
    """One metric of one map."""
    row = {"method": name, "metric": metric, "value": float("nan"), "error": ""}
    try:
        if "maps_again" in needs(metric) and "maps_again" not in maps[name]:  # as dear as the map itself
            seen = given | {"images": given["images"] * maps[name]["maps"].to(given["images"])}
            maps[name]["maps_again"] = method_map(study, seen, name)
        own = given | maps[name] | {"explained_a": maps[name]["explained"]}
        if metric.startswith("win:"):
            own["explained_b"] = maps[metric.partition(":")[2]]["explained"]
        row["value"] = float(maps[name][metric] if metric in maps[name] else measured(metric, own))
        if row["value"] != row["value"]:
            row["error"] = f"{metric} is not defined for this image: {UNDEFINED.get(metric.partition(':')[0], '')}"
    except DEVICE_ERRORS:
        raise
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
    return row


def failed_rows(study: Study, name: str, error: Exception) -> list[Row]:
    """Every metric of a method whose map could not be made."""
    message = f"{type(error).__name__}: {error}"
    return [{"method": name, "metric": metric, "value": float("nan"), "error": message} for metric in study.metrics]
