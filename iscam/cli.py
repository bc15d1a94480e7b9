"""The command line: `iscam explain` and `iscam study`, also as `python -m iscam`."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from iscam.data import LabelledImage, load_images
from iscam.errors import InputError, IscamError
from iscam.explanation import explain
from iscam.methods import METHODS
from iscam.methods.controls import CONTROLS
from iscam.model import Network
from iscam.plots import TITLES, explanation_figure
from iscam.study.run import run_study
from iscam.study.spec import read_study
from iscam.study.statistics import summary
from iscam.validation import unknown_choice
from iscam.zoo import load_model

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"iscam {version('iscam')}")
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True, help="print it")] = False,
) -> None:
    """Saliency maps by IS-CAM, SS-CAM, Score-CAM and their relatives."""


@app.command("explain")
def explain_images(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="image files")],
    output: Annotated[Path, typer.Option(help="folder for <stem>_<method>.png")],
    model: Annotated[
        str, typer.Option(help="vgg16, resnet18, squeezenet1_0, menagerie/resnet ...")
    ] = "menagerie/resnet",
    weights: Annotated[str, typer.Option(help="weights file, 'none' for random ones")] = "default",
    layer: Annotated[str | None, typer.Option(help="layer to explain; default: the authors' choice")] = None,
    method: Annotated[str, typer.Option(help=", ".join([*METHODS, *CONTROLS]))] = "is_cam",
    target: Annotated[str | None, typer.Option(help="class name or number; default: the predicted one")] = None,
    save_map: Annotated[bool, typer.Option("--save-map", help="also write the map as <stem>_<method>.npy")] = False,
) -> None:
    """Draw image, map and overlay with class and probability, one figure an image."""
    if method not in {**METHODS, **CONTROLS}:
        raise unknown_choice("method", method, [*METHODS, *CONTROLS])
    stems = [file.stem for file in images]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise InputError(f"several images would be written as {twice[0]}_{method}.png: give each an output of its own")
    net = load_model(model, none_or(weights), layer).to("cuda" if torch.cuda.is_available() else "cpu")
    chosen = None if target is None else class_number(net, target)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to the folder {output}: {error.strerror}") from error
    failures = []
    for file in images:
        try:
            if file.is_dir():
                raise InputError(f"{file} is a folder: list its images, such as {file / '*.jpg'}")
            if not file.is_file():
                raise InputError(f"cannot read the image {file}: no such file")
            stem = output / f"{file.stem}_{method}"
            typer.echo(explain_image(net, load_images(file)[0], chosen, method, stem, save_map))
        except InputError as error:
            failures.append(str(error))
        except OSError as error:
            failures.append(f"cannot write the explanation of {file}: {error.strerror or error}")
    for failure in failures:
        typer.echo(f"error: {failure}", err=True)
    if failures:
        raise typer.Exit(2)


def explain_image(
    net: Network, image: LabelledImage, target: int | None, method: str, stem: Path, save_map: bool
) -> str:
    """Write one explanation's figure, and its map if asked; returns the line to print."""

    images = image.image.to(net.device)[None]
    probabilities = net(images).softmax(1)[0]
    target = int(probabilities.argmax()) if target is None else target
    (map,) = explain(net, images, torch.tensor([target]), method)
    title = f"{net.category(target)} ({probabilities[target]:.1%})"
    figure = explanation_figure(images[0], map, f"{TITLES[method]}: {title}", net.transform)
    figure.savefig(f"{stem}.png", dpi=150)
    if save_map:
        np.save(f"{stem}.npy", map.cpu().numpy())
    return f"{stem}.png  {title}"


def class_number(net: Network, target: str) -> int:
    """A class given by number or name (any case)."""
    if target.isdecimal():
        return int(target)
    names = [name.lower() for name in net.categories or ()]
    numbers = [number for number, name in enumerate(names) if name == target.lower()]
    if not numbers:
        close = [name for name in names if target.lower() in name][:5]
        raise InputError(
            f"no class is called {target!r}; " + (f"did you mean {close}?" if close else "give its number")
        )
    if len(numbers) > 1:  # a crane may fly or lift
        raise InputError(f"several classes are called {target!r}: give the number, one of {numbers}")
    return numbers[0]


class Engine(StrEnum):
    local = "local"
    ray = "ray"


@app.command("study")
def study_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="the study's description")],
    output: Annotated[Path, typer.Option(help="folder of the results; a run there that was stopped continues")],
    data: Annotated[str | None, typer.Option(help="images, in place of the file's")] = None,
    weights: Annotated[list[str] | None, typer.Option(help="MODEL=FILE or MODEL=none; may be repeated")] = None,
    count: Annotated[int | None, typer.Option(help="number of images, in place of the file's")] = None,
    engine: Annotated[Engine, typer.Option(help="where to run")] = Engine.local,
    address: Annotated[str | None, typer.Option(help="address of a Ray cluster")] = None,
) -> None:
    """Run a study, or the rest of it, and print its means."""
    changes: dict[str, Any] = {key: value for key, value in {"data": data, "count": count}.items() if value is not None}
    study = read_study(file)
    changes["weights"] = {**study.weights, **dict(weight_choice(text) for text in weights or [])}
    frame = run_study(dataclasses.replace(study, **changes), output, engine.value, address)
    means = summary(frame).astype({"n": int, "failed": int})
    typer.echo(means.to_string(index=False, float_format="{:.4f}".format))
    for _, row in frame[frame["error"] != ""].drop_duplicates(["model", "image", "error"]).iterrows():
        typer.echo(f"{row.model} {row.image} {row.method}: {row.error}", err=True)


def weight_choice(text: str) -> tuple[str, str | None]:
    model, separator, file = text.partition("=")
    if not separator:
        raise InputError(f"--weights {text}: write MODEL=FILE or MODEL=none")
    return model, none_or(file)


def none_or(text: str) -> str | None:
    return None if text == "none" else text


def main() -> None:
    """Run the command line; bad input is one line and exit code 2."""
    try:
        app()
    except IscamError as error:
        typer.echo(f"error: {error}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
