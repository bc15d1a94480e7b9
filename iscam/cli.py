"""The command line: `iscam explain` and `iscam study`, also available as `python -m iscam`.

Exit codes: 0 on success; 1 if all values of a study are missing or the device fails; 2 for bad input and other one-line
errors; 130 after Ctrl-C and 143 after SIGTERM. An interrupted study keeps its finished images.
"""

from __future__ import annotations

import dataclasses
import io
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import pandas as pd
import torch
import typer
from tqdm import tqdm

from iscam.data import load_images
from iscam.engine.allocator import keep_memory
from iscam.errors import DEVICE_ERRORS, InputError, IscamError
from iscam.explanation import explain
from iscam.methods import CONTROLS, METHODS, find_method
from iscam.model import Network
from iscam.study.run import run_study
from iscam.study.spec import read_study
from iscam.study.statistics import summary
from iscam.study.store import write_file
from iscam.study.strict_yaml import parse_yaml
from iscam.zoo import load_model

Text = TypeVar("Text", bound=str | None)

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

MODEL_HELP = "vgg16, menagerie/resnet, torchvision/NAME, timm/NAME, FILE.py:FUNCTION ..."

#: Maximum number of error lines about failed images.
MAX_ERRORS = 20


def print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"iscam {version('iscam')}")
        raise typer.Exit


@app.callback()
def options(
    asked: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Compute saliency maps with IS-CAM, SS-CAM, Score-CAM and other methods."""


@app.command("explain")
def explain_images(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="image files")],
    output: Annotated[str, typer.Option(help="folder for the figures <image>_<method>.png")],
    model: Annotated[str, typer.Option(help=MODEL_HELP)] = "menagerie/resnet",
    weights: Annotated[str, typer.Option(help="weights file, or 'none' for random weights")] = "default",
    layer: Annotated[str | None, typer.Option(help="layer to explain; default: the network's default layer")] = None,
    method: Annotated[str, typer.Option(help=", ".join([*METHODS, *CONTROLS]))] = "is_cam",
    option: Annotated[list[str] | None, typer.Option(help="option of the method, NAME=VALUE; may be repeated")] = None,
    target: Annotated[str | None, typer.Option(help="name or number of a class; default: the predicted class")] = None,
    save_map: Annotated[bool, typer.Option("--save-map", help="also write the map as <image>_<method>.npy")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: the GPU if there is one")] = None,
) -> None:
    """Write a figure of each image, with the map, the overlay, the class and its probability."""
    stems = output_stems(images, method)
    folder = not_empty("--output", output)
    net = load_model(not_empty("--model", model), weights_file(weights), not_empty("--layer", layer))
    chosen = parse_options(method, option or [])  # after the model, whose file may add methods
    net = net.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    number = None if target is None else class_number(net, target)
    make_folder(Path(folder))
    failures = []
    for file in tqdm(images, desc="images", unit="image", leave=False, disable=None if len(images) > 1 else True):
        try:
            check_image_file(file)
            line = explain_image(net, file, number, method, chosen, Path(folder) / stems[file], save_map)
            tqdm.write(line)
        except IscamError as error:
            failures.append(str(error))
    for failure in failures:
        typer.echo(f"error: {failure}", err=True)
    if failures:
        raise typer.Exit(2)


def explain_image(
    net: Network, file: Path, target: int | None, method: str, chosen: dict[str, Any], stem: Path, save_map: bool
) -> str:
    """Explain one image, and write its figure and, if requested, its map. Returns the line to print."""
    item = load_images(file, transform=net.transform)[0]
    explanation = explain(net, item.image.to(net.device)[None], target, method, details=True, **chosen)
    figure = io.BytesIO()
    explanation.plot().savefig(figure, format="png", dpi=150)
    write_file(stem.with_name(f"{stem.name}.png"), figure.getvalue())
    if save_map:
        array = io.BytesIO()
        np.save(array, explanation.maps[0].cpu().numpy())
        write_file(stem.with_name(f"{stem.name}.npy"), array.getvalue())
    return f"{stem}.png  {explanation.labels[0]} ({explanation.probabilities[0]:.1%})"


def parse_options(method: str, texts: Sequence[str]) -> dict[str, Any]:
    """Parse the options of a method from strings NAME=VALUE, where VALUE is YAML.

    Raises InputError if a string is malformed or the method does not accept an option.
    """
    chosen_method = find_method(method, {**METHODS, **CONTROLS})
    chosen: dict[str, Any] = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise InputError(f"--option {text}: expected NAME=VALUE, such as steps=5 or schedule=[0.5, 1]")
        if name in chosen:
            raise InputError(f"--option {name} is given twice")
        chosen[name] = parse_yaml(value)
    chosen_method.parse(chosen, method)
    return chosen


def output_stems(images: Sequence[Path], method: str) -> dict[Path, str]:
    """Return the output name of each image without a suffix.

    The name is <stem>_<method>, or <name>_<method> for images that share a stem.

    Raises InputError if two images would be written under the same name.
    """
    shared = Counter(file.stem for file in images)
    stems = {file: f"{file.stem if shared[file.stem] == 1 else file.name}_{method}" for file in images}
    counts = Counter(stems[file] for file in images)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise InputError(f"several images would be written as {twice[0]}.png; use a separate folder for each of them")
    return stems


def check_image_file(file: Path) -> None:
    """Raise InputError unless the path is a file."""
    try:
        if file.is_dir():
            raise InputError(f"{file} is a folder; list its images, for example {file / '*.jpg'}")
        if not file.is_file():
            raise InputError(f"cannot read the image {file}: no such file")
    except OSError as error:
        raise InputError(f"cannot read the image {file}: {error.strerror}") from error


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot write to the folder {folder}: {getattr(error, 'strerror', None) or error}") from error


def not_empty(name: str, text: Text) -> Text:
    if text == "":
        raise InputError(f"{name} must not be empty")
    return text


def class_number(net: Network, target: str) -> int:
    """Return the number of a class, given its number or its name in any case.

    Raises InputError for an unknown or ambiguous name.
    """
    if target.isdecimal():
        if len(target) > 9:
            raise InputError(f"--target has {len(target)} digits, which is too many for the number of a class")
        return int(target)
    names = [name.lower() for name in net.categories or ()]
    numbers = [number for number, name in enumerate(names) if name == target.lower()]
    if not numbers:
        close = [name for name in names if target and target.lower() in name][:5]
        hint = f"similar names: {', '.join(close)}" if close else "pass the number of the class"
        raise InputError(f"no class is called {target[:100]!r}; {hint}")
    if len(numbers) > 1:  # for example, "crane" is a bird and a machine
        raise InputError(f"several classes are called {target!r}; pass the number, one of {numbers}")
    return numbers[0]


class Engine(StrEnum):
    local = "local"
    ray = "ray"


@app.command("study")
def study_file(
    file: Annotated[str, typer.Argument(metavar="FILE.yaml", help="the study")],
    output: Annotated[str, typer.Option(help="folder of the results; an interrupted run in this folder is resumed")],
    data: Annotated[str | None, typer.Option(help="images to use instead of those of the study")] = None,
    weights: Annotated[list[str] | None, typer.Option(help="MODEL=FILE or MODEL=none; may be repeated")] = None,
    count: Annotated[int | None, typer.Option(help="number of images to use instead of that of the study")] = None,
    engine: Annotated[Engine, typer.Option(help="where to run the study")] = Engine.local,
    address: Annotated[str | None, typer.Option(help="address of a Ray cluster")] = None,
) -> None:
    """Run or resume a study and print the means of its values."""
    if address is not None and engine != Engine.ray:
        raise InputError("--address needs --engine ray")
    study = read_study(file)
    changes: dict[str, Any] = {key: value for key, value in {"data": data, "count": count}.items() if value is not None}
    changes["weights"] = {**study.weights, **parse_weights(weights or [])}
    folder = not_empty("--output", output)
    frame = run_study(dataclasses.replace(study, **changes), folder, engine.value, not_empty("--address", address))
    means = summary(frame).astype({"n": int, "failed": int})
    typer.echo(means.to_string(index=False, float_format="{:.4f}".format))
    print_errors(frame)
    if frame["value"].isna().all():
        raise typer.Exit(1)


def print_errors(frame: pd.DataFrame) -> None:
    """Print each error of each image once to stderr, at most `MAX_ERRORS` lines."""
    failed = frame[frame["error"] != ""].drop_duplicates(["model", "image", "error"])
    for _, row in failed.head(MAX_ERRORS).iterrows():
        typer.echo(f"{row.model} {row.image} {row.method}: {row.error}", err=True)
    if len(failed) > MAX_ERRORS:
        typer.echo(f"... and {len(failed) - MAX_ERRORS} more; see the column `error` of the results", err=True)


def parse_weights(texts: Sequence[str]) -> dict[str, str | None]:
    """Parse the weights of each model from strings MODEL=FILE or MODEL=none."""
    found: dict[str, str | None] = {}
    for text in texts:
        model, separator, file = text.partition("=")
        if not separator or not model or not file:
            raise InputError(f"--weights {text}: expected MODEL=FILE or MODEL=none")
        if model in found:
            raise InputError(f"--weights of {model} are given twice")
        found[model] = weights_file(file)
    return found


def weights_file(text: str) -> str | None:
    """Return the name of a weights file, or None for "none".

    Raises InputError for an empty name.
    """
    return None if text == "none" else not_empty("--weights", text)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Handle SIGTERM, which batch systems send, like Ctrl-C. The exit code is then 143."""
    received = []

    def interrupt(*_: object) -> None:
        received.append(True)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except SystemExit:
        if received:
            raise SystemExit(143) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Show a warning as `warning: ...`, without the line of code that issued it."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        typer.echo(f"warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def check_dashes(arguments: Sequence[str]) -> None:
    """Raise InputError for a file whose name would be parsed as an option."""
    before_dashes = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for argument in before_dashes:
        if argument.startswith("-") and len(argument) < 1000 and Path(argument).exists():
            raise InputError(f"the file name {argument} starts with '-'; write ./{argument} instead")


def main() -> None:
    """Run the command line. An error is printed as one line on stderr. The module docstring lists the exit codes."""
    try:
        check_dashes(sys.argv[1:])
        keep_memory()
        with sigterm_as_interrupt(), warnings_in_one_line():
            app()
    except DEVICE_ERRORS as error:
        typer.echo(f"error: {' '.join(str(error).split()) or type(error).__name__}; run again to resume", err=True)
        raise SystemExit(1) from error
    except (IscamError, OSError) as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
