"""The sources of the notebooks are clean, and each notebook runs with papermill on small parameters."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from helpers.repository import ADDRESS, NOTEBOOKS, ROOT, SMALL

nbformat = pytest.importorskip("nbformat")
papermill = pytest.importorskip("papermill")
yaml = pytest.importorskip("yaml")

import iscam  # noqa: E402

COLAB = f"{ADDRESS.replace('github.com', 'colab.research.google.com/github')}/blob/main/notebooks/"


def read(notebook: Path) -> Any:
    return nbformat.read(notebook, as_version=4)


def tagged(source: Any, tag: str) -> list[Any]:
    return [cell for cell in source.cells if tag in cell.metadata.get("tags", [])]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_source_is_clean(notebook: Path) -> None:
    source = read(notebook)
    nbformat.validate(source)
    assert source.metadata.kernelspec.name == "python3"
    for cell in source.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
            assert len(cell.source.splitlines()) <= 15, cell.source


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_first_cells(notebook: Path) -> None:
    title, badge, install, parameters = read(notebook).cells[:4]
    assert title.source.startswith("# ")
    assert f"{COLAB}{notebook.name}" in badge.source
    assert badge.metadata.tags == install.metadata.tags == ["remove-cell"]
    assert 'if "google.colab" in sys.modules:' in install.source
    assert "--no-deps" in install.source  # keep Colab's torch
    assert tagged(read(notebook), "parameters") == [parameters]
    for statement in ast.parse(parameters.source).body:
        assert isinstance(statement, ast.AnnAssign), "a parameter needs a type, so that papermill shows it"
        assert statement.value is not None
        ast.literal_eval(statement.value)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_install_cell_lists_the_dependencies(notebook: Path) -> None:
    """The cell lists all dependencies except torch and torchvision, which Colab has, and their dependencies."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    line = read(notebook).cells[2].source.splitlines()[-1]
    assert line.split() == [
        "%pip",
        "install",
        "-q",
        *sorted({*declared} - {"torch", "torchvision", "jinja2", "numpy", "pillow"}),
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_figures_have_alternative_text(notebook: Path) -> None:
    for cell in read(notebook).cells:
        if cell.cell_type == "code" and re.search(r"^ *(display\()?(plots|figures|charts)\.\w+\(", cell.source, re.M):
            assert cell.metadata.mystnb.image.alt
            assert not cell.source.endswith(";"), "a semicolon hides the figure"


@pytest.mark.parametrize("file", sorted((ROOT / "notebooks/parameters").glob("*.yaml")), ids=lambda path: path.stem)
def test_parameter_files_name_parameters(file: Path) -> None:
    known = set().union(*(papermill.inspect_notebook(str(notebook)) for notebook in NOTEBOOKS))
    assert set(yaml.safe_load(file.read_text())) <= known


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all notebooks, so that the pages on the tables share their study."""
    return tmp_path_factory.mktemp("cache")


#: Notebooks that the default tests run. The others are slow; the build of the book runs all of them.
QUICK = ("introduction", "pipeline", "speed")


@pytest.mark.parametrize(
    "notebook",
    [pytest.param(path, id=path.stem, marks=[] if path.stem in QUICK else pytest.mark.slow) for path in NOTEBOOKS],
)
def test_notebook_runs(notebook: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ISCAM_CACHE": str(cache), "JUPYTER_PREFER_ENV_PATH": "1", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", os.environ.get("PYDEVD_DISABLE_FILE_VALIDATION", "1"))
    known = papermill.inspect_notebook(str(notebook))
    small = SMALL.get(notebook.stem, {})
    if "weights" in known and not (Path(iscam.__file__).parent / "menagerie/weights/resnet.safetensors").exists():
        small = small | {"weights": {"menagerie/resnet": None}}
    assert set(small) <= set(known)
    executed = papermill.execute_notebook(
        str(notebook),
        str(tmp_path / notebook.name),
        parameters=small,
        kernel_name="python3",
        language="python",
        progress_bar=False,
        resources={"metadata": {"path": str(tmp_path)}},
        extra_arguments=["--log-level=ERROR"],
        execution_timeout=300,
    )
    outputs = [output for cell in executed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert any({"text/markdown", "text/html", "image/png"} & set(output.get("data", {})) for output in outputs)
