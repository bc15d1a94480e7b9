"""Build the book: papermill runs the notebooks, Jupyter Book lays out their results beside the pages.

Notebooks that are up to date are not run again; a notebook that fails stops the build.
"""

from __future__ import annotations

import argparse
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
import yaml
from status import status

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
STAGE = BUILD / "src"  # mirrors the checkout, so that the pages' links to their source come out right
HTML = BUILD / "_build" / "html"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PATHS = ("data", "box_data", "weights", "own_image", "record")  # parameters that may name a file
NO_PATHS = ("", "menagerie", "figures", "default", "none")
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__)
    command.add_argument("--parameters", type=Path, metavar="FILE", help="YAML file: parameter name -> value")
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="one parameter, as YAML")
    command.add_argument("--jobs", type=int, default=2, help="notebooks at once (default 2)")
    command.add_argument("--force", action="store_true", help="run notebooks that are up to date as well")
    given = command.parse_args()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    parameters = known_only(read_parameters(given.parameters, given.set))
    started = time.time()
    run_notebooks(parameters, given.jobs, given.force)
    print(f"notebooks ready after {time.time() - started:.0f} s", flush=True)
    lay_out()
    print(f"book built in {time.time() - started:.0f} s; open {HTML / 'index.html'}")


def read_parameters(file: Path | None, settings: list[str]) -> dict[str, Any]:
    """Parameters of a YAML file, then those of the command line; paths are made absolute."""
    parameters: dict[str, Any] = {}
    if file:
        if not file.is_file():
            sys.exit(f"no parameters file {file}")
        parameters = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator:
            sys.exit(f"--set {setting}: write NAME=VALUE")
        parameters[name] = yaml.safe_load(value)
    return {name: with_absolute_paths(value) if name in PATHS else value for name, value in parameters.items()}


def with_absolute_paths(value: Any) -> Any:
    """Notebooks run in another folder, so a path that was given from here must not depend on it."""
    if isinstance(value, dict):
        return {key: with_absolute_paths(item) for key, item in value.items()}
    return str(Path(value).resolve()) if isinstance(value, str) and value not in NO_PATHS else value


def known_only(parameters: dict[str, Any]) -> dict[Path, dict[str, Any]]:
    """The parameters that each notebook has; a name that none has is an error."""
    known = {notebook: set(papermill.inspect_notebook(str(notebook))) for notebook in NOTEBOOKS}
    everything = set().union(*known.values())
    if unknown := sorted(set(parameters) - everything):
        sys.exit(f"no notebook has the parameter {unknown[0]!r}; the known ones are: {', '.join(sorted(everything))}")
    return {
        notebook: {name: value for name, value in parameters.items() if name in names}
        for notebook, names in known.items()
    }


def run_notebooks(parameters: dict[Path, dict[str, Any]], jobs: int, force: bool) -> None:
    """Run what is not up to date, several at once, and stop the program if any fails."""
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))  # kernels inherit it
    shutil.rmtree(STAGE / "book", ignore_errors=True)
    stamps_file = BUILD / "stamps.json"
    stamps = json.loads(stamps_file.read_text()) if stamps_file.exists() else {}
    wanted = {notebook: fingerprint(notebook, values) for notebook, values in parameters.items()}
    todo = [n for n in NOTEBOOKS if force or stamps.get(n.name) != wanted[n] or not staged(n).exists()]
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
                stamps[notebook.name] = wanted[notebook]
                stamps_file.write_text(json.dumps(stamps, indent=1))
    if failures:
        sys.exit(f"{failures} of {len(todo)} notebooks failed; see {BUILD / 'failed'}")


def run_notebook(notebook: Path, parameters: dict[str, Any]) -> tuple[float, str]:
    """Run one notebook into the stage; returns seconds and what went wrong."""
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
            resources={"metadata": {"path": str(notebook.parent)}},  # `cwd=` would move the whole process
            extra_arguments=["--log-level=CRITICAL"],  # a kernel that is told to stop calls that an error
        )
    except Exception as error:  # papermill and the kernel raise many kinds
        return time.time() - started, COLOUR_CODES.sub("", f"{type(error).__name__}: {error}")[-4000:]
    if said := warned(executed):
        return time.time() - started, f"the page would show a warning: {said}"
    for key in ("input_path", "output_path"):
        executed.metadata.papermill[key] = notebook.name  # no path of this machine in the book
    nbformat.write(executed, target)
    partial.unlink()
    return time.time() - started, ""


def warned(notebook: nbformat.NotebookNode) -> str:
    """What cells wrote to the error stream, which no reader should meet."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output["text"] for output in outputs if output.get("name") == "stderr")


def staged(notebook: Path) -> Path:
    return STAGE / "notebooks" / notebook.name


def fingerprint(notebook: Path, parameters: dict[str, Any]) -> str:
    """Changes with the notebook, its parameters, the package and its data."""
    digest = hashlib.sha256(notebook.read_bytes() + json.dumps(parameters, sort_keys=True).encode())
    for folder in ("iscam", "data"):
        for file in sorted((ROOT / folder).rglob("*.*")):
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(file.relative_to(ROOT).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def lay_out() -> None:
    """Jupyter Book makes the pages; any warning of its is an error."""
    shutil.copytree(ROOT / "book", STAGE / "book", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (STAGE / "book/status.md").write_text(status([staged(notebook) for notebook in NOTEBOOKS]), encoding="utf-8")
    shutil.rmtree(HTML, ignore_errors=True)
    builder = Path(sys.executable).with_name("jupyter-book")
    options = ["--path-output", BUILD, "--all", "-W", "-n", "--keep-going", "-q"]
    command = [builder, "build", STAGE, "--config", ROOT / "_config.yml", "--toc", ROOT / "book/_toc.yml", *options]
    if code := subprocess.run([str(part) for part in command], cwd=ROOT).returncode:
        sys.exit(code)
    for notebook in NOTEBOOKS:  # the download button gives the clean source
        shutil.copy2(notebook, HTML / "_sources/notebooks" / notebook.name)


if __name__ == "__main__":
    main()
