"""Write the page `status`: what ran, when, for how long and with which versions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import nbformat

from iscam.reproduction.commands import is_study, study_command
from iscam.reproduction.published import data_folder
from iscam.reproduction.styles import markdown_table
from iscam.study.provenance import provenance

PAGE = """# Status

## This build

{build}

## Executed pages

Each page with figures or numbers is a notebook that papermill executed from top to bottom. Parameters that are not
listed have their defaults. A page that did not change is not executed again, so start times may differ.

{pages}

## Recorded runs

These runs take too long for a page. The folder `data/results` of the repository keeps the table of each run and, in a
JSON file beside it, its parameters and versions.

{runs}
"""


def status(notebooks: Iterable[Path]) -> str:
    """The page in Markdown, from the executed notebooks and the recorded runs."""
    files = sorted((data_folder() / "results").glob("*.json"))
    runs = [run_item(name, run) for file in files for name, run in records(file)]
    return PAGE.format(
        build=build(),
        pages=markdown_table(
            ["page", "started (UTC)", "seconds", "parameters"], [page_row(file) for file in notebooks]
        ),
        runs="\n".join(runs),
    )


def build() -> str:
    """A table of the date, commit, machine and versions of this build."""
    here = provenance({}, 0)
    rows = [("date (UTC)", here["date"]), ("commit", here["commit"] or "unknown"), ("machine", here["device"])]
    return markdown_table(["item", "value"], rows + list(here["versions"].items()))


def page_row(notebook: Path) -> list[str]:
    """The row of one executed notebook, from what papermill wrote into it."""
    ran = nbformat.read(notebook, as_version=4).metadata.papermill
    parameters = ", ".join(f"`{name} = {value}`" for name, value in ran.parameters.items())
    start = ran.start_time[:16].replace("T", " ")
    return [f"[](../notebooks/{notebook.stem})", start, f"{ran.duration:.0f}", parameters]


def records(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """The runs in a file of `data/results`: one run, or one per network."""
    content = json.loads(file.read_text(encoding="utf-8"))
    per_network = {f"{file.stem}, {key}": part for key, part in content.items()}
    runs = {file.stem: content} if "date" in content else per_network
    return [(name, run) for name, run in runs.items() if isinstance(run, dict) and "date" in run]


def run_item(name: str, run: dict[str, Any]) -> str:
    """A list item with the date, machine, duration, commit, torch version and command of a recorded run."""
    command = study_command(run) if is_study(run) else run.get("command", "")
    facts = [run["date"][:10], run.get("device"), f"{run['seconds']:,.0f} s" if "seconds" in run else None]
    facts += [f"commit {run['commit']}"] if run.get("commit") else []
    facts += [f"torch {run['versions']['torch']}"] if "versions" in run else []
    return f"- **{name}**: {', '.join(filter(None, facts))}." + (f" `{command}`" if command else "")
