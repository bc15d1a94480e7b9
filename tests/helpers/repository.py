"""The checkout that is tested: its folder, its public address, its notebooks."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

#: The public address of the repository, as pyproject.toml gives it.
ADDRESS: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

#: Parameters small enough for a test. A notebook that is not listed runs with its defaults.
SMALL: dict[str, dict[str, Any]] = {
    "pipeline": {"steps": 2},
    "visual_comparison": {"steps": 2, "methods": ["cam", "grad_cam", "score_cam", "is_cam"]},
    "steps_sensitivity": {"count": 2, "step_counts": [1, 2], "slider_steps": 2, "pixels_per_step": 10_000},
    "insertion_deletion": {"count": 1, "curve_count": 1, "curve_methods": ["grad_cam", "identity"]},
    "confidence": {"count": 1},
    "localisation": {"count": 1},
    "published_numbers": {"count": 1, "methods": ["grad_cam", "score_cam"], "box_images": 10, "steps": 2},
    "ground_truth": {"count": 1},
    "sanity_checks": {"count": 2, "steps": 1, "stages": 2, "methods": ["grad_cam", "score_cam"]},
    "speed": {"step_counts": [1, 2], "layers": ["layer4"], "image_counts": [1, 2], "sizes": [64, 224]},
    "cluster": {"models": ["squeezenet1_0"], "passes": 1},
}
