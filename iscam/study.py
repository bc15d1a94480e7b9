"""Pictures x methods x metrics: a study runs in parts, survives interruption and ends with the same table."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import pandas as pd
import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from iscam import axioms
from iscam.activations import observe
from iscam.cache import cache_folder
from iscam.data import Images, load_images
from iscam.errors import MACHINE_ERRORS, InputError, at_least_zero, one_of, positive
from iscam.explain import CONTROLS, explain
from iscam.masks import PRECISIONS
from iscam.menagerie.networks import NETWORKS
from iscam.methods import METHODS, options
from iscam.metrics import METRICS, UNDEFINED, measured, needs
from iscam.metrics.faithfulness import STARTS, seen_through
from iscam.metrics.ground_truth import DRAWN_CONTROLS, part_importance
from iscam.network import LAYERS, Network, load_model
from iscam.results import provenance

COLUMNS = ["model", "picture", "target", "method", "metric", "value", "error"]

#: What a line of a study's methods may say besides the method's own options.
COMMON = ("method", "layer", "temperature", "rank")

Row = dict[str, Any]

#: One unit of work: a model's name and the number of a picture.
Task = tuple[str, int]

#: Seconds of work that a kill may lose where pictures are quick; slow ones are written one by one.
SECONDS_A_PART = 20.0


@dataclass(frozen=True)
class Study:
    """What to compute: every method's map of every picture by every model, judged by every metric.

    `models`: names for `load_model`; `weights`: model -> file, or None for random, where not the default. `data`,
    `count`, `seed`: as in `load_images`. `methods`: name in the table -> the method and its options; "method" defaults
    to the name itself, "layer" may name another layer (of all models, or model -> layer), "temperature" divides the
    logits that make the map. `metrics`: names in `METRICS`; an argument follows a colon: "win:score_cam" compares with
    that method of the table, "insertion:blur" starts from the blurred picture; "coherency" and "adcc" make each map a
    second time, of the masked picture. `precision`: of the score methods, "fp32" or "bf16"; metrics are always computed
    in float32.

    Every picture's predicted class is explained, as in the papers' tables; a method's option "rank" names another, the
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
            positive("count", self.count)
        positive("seed", self.seed, smallest=0)
        if self.precision not in PRECISIONS:
            raise one_of("precision", self.precision, PRECISIONS)
        for model in self.models:
            if model not in [*LAYERS, *NETWORKS]:
                raise one_of("model", model, [*LAYERS, *NETWORKS])
        for name, chosen in self.methods.items():
            check_method(name, chosen)
        for metric in self.metrics:
            check_metric(metric, self.methods)
        if self.data != "menagerie" and (drawn := needing_drawings(self)):
            raise InputError(f"{drawn[0]} needs the menagerie's drawings: leave it out, or choose data: menagerie")
        if strangers := sorted(set(self.weights) - set(self.models)):
            raise one_of("model in weights:", strangers[0], self.models)


def check_method(name: str, chosen: Mapping[str, Any]) -> None:
    """Nothing where a line of the methods will do, else `InputError`; the values of its options are tried out."""
    method = chosen.get("method", name)
    known = {**METHODS, **CONTROLS, **DRAWN_CONTROLS}
    if method not in known:
        raise one_of(f"method of {name}:", method, known)
    valid = [*COMMON, *options(known[method])]
    if unknown := [option for option in chosen if option not in valid]:
        raise one_of(f"option of {name}:", unknown[0], valid)
    positive(f"rank of {name}", chosen.get("rank", 1))
    if not at_least_zero(f"temperature of {name}", chosen.get("temperature", 1)):
        raise InputError(f"temperature of {name} must be above 0")
    if values := {option: value for option, value in chosen.items() if option not in COMMON}:
        blank = torch.zeros(1, 3, 8, 8)  # whose channels are constant and cost no pass, whatever the steps
        try:
            explain(axioms.small(bias=False, pooled=True), blank, None, method, **values)
        except InputError as error:
            raise InputError(f"options of {name}: {error}") from error


def check_metric(metric: str, methods: Mapping[str, Any]) -> None:
    """Nothing where a metric and what follows its colon will do, else `InputError`."""
    base, colon, other = metric.partition(":")
    if base not in METRICS:
        raise one_of("metric", base, METRICS)
    if base == "win" and other not in methods:
        raise InputError(f"metric {metric!r} compares with a method of the study: win:NAME, of {[*methods]}")
    starts = STARTS if "start" in needs(base) else ()
    if colon and base != "win" and other not in starts:
        raise one_of("metric", metric, [base, *(f"{base}:{start}" for start in starts)])


def needing_drawings(study: Study) -> list[str]:
    """The methods and metrics of a study that only the menagerie's drawings have what they need for."""
    methods = [name for name, chosen in study.methods.items() if chosen.get("method", name) in DRAWN_CONTROLS]
    return methods + [metric for metric in study.metrics if {"drawings", "importances"} & set(needs(metric))]


def tables(models: Sequence[str], data: str, count: int | None, seed: int, weights: Mapping[str, str | None]) -> Study:
    """The study behind the papers' Tables I to III: every method and control, every metric the tables print."""
    return Study(
        models=models,
        data=data,
        count=count,
        seed=seed,
        methods={name: {} for name in [*METHODS, *CONTROLS]},
        metrics=(
            "insertion",
            "deletion",
            "average_drop",
            "average_increase",
            "win:ss_cam",
            "win:score_cam",
            "win:is_cam",
            "energy",
        ),
        weights=weights,
    )


def read_study(file: str | Path) -> Study:
    """The study that a YAML file describes, its keys being the fields of `Study`."""
    try:
        fields = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the study {file}: {' '.join(str(error).split())}") from error
    names = [f.name for f in dataclasses.fields(Study)]
    if not isinstance(fields, dict) or set(fields) - set(names):
        raise InputError(f"{file} must hold keys out of {', '.join(names)}")
    return Study(**fields)


def run_study(
    study: Study, output: str | Path | None = None, engine: str = "local", address: str | None = None
) -> pd.DataFrame:
    """Run a study, or the rest of it, and return its table.

    Rows go to the folder `output` (None: one in the cache, named by the study and the package's code) as Parquet parts,
    each written whole; pictures that are there already are not computed again, so a run that was killed continues. Each
    run leaves a `run-*.json` that says what ran, where and how long. A picture that cannot be read or explained gives
    rows with value NaN and the reason in `error`. A second run of the same study in the same folder waits for the
    first.

    `engine`: "local", one process on the GPU if there is one; "ray": on Ray (`address` of a cluster, None: this
    machine). Returns a sorted frame with the columns model, picture, target, method, metric, value (a fraction), error.

    Raises `InputError` where `output` holds another study or cannot be written, and, before the study has `output`,
    where its pictures, networks or layers cannot be had. Want of memory, or a GPU that fails, ends the run with its own
    error, and the same call goes on where it was.
    """
    if not isinstance(study, Study):
        raise InputError(f"study must be an iscam.Study, not {type(study).__name__}")
    if engine not in ("local", "ray"):
        raise one_of("engine", engine, ("local", "ray"))
    folder = Path(output) if output else cache_folder() / "studies" / fingerprint(study)
    started = time.time()
    dataset = load_images(study.data, study.count, study.seed)
    if not os.path.exists(folder / "study.json"):  # else they were there when it began, and may not be needed any more
        check_networks(study, engine)
    with locked(folder):
        claim(folder, study)
        finished = pictures_of(read_rows(folder))
        tasks = [
            (model, i)
            for i, entry in enumerate(dataset.entries)  # picture by picture, so that a part of a run is a smaller run
            for model in study.models
            if (model, entry.name) not in finished
        ]
        devices: set[str] = set()
        with tqdm(total=len(tasks), desc="pictures", unit="picture", disable=None) as bar:
            if engine == "ray":
                from iscam.cluster import run_on_ray  # here, since Ray is optional

                pictures = run_on_ray(study, dataset, tasks, address, devices)
            else:
                pictures = run_tasks(study, dataset, tasks)
            try:
                write_parts(folder, pictures, bar)
            finally:  # an interrupted run says what it did, too
                record = provenance(dataclasses.asdict(study), time.time() - started)
                record["device"] = "; ".join(sorted(devices)) or record["device"]
                record["pictures_computed"] = len(pictures_of(read_rows(folder)) - finished)
                write_whole(folder / f"run-{int(started)}.json", json.dumps(record, indent=1).encode())
        return read_rows(folder)


def check_networks(study: Study, engine: str) -> None:
    """Nothing where each network can be loaded and has the layers and ranks that are asked of it, else `InputError`."""
    for model in study.models:
        load = loaded if engine == "local" else load_model  # on Ray the GPUs are the workers'
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


def pictures_of(frame: pd.DataFrame) -> set[tuple[str, str]]:
    """The networks and pictures that a table holds."""
    return set(frame[["model", "picture"]].itertuples(index=False, name=None))


def run_tasks(study: Study, dataset: Images, tasks: Sequence[Task]) -> Iterator[list[Row]]:
    """The rows of each task, in order, here."""
    for model, i in tasks:
        yield picture_rows(study, model, loaded(model, study.weights.get(model, "default")), dataset, i)


def loaded(model: str, weights: str | None) -> Network:
    """A study's network, on the GPU if there is one; it stays in memory, and compiled where that repays."""
    return loaded_as_of(model, weights, stamp(weights))


@functools.lru_cache(maxsize=8)
def loaded_as_of(model: str, weights: str | None, stamp: str) -> Network:
    return load_model(model, weights).to("cuda" if torch.cuda.is_available() else "cpu")


@functools.lru_cache(maxsize=32)
def tempered(net: Network, temperature: float) -> Network:
    """The network at a temperature, the same one for all pictures."""
    return net.at_temperature(temperature)


def picture_rows(study: Study, model: str, net: Network, dataset: Images, i: int) -> list[Row]:
    """All rows of one picture; whatever goes wrong with it stands in them."""
    base: dict[str, Any] = {"model": model, "picture": dataset.entries[i].name, "target": -1}
    try:
        picture = dataset[i]
        image = picture.image.to(net.device)[None]
        ranked = net(image).argsort(dim=1, descending=True, stable=True)
        target = ranked[:, 0]
        base["target"] = int(target)
        given = {
            "model": model,
            "net": net,
            "ranked": ranked,
            "images": image,
            "targets": target,
            "boxes": [picture.boxes],
            "drawings": [picture.drawing],
        }
        if picture.drawing and asks_for_truth(study):
            given["importances"] = [part_importance(net, picture.drawing.species, picture.drawing.seed)]
        given["original"] = seen_through(net, image[0], torch.ones_like(image[0, 0]), base["target"])
    except MACHINE_ERRORS:
        raise
    except Exception as error:  # one bad picture must not end a run of thousands
        return [base | row for name in study.methods for row in failed_rows(study, name, error)]
    maps: dict[str, dict[str, Tensor]] = {}
    rows = []
    for name in study.methods:
        try:
            map = method_map(study, given, name)
            maps[name] = {"maps": map, "explained": seen_through(net, image[0], map[0], base["target"])}
        except MACHINE_ERRORS:
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


def asks_for_truth(study: Study) -> bool:
    """Whether anything in the study needs the drawings' part importances."""
    methods = {chosen.get("method", name) for name, chosen in study.methods.items()}
    return bool(methods & set(DRAWN_CONTROLS)) or any("importances" in needs(metric) for metric in study.metrics)


def method_map(study: Study, given: dict[str, Any], name: str) -> Tensor:
    """The map (1, height, width) of one line of the study's methods."""
    line = study.methods[name]
    method, rank = line.get("method", name), line.get("rank", 1)
    chosen = {option: value for option, value in line.items() if option not in COMMON}
    net = as_chosen(study, name, given["model"], given["net"])
    if method in DRAWN_CONTROLS:
        if given["drawings"] == [None]:
            raise InputError(f"{method} needs the menagerie's drawings")
        resolution = observe(net, given["images"][0]).activations.shape[1:]
        map = DRAWN_CONTROLS[method](given["drawings"][0], given["importances"][0], resolution, **chosen)
        return map[None].to(net.device)
    if method in METHODS and "precision" in options(METHODS[method]):
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
            row["error"] = f"{metric} is not defined for this picture: {UNDEFINED.get(metric.partition(':')[0], '')}"
    except MACHINE_ERRORS:
        raise
    except Exception as error:
        row["error"] = f"{type(error).__name__}: {error}"
    return row


def failed_rows(study: Study, name: str, error: Exception) -> list[Row]:
    """Every metric of a method whose map could not be made."""
    message = f"{type(error).__name__}: {error}"
    return [{"method": name, "metric": metric, "value": float("nan"), "error": message} for metric in study.metrics]


def write_parts(folder: Path, pictures: Iterator[list[Row]], bar: tqdm) -> None:
    """Gather rows and write them as a Parquet part whenever enough work has been done."""
    rows: list[Row] = []
    last = time.monotonic()
    try:
        for picture in pictures:
            rows += picture
            bar.update()
            if time.monotonic() - last > SECONDS_A_PART:
                write_part(folder, rows)
                rows, last = [], time.monotonic()
    finally:  # an interrupt keeps what is done
        if rows:
            write_part(folder, rows)


def write_part(folder: Path, rows: list[Row]) -> None:
    write_whole(
        folder / f"part-{uuid.uuid4().hex}.parquet", pd.DataFrame(rows, columns=COLUMNS).to_parquet(index=False)
    )


def write_whole(file: Path, content: bytes) -> None:
    """Write a file under a temporary name and rename it, so that it is there whole or not at all."""
    partial = file.with_suffix(".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, file)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"cannot write {file}: {error.strerror}; what was written before is whole") from error


def read_rows(folder: str | Path) -> pd.DataFrame:
    """The rows of a study's folder, sorted."""
    parts = [pd.read_parquet(part) for part in sorted(Path(folder).glob("part-*.parquet"))]
    frame = pd.concat(parts) if parts else pd.DataFrame(columns=COLUMNS)
    return frame.sort_values(["model", "picture", "method", "metric"], ignore_index=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder for this run alone; the lock goes with the process, however it ends."""
    lock = filelock.FileLock(folder / "lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            if sys.stderr.isatty():
                tqdm.write(f"waiting for another run that writes to {folder}", file=sys.stderr)
            lock.acquire()
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


def fingerprint(study: Study) -> str:
    """A name for a study's results that changes with its fields, the files they name, and the code that computes."""
    files = [stamp(file) for file in (study.data, *study.weights.values())]
    digest = hashlib.sha256(json.dumps([dataclasses.asdict(study), files], sort_keys=True).encode())
    for file in sorted(Path(__file__).parent.rglob("*")):
        if file.suffix in (".py", ".safetensors") and file.name not in ("cli.py", "plots.py", "results.py"):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def stamp(file: str | None) -> str:
    """Where a file or folder lies, how large it is and when it was written; "" where there is none."""
    path = Path(file or "").resolve()
    if file is None or not path.exists():
        return ""
    found = path.stat()
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def claim(folder: Path, study: Study) -> None:
    """Write down which study the folder holds, or refuse another's."""
    description = json.dumps(dataclasses.asdict(study), indent=1, sort_keys=True)
    file = folder / "study.json"
    if not file.exists():
        write_whole(file, description.encode())
    elif json.loads(file.read_text()) != json.loads(description):
        raise InputError(f"{folder} holds another study ({file} says which): choose another folder")
