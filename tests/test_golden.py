"""Golden files: recorded maps and metrics, so that a refactoring or a new version of torch cannot change them silently.

`python tests/test_golden.py` writes the files again. Do so only for a change of numbers that the changelog explains.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import iscam

FOLDER = Path(__file__).parent / "golden"
MODELS = ("menagerie/vgg", "menagerie/resnet", "menagerie/squeezenet")
METHODS = {
    "cam": {},
    "grad_cam": {},
    "grad_cam_pp": {},
    "smooth_grad_cam_pp": {"samples": 3},
    "score_cam": {},
    "ss_cam": {"samples": 3},
    "is_cam": {"steps": 5},
    "layer_cam": {},
    "xgrad_cam": {},
    "ablation_cam": {},
    "score_cam_pp": {},
    "grad_pp_score_cam": {},
    "recipro_cam": {},
    "opti_cam": {"steps": 3},
    "rise": {"masks": 30},
    "mask": {"iterations": 3},
}
STUDY = iscam.Study(
    models=("menagerie/squeezenet",),
    count=2,
    seed=3,
    methods={
        "identity": {},
        "random": {},
        "oracle": {},
        "grad_cam": {},
        "score_cam": {},
        "is_cam_3": {"method": "is_cam", "steps": 3},
    },
    metrics=(
        "insertion",
        "insertion:blur",
        "deletion",
        "average_drop",
        "average_increase",
        "average_gain",
        "explained_confidence",
        "win:score_cam",
        "complexity",
        "coherency",
        "adcc",
        "energy",
        "part_correlation",
        "decisive_part",
        "mask_energy",
    ),
)

#: Metrics with a tolerance of 1e-4. They sort the pixels by their map. The order of nearly equal pixels depends on the
#: rounding, which differs between processors with and without AVX-512. Differences of up to 1.6e-5 were measured.
CURVES = ("insertion", "insertion:blur", "deletion")


def maps(model: str) -> dict[str, np.ndarray]:
    """Every eighth pixel of each method's maps of two drawings."""
    net = iscam.load_model(model)
    images = torch.stack([item.image for item in iscam.load_images("menagerie", count=2, seed=0)])
    names = [name for name in METHODS if (model, name) != ("menagerie/vgg", "cam")]
    return {
        f"{model}/{name}": iscam.explain(net, images, method=name, **METHODS[name])[:, ::8, ::8].numpy()
        for name in names
    }


def rows() -> pd.DataFrame:
    """The table of a small study with every metric."""
    with tempfile.TemporaryDirectory() as folder:
        return iscam.run_study(STUDY, folder)


@pytest.mark.parametrize("model", MODELS)
def test_maps_equal_the_golden_file(model):
    golden = np.load(FOLDER / "maps.npz")
    found = maps(model)
    assert set(found) == {name for name in golden if name.startswith(model)}
    for name, values in found.items():
        np.testing.assert_allclose(values, golden[name], rtol=0, atol=1e-6, err_msg=name)


def test_study_equals_the_golden_file():
    golden, found = pd.read_csv(FOLDER / "study.csv"), rows()
    assert golden.iloc[:, :5].to_numpy().tolist() == found.iloc[:, :5].to_numpy().tolist()
    curves = golden["metric"].isin(CURVES)
    differences = (found["value"].astype(float) - golden["value"]).abs()
    assert (found["value"].isna() == golden["value"].isna()).all()
    assert differences[curves].max() < 1e-4
    assert differences[~curves].max() < 1e-6


if __name__ == "__main__":
    torch.set_num_threads(1)
    np.savez_compressed(FOLDER / "maps.npz", **{key: array for model in MODELS for key, array in maps(model).items()})
    rows().drop(columns="error").to_csv(FOLDER / "study.csv", index=False)
