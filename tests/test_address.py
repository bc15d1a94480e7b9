"""The repository's address stands in pyproject.toml; wherever else it is written, it is the same."""

import re
import subprocess

import pytest

from helpers.repository import ADDRESS, ROOT

PLACES = [
    "_config.yml",
    "CITATION.cff",
    "book/reproduce.md",
    *(f"notebooks/{n.name}" for n in (ROOT / "notebooks").glob("*.ipynb")),
]


@pytest.mark.parametrize("place", PLACES)
def test_the_address_is_the_same_everywhere(place):
    owner_and_name = ADDRESS.removeprefix("https://github.com/")
    text = (ROOT / place).read_text(encoding="utf-8")
    found = re.findall(
        r"(?:git\+https://github\.com|colab/|googleusercontent|colab\.research\.google\.com/github)/([\w.-]+/[\w.-]+)",
        text,
    )
    found += re.findall(r"(?:url: |repository-code: \"|git clone )https://github\.com/([\w.-]+/[\w.-]+)", text)
    assert found and {name.removesuffix(".git").split("@")[0] for name in found} == {owner_and_name}


def test_it_is_written_nowhere_else():
    owner_and_name = ADDRESS.removeprefix("https://github.com/")
    listed = subprocess.run(["git", "grep", "-lF", owner_and_name], cwd=ROOT, capture_output=True, text=True).stdout
    assert {*listed.split()} <= {"pyproject.toml", *PLACES}


def test_the_address_is_changed_by_one_command(tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", ROOT, copy], check=True)
    subprocess.run(["python3", copy / "run.py", "address", "https://github.com/someone/else"], check=True)
    left = subprocess.run(["git", "grep", "-l", ADDRESS], cwd=copy, capture_output=True, text=True).stdout
    assert left == ""
    assert "someone/else" in (copy / "notebooks/pipeline.ipynb").read_text()
