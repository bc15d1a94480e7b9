"""Each notebook as Colab runs it: the file alone in a folder, Colab's versions, and the notebook's own install cell.

python3 run.py test -m slow -v tests/test_colab.py         takes minutes and several GB, and needs a package index

The install cell fetches the repository from its public address. Here git replaces this address with the checkout.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.repository import ADDRESS, NOTEBOOKS, ROOT, SMALL

papermill = pytest.importorskip("papermill")

pytestmark = pytest.mark.slow

FOLDER = ROOT / "build/colab"
PYTHON = FOLDER / "venv/bin/python"

#: The packages of Colab that the install cell relies on. It must install everything else.
ON_COLAB = ["torch==2.11.*", "torchvision==0.26.*", "pandas==2.2.*", "numpy==2.0.*", "ipykernel"]


def installed() -> dict[str, str]:
    listed = subprocess.run([PYTHON, "-m", "pip", "list", "--format=json"], check=True, capture_output=True, text=True)
    return {package["name"]: package["version"] for package in json.loads(listed.stdout)}


@pytest.fixture(scope="module")
def colab() -> Iterator[dict[str, str]]:
    """A clean environment with a kernel that looks like Colab's; yields the versions in it before any notebook runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        shutil.rmtree(FOLDER, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", FOLDER / "venv"], check=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", "--no-compile", *ON_COLAB], check=True)
        subprocess.run([PYTHON, "-m", "ipykernel", "install", "--prefix", FOLDER, "--name", "colab"], check=True)
        (packages,) = (FOLDER / "venv/lib").glob("python*/site-packages")
        (packages / "google/colab").mkdir(parents=True)
        (packages / "google/colab/__init__.py").touch()
        (packages / "colab.pth").write_text("import google.colab\n")
        subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, FOLDER / "repository"], check=True)
        subprocess.run(["git", "-C", FOLDER / "repository", "update-ref", "refs/heads/main", "HEAD"], check=True)
        patch.setenv("JUPYTER_PATH", str(FOLDER / "share/jupyter"))
        patch.setenv("GIT_CONFIG_COUNT", "1")
        patch.setenv("GIT_CONFIG_KEY_0", f"url.file://{FOLDER}/repository.insteadOf")
        patch.setenv("GIT_CONFIG_VALUE_0", ADDRESS)
        yield installed()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_alone(notebook: Path, colab: dict[str, str], tmp_path: Path) -> None:
    alone = shutil.copy(notebook, tmp_path)
    executed = papermill.execute_notebook(
        str(alone),
        str(alone),
        parameters=SMALL.get(notebook.stem, {}),
        kernel_name="colab",
        language="python",
        progress_bar=False,
        resources={"metadata": {"path": str(tmp_path)}},
    )
    assert "iscam" in installed()
    assert not [cell for cell in executed.cells if cell.cell_type == "code" and cell.execution_count is None]


def test_colab_packages_are_not_replaced(colab: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    now = installed()
    with capsys.disabled():
        print("\ninstalled by the notebooks:", ", ".join(f"{k} {v}" for k, v in now.items() if k not in colab))
        print("kept:", ", ".join(f"{k} {now[k]}" for k in ("torch", "torchvision", "pandas", "numpy")))
    assert colab.items() <= now.items()
