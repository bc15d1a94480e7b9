"""Build the book: papermill runs the notebooks, and Jupyter Book lays out their results beside the pages.

Notebooks that are up to date are not run again. The build stops if a notebook fails.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
import papermill
from status import status

from iscam.errors import InputError
from iscam.study.signatures import file_signature
from iscam.study.strict_yaml import parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
STAGE = BUILD / "src"  # mirrors the checkout, so that the pages' links to their source are correct
HTML = BUILD / "_build" / "html"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

#: The notebooks that take longest. They start first, so that no long notebook runs alone at the end.
LONGEST = ("steps_sensitivity", "published_numbers", "methods")
PATHS = ("data", "box_data", "weights", "own_image", "record")  # parameters that may name a file
NO_PATHS = ("", "menagerie", "figures", "default", "none")
#: How warnings begin that a page must not show: on the passes of slow methods, and of a missing progress bar.
NO_PROBLEMS = ("Score-CAM of", "SS-CAM of", "IS-CAM of", "RISE of", "IProgress not found")
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--parameters", type=Path, metavar="FILE", help="YAML file: values of parameters by name")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter, as YAML")
    command.add_argument("--jobs", type=int, default=2, help="notebooks to run at the same time (default 2)")
    command.add_argument("--force", action="store_true", help="also run notebooks that are up to date")
    arguments = command.parse_args()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    parameters = by_notebook(read_parameters(arguments.parameters, arguments.set))
    started = time.time()
    run_notebooks(parameters, arguments.jobs, arguments.force)
    print(f"notebooks ready after {time.time() - started:.0f} s", flush=True)
    lay_out()
    print(f"book built in {time.time() - started:.0f} s; open {HTML / 'index.html'}")


# ------------------------------------------------------------------------------------------------------- parameters


def read_parameters(file: Path | None, settings: list[str]) -> dict[str, Any]:
    """Parameters of a YAML file, overridden by `NAME=VALUE` settings; paths are made absolute.

    Exits with a one-line message if the file or a setting cannot be read.
    """
    try:
        parameters = read_yaml(file, "parameters file") if file else {}
    except InputError as error:
        sys.exit(str(error))
    if not isinstance(parameters, dict | None):
        sys.exit(f"--parameters {file}: the file must map parameter names to values, such as 'count: 8'")
    parameters = parameters or {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name:
            sys.exit(f"--set {setting}: write NAME=VALUE")
        try:
            parameters[name] = parse_yaml(value)
        except InputError as error:
            sys.exit(f"--set {setting[:200]}: {error}")
    return {name: with_absolute_paths(value) if name in PATHS else value for name, value in parameters.items()}


def with_absolute_paths(value: Any) -> Any:
    """The value with every path made absolute, because notebooks run in another folder."""
    if isinstance(value, dict):
        return {key: with_absolute_paths(item) for key, item in value.items()}
    return str(Path(value).resolve()) if is_path(value) else value


def is_path(value: Any) -> bool:
    return isinstance(value, str) and value not in NO_PATHS


def by_notebook(parameters: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """Map each notebook to those of the given parameters that it declares.

    Exits if no notebook declares one of the parameters, or if a value does not have the declared type.
    """
    declared = {notebook: papermill.inspect_notebook(str(notebook)) for notebook in NOTEBOOKS}
    valid = set().union(*declared.values())
    if unknown := sorted(set(parameters) - valid):
        sys.exit(f"unknown parameter {unknown[0]!r}; valid parameters: {', '.join(sorted(valid))}")
    for declarations in declared.values():
        for name in set(parameters) & set(declarations):
            check_type(name, parameters[name], declarations[name])
    return {
        notebook: {name: value for name, value in parameters.items() if name in declarations}
        for notebook, declarations in declared.items()
    }


def check_type(name: str, value: Any, declaration: dict[str, str]) -> None:
    """Exit if the value of a parameter does not have the type that a notebook declares."""
    kind = declaration["inferred_type_name"]
    if type(value).__name__ != kind:
        sys.exit(f"parameter {name!r} must be of type {kind}, such as {declaration['default']}; got {value!r}")


# -------------------------------------------------------------------------------------------------------- notebooks


def run_notebooks(parameters: dict[Path, dict[str, Any]], jobs: int, force: bool) -> None:
    """Run the notebooks that are out of date, several at a time. Exits if any of them fails."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))  # kernels inherit both
    os.environ.setdefault("PYTHONWARNINGS", ",".join(f"ignore:{start}" for start in NO_PROBLEMS))
    shutil.rmtree(STAGE / "book", ignore_errors=True)
    stamps_file = BUILD / "stamps.json"
    stamps = json.loads(stamps_file.read_text()) if stamps_file.exists() else {}
    current = {notebook: fingerprint(notebook, values) for notebook, values in parameters.items()}
    todo = [n for n in NOTEBOOKS if force or stamps.get(n.name) != current[n] or not staged(n).exists()]
    todo.sort(key=lambda notebook: notebook.stem not in LONGEST)
    failures = 0
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(run_notebook, notebook, parameters[notebook]): notebook for notebook in todo}
        for number, done in enumerate(as_completed(running), start=1):
            notebook, (seconds, error) = running[done], done.result()
            print(f"[{number}/{len(todo)}] {'FAILED' if error else 'ok'} {seconds:6.1f} s  {notebook.name}", flush=True)
            if error:
                failures += 1
                print(error, file=sys.stderr)
            else:
                stamps[notebook.name] = current[notebook]
                stamps_file.write_text(json.dumps(stamps, indent=1))
    if failures:
        sys.exit(f"{failures} of {len(todo)} notebooks failed; see {BUILD / 'failed'}")


def run_notebook(notebook: Path, parameters: dict[str, Any]) -> tuple[float, str]:
    """Run one notebook and write it to the stage. Returns its seconds and an error message, empty on success."""
    started = time.time()
    target, partial = staged(notebook), BUILD / "failed" / notebook.name
    for file in (target, partial):
        file.parent.mkdir(parents=True, exist_ok=True)
    try:
        executed = papermill.execute_notebook(
            str(notebook),
            str(partial),
            parameters=parameters,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            start_timeout=120,
            resources={"metadata": {"path": str(notebook.parent)}},  # `cwd=` would change the folder of this process
            extra_arguments=["--log-level=CRITICAL"],  # a kernel logs its own shutdown as an error
        )
    except Exception as error:  # papermill and the kernel raise many types
        return time.time() - started, COLOUR_CODES.sub("", f"{type(error).__name__}: {error}")[-4000:]
    if text := stderr_of(executed):
        return time.time() - started, f"the page would show a warning: {text}"
    for key in ("input_path", "output_path"):
        executed.metadata.papermill[key] = notebook.name  # the book must not show paths of this machine
    nbformat.write(executed, target)
    partial.unlink()
    return time.time() - started, ""


def stderr_of(notebook: nbformat.NotebookNode) -> str:
    """The text that the cells wrote to the error stream. A page must not show it."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output.get("name") == "stderr")


def staged(notebook: Path) -> Path:
    return STAGE / "notebooks" / notebook.name


def fingerprint(notebook: Path, parameters: dict[str, Any]) -> str:
    """A hash of the notebook, its parameters, the files that the parameters name, the package and its data."""
    digest = hashlib.sha256(notebook.read_bytes() + json.dumps(parameters, sort_keys=True).encode())
    digest.update(package_hash().encode())
    for path in sorted(paths_in(parameters)):
        digest.update(signature(path).encode())
    return digest.hexdigest()


@functools.cache
def package_hash() -> str:
    """A hash of the names and contents of the files of the package and its data."""
    digest = hashlib.sha256()
    for folder in ("iscam", "data"):
        for file in sorted((ROOT / folder).rglob("*.*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


signature = functools.cache(file_signature)  # notebooks share their data


def paths_in(parameters: dict[str, Any]) -> set[str]:
    """The files and folders that a notebook reads. `weights` may map models to files. `record` is written, not read."""
    values = [value for name, value in parameters.items() if name in PATHS and name != "record"]
    values += [item for value in values if isinstance(value, dict) for item in value.values()]
    return {value for value in values if is_path(value)}


# ------------------------------------------------------------------------------------------------------------- book


def lay_out() -> None:
    """Build the pages with Jupyter Book. Its warnings are errors."""
    shutil.copytree(ROOT / "book", STAGE / "book", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (STAGE / "book/status.md").write_text(status([staged(notebook) for notebook in NOTEBOOKS]), encoding="utf-8")
    shutil.rmtree(HTML, ignore_errors=True)
    builder = Path(sys.executable).with_name("jupyter-book")
    options = ["--path-output", BUILD, "--all", "-W", "-n", "--keep-going", "-q"]
    command = [builder, "build", STAGE, "--config", ROOT / "_config.yml", "--toc", ROOT / "book/_toc.yml", *options]
    if code := subprocess.run([str(part) for part in command], cwd=ROOT).returncode:
        sys.exit(code)
    for notebook in NOTEBOOKS:  # the download button serves the source without outputs
        shutil.copy2(notebook, HTML / "_sources/notebooks" / notebook.name)


if __name__ == "__main__":
    main()
