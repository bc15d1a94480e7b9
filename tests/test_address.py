"""The repository's address is the same in pyproject.toml and in every file that names it."""

import re
import subprocess

import pytest

from helpers.repository import ADDRESS, ROOT

PLACES = [
    "_config.yml",
    "CITATION.cff",
    "README.md",
    "book/reproduce.md",
    *(f"notebooks/{n.name}" for n in (ROOT / "notebooks").glob("*.ipynb")),
]


@pytest.mark.parametrize("place", PLACES)
def test_address_is_the_same_everywhere(place):
    owner_and_name = ADDRESS.removeprefix("https://github.com/")
    text = (ROOT / place).read_text(encoding="utf-8")
    found = re.findall(
        r"(?:git\+https://github\.com|colab/|googleusercontent|colab\.research\.google\.com/github)/([\w.-]+/[\w.-]+)",
        text,
    )
    found += re.findall(r"(?:url: |repository-code: \"|git clone )https://github\.com/([\w.-]+/[\w.-]+)", text)
    assert found and {name.removesuffix(".git").split("@")[0] for name in found} == {owner_and_name}


def test_address_is_only_in_known_files():
    owner_and_name = ADDRESS.removeprefix("https://github.com/")
    listed = subprocess.run(["git", "grep", "-lF", owner_and_name], cwd=ROOT, capture_output=True, text=True).stdout
    assert {*listed.split()} <= {"pyproject.toml", *PLACES}


def test_address_command_of_contributing_changes_all_files(tmp_path):
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "-q", ROOT, copy], check=True)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The repository's address")[2]
    command = re.search(r"```bash\n(.*?)```", text, re.S)[1].replace("OWNER/NAME", "someone/else")
    subprocess.run(["bash", "-euc", command], cwd=copy, check=True)
    left = subprocess.run(["git", "grep", "-l", ADDRESS], cwd=copy, capture_output=True, text=True).stdout
    assert left == ""
    assert "someone/else" in (copy / "notebooks/pipeline.ipynb").read_text()
