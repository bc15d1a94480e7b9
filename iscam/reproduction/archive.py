"""Recorded runs: the tables in `data/results`, each with the provenance of the run."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from iscam.errors import InputError
from iscam.reproduction.commands import argv_of, study_command, without_options
from iscam.reproduction.published import data_folder
from iscam.study.provenance import provenance
from iscam.study.store import read_rows, write_file
from iscam.validation import unknown_choice


def is_recorded(name: str) -> bool:
    """Return True if `data/results` has a run of this name."""
    return (data_folder() / "results" / f"{name}.parquet").is_file()


def recorded(name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Load the table and the provenance of a recorded run. The table of a study has the columns of `run_study`.

    Raises InputError if there is no such run. The message lists the runs.
    """
    folder = data_folder() / "results"
    if not is_recorded(name):
        raise unknown_choice("recorded run", name, sorted(file.stem for file in folder.glob("*.parquet")))
    return pd.read_parquet(folder / f"{name}.parquet"), read_json(folder / f"{name}.json")


def median_drawing(network: str, method: str = "is_cam") -> tuple[int, int]:
    """Return seed and index of the drawing whose part correlation is the median over the recorded drawings.

    The drawing is `iscam.load_images("menagerie", index + 1, seed)[index]`. With an even number of drawings, it is the
    lower of the two in the middle. Raises InputError if the run has no such values.
    """
    frame, run = recorded("tables_menagerie")
    values = frame[(frame["metric"] == "part_correlation") & (frame["method"] == method)].dropna(subset="value")
    if network not in set(values["model"]):
        raise unknown_choice("network of the recorded run", network, sorted(set(values["model"])))
    ranked = values[values["model"] == network].sort_values(["value", "image"])["image"]
    return run["parameters"]["seed"], int(ranked.iloc[(len(ranked) - 1) // 2].rpartition("-")[2])


def read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def record_study(output: str | Path, name: str) -> None:
    """Copy the results of a study to `data/results` as the recorded run `name`.

    Only images with rows of every network are kept. The provenance merges those of the study's runs: commits and
    versions are listed, and seconds are added. For drawings, the count in the command becomes the number of drawings
    that were kept. For photographs the count does not change, because a smaller count would choose other photographs.
    """
    frame = read_rows(output)
    run = merged_provenance([read_json(file) for file in sorted(Path(output).glob("run-*.json"))])
    parameters = run["parameters"]
    networks = frame.groupby("image")["model"].transform("nunique")
    frame = frame[networks == len(parameters["models"])]
    count = frame["image"].nunique()
    partial = parameters["data"] == "menagerie" and count != parameters["count"]
    run["argv"] = study_argv(run, f"results/{name}", count if partial else None)
    run["command"] = shlex.join(run["argv"])
    target = data_folder() / "results"
    frame.to_parquet(target / f"{name}.parquet", index=False)
    write_json(target / f"{name}.json", without_local_paths(run))


def merged_provenance(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the provenances of a study that was run in several parts."""
    last = runs[-1]
    return {
        **last,
        "seconds": sum(run["seconds"] for run in runs),
        "images_computed": sum(run["images_computed"] for run in runs),
        "commit": join_unique(run["commit"] for run in runs),
        "versions": {name: join_unique(run["versions"].get(name) for run in runs) for name in last["versions"]},
    }


def study_argv(run: Mapping[str, Any], output: str, count: int | None) -> list[str]:
    """Return the arguments of a study with the output folder replaced, and the count if `count` is not None."""
    replaced = ["--output"] if count is None else ["--output", "--count"]
    argv = [*without_options(argv_of(run), replaced), "--output", output]
    return argv if count is None else [*argv, "--count", str(count)]


def join_unique(values: Iterable[str | None]) -> str | None:
    """Return the distinct values, separated by commas, or None if there are no values."""
    return ", ".join(dict.fromkeys(value for value in values if value)) or None


def without_local_paths(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance with the names of data, weights and study files instead of their paths on this machine."""
    parameters = run["parameters"]
    paths = [parameters.get("data"), *(parameters.get("weights") or {}).values()]
    paths += [word for word in run.get("argv", []) if word.endswith(".yaml")]
    names = {path: portable_name(path) for path in sorted(filter(None, paths), key=len, reverse=True)}
    return replace_in(dict(run), names)


def portable_name(path: str) -> str:
    """Return the last part of a path. A study file keeps its folder `studies`.

    >>> portable_name("/home/me/weights.pth"), portable_name("/home/me/studies/tables.yaml")
    ('weights.pth', 'studies/tables.yaml')
    """
    found = Path(path)
    return f"studies/{found.name}" if found.parent.name == "studies" else found.name


def replace_in(value: Any, names: Mapping[str, str]) -> Any:
    """Return the value with every path in its strings replaced by the name of the path."""
    if isinstance(value, Mapping):
        return {key: replace_in(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [replace_in(item, names) for item in value]
    if isinstance(value, str):
        for path, name in names.items():
            value = value.replace(path, name)
    return value


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    write_file(file, json.dumps(content, indent=1).encode())


def save_run(
    frame: pd.DataFrame, file: str | Path, parameters: Mapping[str, Any], seconds: float, command: str
) -> None:
    """Write the table FILE.parquet and the provenance FILE.json of a run that is not a study."""
    target = Path(file)
    run = provenance(parameters, seconds, command)  # before the files below change the state of the checkout
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target.with_suffix(".parquet"), frame.to_parquet(index=False))
    write_json(target.with_suffix(".json"), without_local_paths(run))


def load_partial(file: str | Path, parameters: Mapping[str, Any]) -> tuple[pd.DataFrame, float]:
    """Return the table and the elapsed seconds that an interrupted run with these parameters wrote with `save_run`.

    The table is empty if `file` is "" or does not exist.

    Raises InputError if the file belongs to another run.
    """
    if not file or not (target := Path(file).with_suffix(".json")).exists():
        return pd.DataFrame({"model": [], "image": []}), 0.0
    run = read_json(target)
    expected = without_local_paths({"parameters": json.loads(json.dumps(dict(parameters)))})
    if run["parameters"] != expected["parameters"]:
        raise InputError(f"{file} is the result of another run, {run['command']}; choose another file")
    return pd.read_parquet(target.with_suffix(".parquet")), run["seconds"]


def describe_run(frame: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """Describe a recorded study: images, networks, date, machine, commit, and the command that repeats the run."""
    study, pairs = run["parameters"], len(frame[["model", "image"]].drop_duplicates())
    complete = run["images_computed"] == pairs  # False if runs were killed, so that some images were computed twice
    seconds = f", {run['seconds'] / pairs:.0f} s per image and network" if complete else ""
    step = study.get("pixels_per_step", 224)
    curves = "" if step == 224 else f"curves in steps of {step} pixels; "
    return (
        f"Recorded run: {frame['image'].nunique()} images of {study['data']} (seed {study['seed']}), "
        f"{', '.join(study['models'])}; {curves}{run['date'][:10]}, {run['device']}{seconds}, commit {run['commit']}. "
        f"Repeat it with `{study_command(run)}`."
    )


def training_summary() -> pd.DataFrame:
    """Return the accuracy of the embedded networks on each kind of unseen drawings, recorded after their training.

    For each network, the columns are the share of correct predictions and the mean probability of the right class.
    """
    networks = read_json(data_folder() / "results" / "menagerie-training.json")
    columns: dict[tuple[str, str], pd.Series] = {}
    for name, entry in networks.items():
        found = pd.DataFrame({key: entry["figures"][key] for key in ("top1", "mean_probability")})
        columns[name, "correct (%)"] = 100 * found["top1"]
        columns[name, "probability (%)"] = 100 * found["mean_probability"]
    table = pd.DataFrame(columns)
    table.insert(0, ("drawings", ""), table.index)
    return table.reset_index(drop=True)
