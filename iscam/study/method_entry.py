"""`MethodEntry`, a parsed and checked entry of a study's methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from iscam.engine.scoring import Scoring
from iscam.errors import InputError
from iscam.methods import CONTROLS, METHODS, find_method
from iscam.metrics.ground_truth import DRAWN_CONTROLS, DrawnControl
from iscam.study.strict_yaml import shortened
from iscam.validation import check_int, check_non_negative, unknown_choice

#: Keys that every entry of `methods` may have, in addition to the options of its method.
COMMON = ("method", "layer", "temperature", "rank")


@dataclass(frozen=True)
class MethodEntry:
    """One parsed entry of a study's methods.

    - `name`: the name in the table.
    - `method`: a key of METHODS, CONTROLS or DRAWN_CONTROLS.
    - `options`: an instance of the method's option class. It is None for a control that is made from drawings.
    - `chosen`: the names of the options that the entry sets. All other options have default values.
    - `layer`: one layer for all models, or a mapping from model to layer. None selects each network's default layer.
    - `temperature`: the logits are divided by it before the map is computed.
    - `rank`: the rank of the explained class. 1 is the predicted class.
    """

    name: str
    method: str
    options: Any = None
    chosen: frozenset[str] = frozenset()
    layer: str | Mapping[str, str] | None = None
    temperature: float | None = None
    rank: int = 1

    @property
    def drawn_control(self) -> DrawnControl | None:
        """The control that is made from drawings, if the entry names one."""
        return DRAWN_CONTROLS.get(self.method)

    def layer_of(self, model: str) -> str | None:
        """Return the layer to explain in a model of the study."""
        return self.layer[model] if isinstance(self.layer, Mapping) else self.layer

    def keywords(self, compiled: bool) -> dict[str, Any]:
        """Return the options for `explain`. `compiled` is the value of `compile` unless the entry sets this option."""
        values = {each.name: getattr(self.options, each.name) for each in dataclasses.fields(self.options)}
        if isinstance(self.options, Scoring) and "compile" not in self.chosen:
            values["compile"] = compiled
        return values


def parse_entry(name: str, entry: Mapping[str, Any], models: Sequence[str], precision: str) -> MethodEntry:
    """Parse one entry of a study's methods.

    Raises an InputError that names the entry.
    """
    method = entry.get("method", name)
    known = {**METHODS, **CONTROLS, **DRAWN_CONTROLS}
    if not isinstance(method, str) or method not in known:
        raise unknown_choice(f"method of {name}", method, known)
    own = {option: value for option, value in entry.items() if option not in COMMON}
    return MethodEntry(
        name=name,
        method=method,
        options=parse_options(name, method, own, precision),
        chosen=frozenset(own),
        layer=parse_layer(name, entry.get("layer"), models),
        temperature=parse_temperature(name, entry.get("temperature")),
        rank=check_int(f"rank of {name}", entry.get("rank", 1)),
    )


def parse_options(name: str, method: str, own: Mapping[str, Any], precision: str) -> Any:
    """Return an instance of the method's option class, or None for a control from drawings, which has no options."""
    if method in DRAWN_CONTROLS:
        if own:
            raise unknown_choice(f"option of {name}", next(iter(own)), COMMON)
        return None
    entry = find_method(method, {**METHODS, **CONTROLS})
    defaults = {"precision": precision} if issubclass(entry.options, Scoring) else {}
    if unknown := [option for option in own if option not in entry.option_names]:
        raise unknown_choice(f"option of {name}", unknown[0], [*COMMON, *entry.option_names])
    try:
        return entry.parse({**defaults, **own})
    except InputError as error:
        raise InputError(f"options of {name}: {error}") from error


def parse_layer(name: str, layer: object, models: Sequence[str]) -> str | dict[str, str] | None:
    """Return the name of one layer for all models, or a mapping from each model to a name."""
    if layer is None:
        return None
    names = list(layer.values()) if isinstance(layer, Mapping) else [layer]
    if not all(isinstance(each, str) and each for each in names):
        raise InputError(f"layer of {name} must be a layer's name or map models to names, not {shortened(layer)}")
    if isinstance(layer, Mapping):
        if missing := [model for model in models if model not in layer]:
            raise InputError(f"layer of {name} has no entry for {missing[0]}; add '{missing[0]}: LAYER'")
        return dict(layer)
    return str(layer)


def parse_temperature(name: str, temperature: object) -> float | None:
    if temperature is None:
        return None
    if not check_non_negative(f"temperature of {name}", temperature):
        raise InputError(f"temperature of {name} must be above 0")
    return float(temperature)  # type: ignore[arg-type]
