"""What the pages tell a reader to type works as they stand: their blocks are read from the page and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from iscam.menagerie import draw

ROOT = Path(__file__).resolve().parents[1]

#: Page -> how many of its blocks run here, and how many say what else they need.
PAGES = {"book/reproduce.md": (9, 6), "notebooks/cluster.ipynb": (0, 6)}


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block of code."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a reader could stand: the repository's files, pictures of their own, nothing else."""
    for name in ("notebooks", "studies"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "my_pictures").mkdir()
    for seed, species in enumerate(("Basenji", "Whippet")):
        Image.fromarray(draw(species, seed).image).save(tmp_path / "my_pictures" / f"{species}.png")
    for name, value in {"JUPYTER_PREFER_ENV_PATH": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run_or_say_what_they_need(page: str, checkout: Path) -> None:
    found = blocks(page)
    here = [(language, code) for language, code in found if not code.startswith("# needs ")]
    assert (len(here), len(found) - len(here)) == PAGES[page]
    for language, code in here:
        if language == "python":
            exec(compile(code, page, "exec"), {"__name__": "__main__"})
        else:
            subprocess.run(["bash", "-euc", code], check=True, cwd=checkout)
