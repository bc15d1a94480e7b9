"""`Study`, the specification of a study, and the function that reads it from YAML.

A specification is checked before any work is done.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from iscam.engine.scoring import PRECISIONS
from iscam.errors import InputError
from iscam.metrics import MetricCall, Need, parse_metric
from iscam.study.method_entry import MethodEntry, parse_entry
from iscam.study.strict_yaml import MAX_DEPTH, MAX_NODES, read_yaml, shortened
from iscam.validation import check_choice, check_int, unknown_choice
from iscam.zoo import imported, of_a_function, source

#: Sources of images that have drawings and masks.
DRAWN_SOURCES = ("menagerie",)


@dataclass(frozen=True)
class Study:
    """The specification of a study. For each image and model, every method's map is evaluated with every metric.

    - `models`: names for `load_model`.
    - `weights`: a mapping from models to weights files, or to None for random weights. Models that are not in it have
      their default weights.
    - `data`, `count`, `seed`: the arguments `source`, `count` and `seed` of `load_images`. Each model reads the images
      through its own transform.
    - `methods`: a mapping from the name in the table to the options of the method. "method" is the method; its default
      is the name in the table. "layer" is the layer to explain: one for all models, or a mapping from model to layer.
      "temperature": the logits are divided by it before the map is computed.
    - `metrics`: names in `METRICS`. An argument follows a colon: "win:score_cam" compares with that entry of `methods`,
      and "insertion:blur" starts from the blurred image. "average_drop:half", "average_increase:half" and
      "energy:single" measure as the Score-CAM paper does. "coherency" and "adcc" compute a second map per image.
    - `precision`: the precision of the score methods, "fp32" or "bf16". Metrics are always computed in float32.
    - `pixels_per_step`: the pixels that each step of an insertion or deletion curve changes. 224 is the papers' step;
      896 takes a quarter of the passes.

    The predicted class of each image is explained, as in the papers' tables. With the option "rank" of a method, the
    network's rank-th class is explained instead; 2 is the runner-up. Metrics always use the predicted class.

    Raises InputError for invalid names and options, before any work is done.

    >>> study = iscam.Study(methods={"is_cam_3": {"method": "is_cam", "steps": 3}}, metrics=("insertion",), count=2)
    >>> study.models
    ('menagerie/resnet',)
    """

    models: Sequence[str] = ("menagerie/resnet",)
    data: str = "menagerie"
    count: int | None = 64
    seed: int = 0
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"is_cam": {}})
    metrics: Sequence[str] = ("insertion", "deletion", "average_drop", "average_increase", "energy")
    weights: Mapping[str, str | None] = field(default_factory=dict)
    precision: str = "fp32"
    pixels_per_step: int = 224

    def __post_init__(self) -> None:
        checked = {
            "models": check_names("models", self.models, "[menagerie/resnet]"),
            "data": check_source(self.data),
            "count": None if self.count is None else check_int("count", self.count),
            "seed": check_int("seed", self.seed, minimum=0),
            "methods": check_methods(self.methods),
            "metrics": check_names("metrics", self.metrics, "[insertion, energy]"),
            "weights": check_weights(self.weights, self.models),
            "pixels_per_step": check_int("pixels_per_step", self.pixels_per_step),
        }
        check_choice("precision", self.precision, PRECISIONS)
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        for model in self.models:
            check_model(model)
        check_drawings(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return only the fields. Another process parses them again after it has imported a user's module."""
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}

    @cached_property
    def method_entries(self) -> dict[str, MethodEntry]:
        """The parsed methods by their name in the table."""
        return {name: parse_entry(name, entry, self.models, self.precision) for name, entry in self.methods.items()}

    @cached_property
    def metric_calls(self) -> tuple[MetricCall, ...]:
        """The parsed metrics."""
        return tuple(parse_metric(metric, self.methods) for metric in self.metrics)


def check_names(field_name: str, names: object, example: str) -> tuple[str, ...]:
    """Return a list of distinct names as a tuple.

    Raises InputError for any other value.
    """
    if not names or not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{field_name} must be a list of names, such as {example}, not {shortened(names)}")
    if repeated := [name for name in names if names.count(name) > 1]:
        raise InputError(
            f"{field_name} must contain each name once; {repeated[0]!r} appears {names.count(repeated[0])} times"
        )
    return tuple(names)


def check_model(name: str) -> None:
    """Raise InputError for a name that `load_model` would reject, if this can be checked without loading the model.

    The module of a user's model is imported, because it may add methods and metrics.
    """
    if source(name) is of_a_function:
        imported(name.rpartition(":")[0])


def check_source(data: object) -> str:
    if not isinstance(data, str | Path) or not str(data):
        raise InputError(f"data must be a source of images, such as menagerie or a folder, not {shortened(data)}")
    return str(data)


def check_methods(methods: object) -> dict[str, dict[str, Any]]:
    """Return a copy of the methods, a mapping from names to options. Options must be plain values of limited size.

    Raises InputError for any other value.
    """
    if not isinstance(methods, Mapping) or not methods:
        raise InputError(
            f"methods must map names to options, such as {{is_cam: {{steps: 10}}}}, not {shortened(methods)}"
        )
    for name, entry in methods.items():
        if not isinstance(name, str) or not name:
            raise InputError(f"names of methods must be text, not {shortened(name)}")
        if not isinstance(entry, Mapping | None):
            raise InputError(f"options of {name} must have names, such as {{steps: 10}}, not {shortened(entry)}")
    budget = Budget()
    return {
        name: {key: budget.plain(f"options of {name}", value) for key, value in (entry or {}).items()}
        for name, entry in methods.items()
    }


class Budget:
    """A copier of plain values. It counts the values to limit the size of a study."""

    def __init__(self) -> None:
        self.nodes = 0

    def plain(self, what: str, value: object, depth: int = 0) -> Any:
        """Return a copy of None, a bool, a finite number, text, or a list or dict of such values.

        Raises InputError for any other value, and if there are too many values.
        """
        self.nodes += 1
        if self.nodes > MAX_NODES or depth > MAX_DEPTH:
            raise InputError(f"{what} are too large; the limit is {MAX_NODES:,} values in {MAX_DEPTH} levels")
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {key: self.plain(what, each, depth + 1) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(what, each, depth + 1) for each in value]
        if is_plain(value):
            return value
        raise InputError(f"{what} must be finite numbers, text, booleans, or lists of these, not {shortened(value)}")


def is_plain(value: object) -> bool:
    """Return True for a single value that can be written as JSON."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return value is None or isinstance(value, str)


def check_weights(weights: object, models: Sequence[str]) -> dict[str, str | None]:
    """Return the weights of each model: a file, or None for random weights.

    Raises InputError for any other value.
    """
    if not isinstance(weights, Mapping):
        raise InputError(
            f"weights must map models to files, such as {{vgg16: vgg.safetensors}}, not {shortened(weights)}"
        )
    found: dict[str, str | None] = {}
    for model, file in weights.items():
        if model not in models:
            raise unknown_choice("model of weights", model, models)
        if file is not None and (not isinstance(file, str | Path) or not str(file)):
            raise InputError(f"weights of {model} must be a file, or none for random weights, not {shortened(file)}")
        found[model] = None if file in (None, "none") else str(file)
    return found


def check_drawings(study: Study) -> None:
    """Raise InputError if a method or metric needs the menagerie's drawings or masks and the images have none."""
    needing = [name for name, entry in study.method_entries.items() if entry.drawn_control]
    needing += [str(call) for call in study.metric_calls if call.metric.needs & {Need.DRAWING, Need.MASKS}]
    if needing and study.data not in DRAWN_SOURCES:
        raise InputError(f"{needing[0]} needs the menagerie's drawings; leave it out, or choose data: menagerie")


def read_study(file: str | Path) -> Study:
    """Read a study from a YAML file. The keys of the file are the fields of `Study`; `read_yaml` defines the syntax.

    Raises InputError if the file cannot be read or does not describe a valid study.
    """
    fields = read_yaml(file, "study")
    names = [each.name for each in dataclasses.fields(Study)]
    if not isinstance(fields, dict) or not fields:
        raise InputError(f"{file} must map keys to values; valid keys: {', '.join(names)}")
    if unknown := [key for key in fields if key not in names]:
        raise unknown_choice(f"key of {file}", unknown[0], names)
    return Study(**fields)
