"""The page `status`: what ran, when, for how long and with which versions, from the records that the runs left."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import nbformat

from iscam.reproduction.archive import study_command
from iscam.reproduction.published import data_folder
from iscam.study.provenance import provenance

PAGE = """# Status

## This build

{build}

## Pages that were run

Each page with figures or numbers is a notebook that papermill ran from top to bottom, with its defaults where no
parameters are given. A page that did not change is not run again, so the times may differ.

{pages}

## Recorded runs

Runs that take longer than a page may; `data/results` in the repository keeps their tables of numbers and, in a file
beside each, all their parameters and versions.

{runs}
"""


def status(notebooks: Iterable[Path]) -> str:
    """The page in Markdown; `notebooks` are the executed ones."""
    files = sorted((data_folder() / "results").glob("*.json"))
    runs = [run_item(name, run) for file in files for name, run in records(file)]
    return PAGE.format(
        build=build(),
        pages=table(["page", "started (UTC)", "seconds", "parameters"], [page_row(file) for file in notebooks]),
        runs="\n".join(runs),
    )


def build() -> str:
    """When, where and with what this book was built."""
    here = provenance({}, 0)
    rows = [("date (UTC)", here["date"]), ("commit", here["commit"] or "unknown"), ("machine", here["device"])]
    return table(["what", "here"], rows + list(here["versions"].items()))


def page_row(notebook: Path) -> list[str]:
    """What papermill wrote into an executed notebook."""
    ran = nbformat.read(notebook, as_version=4).metadata.papermill
    given = ", ".join(f"`{name} = {value}`" for name, value in ran.parameters.items())
    return [f"[](../notebooks/{notebook.stem})", ran.start_time[:16].replace("T", " "), f"{ran.duration:.0f}", given]


def records(file: Path) -> list[tuple[str, dict[str, Any]]]:
    """The runs that a file of `data/results` describes: one, or one a network."""
    content = json.loads(file.read_text(encoding="utf-8"))
    each = {f"{file.stem}, {key}": part for key, part in content.items()}
    parts = {file.stem: content} if "date" in content else each
    return [(name, part) for name, part in parts.items() if isinstance(part, dict) and "date" in part]


def run_item(name: str, run: dict[str, Any]) -> str:
    """What a record says of its run, as far as it does: when, where, how long, with what, and the command."""
    command = run.get("command", "")
    command = study_command(run) if " study " in command else command
    said = [run["date"][:10], run.get("device"), f"{run['seconds']:,.0f} s" if "seconds" in run else None]
    said += [f"commit {run['commit']}"] if run.get("commit") else []
    said += [f"torch {run['versions']['torch']}"] if "versions" in run else []
    return f"- **{name}**: {', '.join(filter(None, said))}." + (f" `{command}`" if command else "")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
