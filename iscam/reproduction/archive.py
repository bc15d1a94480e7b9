"""Recorded runs: the tables and provenance kept in `data/results`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from iscam.errors import InputError
from iscam.reproduction.published import data_folder
from iscam.study.provenance import provenance
from iscam.validation import unknown_choice


def papermill_command(notebook: str, **parameters: Any) -> str:
    """The command line that runs a notebook again with these parameters.

    >>> papermill_command("confidence", models=["vgg16"], count=2)
    "papermill notebooks/confidence.ipynb confidence.ipynb -y '{models: [vgg16], count: 2}'"
    """
    values = yaml.safe_dump(parameters, default_flow_style=True, sort_keys=False, width=10_000).strip()
    return f"papermill notebooks/{notebook}.ipynb {notebook}.ipynb -y '{values}'"


def is_recorded(name: str) -> bool:
    """Whether `data/results` keeps a run of this name."""
    return (data_folder() / "results" / f"{name}.parquet").is_file()


def recorded(name: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A run that `data/results` keeps: its table, as `run_study` returned it, and its provenance."""
    folder = data_folder() / "results"
    if not is_recorded(name):
        raise unknown_choice("recorded run", name, sorted(file.stem for file in folder.glob("*.parquet")))
    return pd.read_parquet(folder / f"{name}.parquet"), json.loads((folder / f"{name}.json").read_text())


def record_study(output: str | Path, name: str) -> None:
    """Keep a study's table and provenance as the recorded run `name` in `data/results`.

    Of a study that was not run to its end, the images that every network has seen are kept. The command that is kept
    asks for as many drawings; for all of the study's photographs, since fewer would be others. Of a study that was run
    in several goes, all commits and versions are named.
    """
    from iscam.study.store import read_rows

    target, frame = data_folder() / "results", read_rows(output)
    runs = [json.loads(file.read_text()) for file in sorted(Path(output).glob("run-*.json"))]
    whole = runs[-1] | {key: sum(run[key] for run in runs) for key in ("seconds", "images_computed")}
    whole["commit"] = join_unique(run["commit"] for run in runs)
    whole["versions"] = {name: join_unique(run["versions"].get(name) for run in runs) for name in whole["versions"]}
    networks = frame.groupby("image")["model"].transform("nunique")
    frame = frame[networks == len(whole["parameters"]["models"])]
    drawn = whole["parameters"]["data"] == "menagerie"  # where fewer images are the first of more
    if (count := frame["image"].nunique()) != whole["parameters"]["count"] and drawn:
        whole["command"] = re.sub(r" --count \d+", "", whole["command"]) + f" --count {count}"
    frame.to_parquet(target / f"{name}.parquet", index=False)
    text = json.dumps(whole, indent=1).replace(str(output), f"results/{name}")
    (target / f"{name}.json").write_text(without_local_paths(text, whole["parameters"]))


def join_unique(values: Iterable[str | None]) -> str | None:
    """Each of some words once, in their order; None where there is none."""
    return ", ".join(dict.fromkeys(value for value in values if value)) or None


def without_local_paths(text: str, parameters: Mapping[str, Any]) -> str:
    """A provenance that names the images, weights and study that were read, not where this machine keeps them."""
    for place in filter(None, [parameters.get("data"), *(parameters.get("weights") or {}).values()]):
        text = text.replace(place, Path(place).name)
    return re.sub(r"[^\s\"]*/(?=studies/\S+\.yaml)", "", text)


def save_run(
    frame: pd.DataFrame, file: str | Path, parameters: Mapping[str, Any], seconds: float, command: str
) -> None:
    """Write the table FILE.parquet and its provenance FILE.json of a run that is not a study."""
    from iscam.study.store import write_whole

    target = Path(file)
    made = provenance(parameters, seconds) | {"command": command}  # before the checkout changes by what is written
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target.with_suffix(".parquet"), frame.to_parquet(index=False))
    write_whole(target.with_suffix(".json"), without_local_paths(json.dumps(made, indent=1), parameters).encode())


def load_partial(file: str | Path, parameters: Mapping[str, Any]) -> tuple[pd.DataFrame, float]:
    """Table and seconds that `save_run` wrote to FILE for these parameters before the run was interrupted.

    "" is no file, where nothing has begun. Raises `InputError` where the file holds another run.
    """
    if not file or not (target := Path(file).with_suffix(".json")).exists():
        return pd.DataFrame({"model": [], "image": []}), 0.0
    run = json.loads(target.read_text())
    if run["parameters"] != json.loads(without_local_paths(json.dumps(dict(parameters)), parameters)):
        raise InputError(f"{file} holds a run of {run['command']}: choose another file")
    return pd.read_parquet(target.with_suffix(".parquet")), run["seconds"]


def script_command(script: str, options: Mapping[str, Any]) -> str:
    """The command line of a script, without the places of this machine and without what is left as it is.

    >>> script_command("benchmarks/speed.py", {"model": "resnet18", "weights": "none", "data": "menagerie"})
    'python benchmarks/speed.py --model resnet18 --weights none'
    >>> script_command("benchmarks/nodes.py", {"weights": "/home/me/w.safetensors", "data": "/home/me/ilsvrc"})
    'python benchmarks/nodes.py --weights w.safetensors --data ILSVRC_FOLDER'
    """
    said = {key: value for key, value in options.items() if value not in (None, "default", "menagerie")}
    if "data" in said:
        said["data"] = "ILSVRC_FOLDER"
    if "weights" in said:
        said["weights"] = Path(said["weights"]).name
    return " ".join([f"python {script}", *(f"--{key} {value}" for key, value in said.items())])


def study_command(run: Mapping[str, Any]) -> str:
    """The command line that makes a recorded study again, on this machine: the engine does not change the rows."""
    return f"iscam {run['command'].partition(' ')[2]}".replace(" --engine ray", "")


def describe_run(frame: pd.DataFrame, run: Mapping[str, Any]) -> str:
    """One sentence about a recorded run: what, how many, where, when, and the command that makes it again."""
    study, pairs = run["parameters"], len(frame[["model", "image"]].drop_duplicates())
    timed = run["images_computed"] == pairs  # else some of it was done by a run that was killed
    each = f", {run['seconds'] / pairs:.0f} s for an image and a network" if timed else ""
    return (
        f"Recorded run: {frame['image'].nunique()} images of {study['data']} (seed {study['seed']}), "
        f"{', '.join(study['models'])}; {run['date'][:10]}, {run['device']}{each}, commit {run['commit']}. "
        f"Run it again with `{study_command(run)}`."
    )


def training_summary() -> pd.DataFrame:
    """Figures of the embedded networks on unseen drawings, as their training recorded them; one row a network."""
    save_run = json.loads((data_folder() / "results" / "menagerie-training.json").read_text())
    figures = {name: entry["figures"] for name, entry in save_run.items()}
    return pd.DataFrame(
        {
            "network": name,
            "right (%)": 100 * found["top1"],
            "right, other background (%)": 100 * found["top1_background_swapped"],
            "right, background alone (%)": 100 * found["background_alone"]["top1"],
            "right, a part left out that does not decide (%)": 100 * found["top1_without_a_part_that_does_not_decide"],
            "median probability": found["median_probability_at_temperature"]["1.0"],
        }
        for name, found in figures.items()
    )
