"""`Study`: what to compute, and its YAML form."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iscam.engine.scoring import PRECISIONS
from iscam.errors import InputError
from iscam.menagerie.networks import NETWORKS
from iscam.methods import METHODS, Method
from iscam.methods.controls import CONTROLS
from iscam.metrics import METRICS, needs
from iscam.metrics.curves import STARTS
from iscam.metrics.ground_truth import DRAWN_CONTROLS
from iscam.study.strict_yaml import read_yaml
from iscam.validation import check_int, check_non_negative, unknown_choice
from iscam.zoo import LAYERS

#: What a line of a study's methods may say besides the method's own options.
COMMON = ("method", "layer", "temperature", "rank")


@dataclass(frozen=True)
class Study:
    """What to compute: every method's map of every image by every model, judged by every metric.

    `models`: names for `load_model`; `weights`: model -> file, or None for random, where not the default. `data`,
    `count`, `seed`: as in `load_images`. `methods`: name in the table -> the method and its options; "method" defaults
    to the name itself, "layer" may name another layer (of all models, or model -> layer), "temperature" divides the
    logits that make the map. `metrics`: names in `METRICS`; an argument follows a colon: "win:score_cam" compares with
    that method of the table, "insertion:blur" starts from the blurred image; "coherency" and "adcc" make each map a
    second time, of the masked image. `precision`: of the score methods, "fp32" or "bf16"; metrics are always computed
    in float32.

    Every image's predicted class is explained, as in the papers' tables; a method's option "rank" names another, the
    network's rank-th class (2: its runner-up), for a contrast. The metrics judge by the predicted class all the same.

    Raises `InputError` for names and options that will not do, before any work is done.

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

    def __post_init__(self) -> None:
        for name in ("methods", "weights"):
            if not isinstance(getattr(self, name), Mapping):
                raise InputError(f"{name} must map names to what is chosen, such as {{is_cam: {{steps: 10}}}}")
        for name, example in (("models", "[menagerie/resnet]"), ("metrics", "[insertion, energy]")):
            given = getattr(self, name)
            if not given or not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
                raise InputError(f"{name} must be a list of names, such as {example}, not {given!r}")
            if len(set(given)) < len(given):
                raise InputError(f"{name} must name each once, not {given!r}")
        if not self.methods:
            raise InputError("methods must name one at least, such as {is_cam: {}}")
        for name, chosen in self.methods.items():
            if not isinstance(chosen, Mapping | None):
                raise InputError(f"options of {name} must be named, such as {{steps: 10}}, not {chosen!r}")
        object.__setattr__(self, "models", tuple(self.models))
        object.__setattr__(self, "metrics", tuple(self.metrics))
        object.__setattr__(self, "data", str(self.data))
        object.__setattr__(self, "methods", {name: dict(chosen or {}) for name, chosen in self.methods.items()})
        object.__setattr__(
            self, "weights", {k: None if v in (None, "none") else str(v) for k, v in self.weights.items()}
        )
        try:
            json.dumps(self.methods)
        except TypeError as error:
            raise InputError(f"options of methods must be numbers, words and lists of them: {error}") from error
        if self.count is not None:
            check_int("count", self.count)
        check_int("seed", self.seed, minimum=0)
        if self.precision not in PRECISIONS:
            raise unknown_choice("precision", self.precision, PRECISIONS)
        for model in self.models:
            if model not in [*LAYERS, *NETWORKS]:
                raise unknown_choice("model", model, [*LAYERS, *NETWORKS])
        for name, chosen in self.methods.items():
            check_method(name, chosen)
        for metric in self.metrics:
            check_metric(metric, self.methods)
        if self.data != "menagerie" and (drawn := needing_drawings(self)):
            raise InputError(f"{drawn[0]} needs the menagerie's drawings: leave it out, or choose data: menagerie")
        if strangers := sorted(set(self.weights) - set(self.models)):
            raise unknown_choice("model in weights:", strangers[0], self.models)


def check_method(name: str, chosen: Mapping[str, Any]) -> None:
    """Nothing where a line of the methods will do, else `InputError`; the values of its options are tried out."""
    method = chosen.get("method", name)
    known: dict[str, Callable[..., Any]] = {**METHODS, **CONTROLS, **DRAWN_CONTROLS}
    if method not in known:
        raise unknown_choice(f"method of {name}:", method, known)
    entry = known[method]
    names = entry.option_names if isinstance(entry, Method) else []
    if unknown := [option for option in chosen if option not in (*COMMON, *names)]:
        raise unknown_choice(f"option of {name}", unknown[0], [*COMMON, *names])
    check_int(f"rank of {name}", chosen.get("rank", 1))
    if not check_non_negative(f"temperature of {name}", chosen.get("temperature", 1)):
        raise InputError(f"temperature of {name} must be above 0")
    if isinstance(entry, Method):
        try:
            entry.parse({option: value for option, value in chosen.items() if option not in COMMON})
        except InputError as error:
            raise InputError(f"options of {name}: {error}") from error


def check_metric(metric: str, methods: Mapping[str, Any]) -> None:
    """Nothing where a metric and what follows its colon will do, else `InputError`."""
    base, colon, other = metric.partition(":")
    if base not in METRICS:
        raise unknown_choice("metric", base, METRICS)
    if base == "win" and other not in methods:
        raise InputError(f"metric {metric!r} compares with a method of the study: win:NAME, of {[*methods]}")
    starts = STARTS if "start" in needs(base) else ()
    if colon and base != "win" and other not in starts:
        raise unknown_choice("metric", metric, [base, *(f"{base}:{start}" for start in starts)])


def needing_drawings(study: Study) -> list[str]:
    """The methods and metrics of a study that only the menagerie's drawings have what they need for."""
    methods = [name for name, chosen in study.methods.items() if chosen.get("method", name) in DRAWN_CONTROLS]
    return methods + [metric for metric in study.metrics if {"drawings", "importances"} & set(needs(metric))]


def read_study(file: str | Path) -> Study:
    """The study that a YAML file describes. Its keys are the fields of `Study`; see `read_yaml` for its rules."""
    fields = read_yaml(file, "study")
    names = [f.name for f in dataclasses.fields(Study)]
    if not isinstance(fields, dict) or set(fields) - set(names):
        raise InputError(f"{file} must hold keys out of {', '.join(names)}")
    return Study(**fields)


def asks_for_truth(study: Study) -> bool:
    """Whether anything in the study needs the drawings' part importances."""
    methods = {chosen.get("method", name) for name, chosen in study.methods.items()}
    return bool(methods & set(DRAWN_CONTROLS)) or any("importances" in needs(metric) for metric in study.metrics)
