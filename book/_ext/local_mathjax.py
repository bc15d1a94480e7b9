"""Serve MathJax from the book's own folder, so that no page sends a request to another host."""

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SCRIPT, FONTS = "tex-chtml-full.js", "output/chtml/fonts/woff-v2"


def copy_mathjax(app: Any, error: Exception | None) -> None:
    """Copy the script and its fonts into the built book."""
    spec = find_spec("sphinx-mathjax-offline")
    if error or app.builder.format != "html" or spec is None or not spec.submodule_search_locations:
        return
    source = Path(spec.submodule_search_locations[0]) / "static/mathjax"
    target = Path(app.outdir) / "_static/mathjax"
    shutil.copytree(source / FONTS, target / FONTS, dirs_exist_ok=True)
    shutil.copy2(source / SCRIPT, target / SCRIPT)


def setup(app: Any) -> dict[str, bool]:
    app.config.mathjax_path = f"mathjax/{SCRIPT}"
    app.connect("build-finished", copy_mathjax)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
