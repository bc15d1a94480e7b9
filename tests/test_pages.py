"""The code blocks of the pages are read from the page and run as they are."""

from __future__ import annotations

import ast
import json
import os
import pydoc
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import iscam
from iscam.menagerie import draw

ROOT = Path(__file__).resolve().parents[1]

#: Page -> number of blocks that run here, and number of blocks that say what else they need.
PAGES = {"book/reproduce.md": (4, 5), "notebooks/cluster.ipynb": (0, 5)}


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each fenced block of code."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A reader's folder: notebooks, studies, and a folder of the reader's images."""
    for name in ("notebooks", "studies"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "my_images").mkdir()
    for seed, species in enumerate(("Basenji", "Whippet")):
        Image.fromarray(draw(species, seed).image).save(tmp_path / "my_images" / f"{species}.png")
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


def test_api_page_lists_every_public_name() -> None:
    text = (ROOT / "book/api.md").read_text(encoding="utf-8")
    listed = set(re.findall(r":: (?:iscam\.)?(\w+)$", text, re.M))
    assert set(iscam.__all__) - {"menagerie"} <= listed


def test_api_page_names_exist() -> None:
    text, module = (ROOT / "book/api.md").read_text(encoding="utf-8"), "iscam"
    for directive, name in re.findall(r"\.\. (\w+|py:\w+):: ([\w.]+)$", text, re.M):
        if directive == "currentmodule":
            module = name
        else:
            pydoc.locate(name if name.startswith("iscam.") else f"{module}.{name}") or pytest.fail(f"no {name}")


def test_imports_are_declared() -> None:
    """The package's imports are in its dependencies, and those of the book and the tests are in the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    package, everything = (
        {re.split(r"[^\w-]", name)[0].lower() for name in names}
        for names in (project["dependencies"], project["dependencies"] + extras)
    )
    assert imported(ROOT / "iscam") - {"captum", "ray", "timm"} <= package  # optional: an error asks for them
    assert imported(ROOT / "book") | imported(ROOT / "tests") <= everything


def imported(folder: Path) -> set[str]:
    """Names, as installed, of the packages that a folder's Python files import from elsewhere."""
    own = {"iscam", *(file.stem for file in folder.rglob("*.py")), *(path.name for path in folder.iterdir())}
    distributions = {"pil": "pillow", "pytorch_grad_cam": "grad-cam", "skimage": "scikit-image", "yaml": "pyyaml"}
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.partition(".")[0] for name in names}
    return {distributions.get(name.lower(), name.lower()) for name in found - own - sys.stdlib_module_names}
