"""run.py prints clear messages before it installs anything."""

from __future__ import annotations

import ast
import subprocess
import sys

from helpers.repository import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, ROOT / "run.py", *arguments], capture_output=True, text=True)


def test_run_unknown_command_lists_valid_ones() -> None:
    assert run("tset").stderr == "unknown command 'tset'; valid commands: setup, book, test, check, readme\n"


def test_run_help_names_every_command() -> None:
    lines = [line.split()[2] for line in run("--help").stdout.splitlines() if line.startswith("python3 run.py")]
    assert lines == ["setup", "book", "test", "check", "readme"]


def test_run_is_read_by_old_pythons() -> None:
    ast.parse((ROOT / "run.py").read_text(encoding="utf-8"), feature_version=(3, 6))  # to print which Python it needs
