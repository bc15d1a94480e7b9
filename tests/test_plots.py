"""Figures: the colours of images, the sizes and ranges of maps, and no global state."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1
from torchvision.transforms import v2

import iscam
from helpers.errors import refused
from helpers.repository import ROOT
from iscam import plots
from iscam.metrics import Curves

RAMP = torch.linspace(0, 1, 12).reshape(3, 4)

NORMALISE = {
    "v2": v2.Compose([v2.Normalize([0.5], [0.25])]),
    "v1": v1.Compose([v1.Normalize([0.5], [0.25])]),
    "alone": v1.Normalize([0.5], [0.25]),
    "nested": v2.Compose([v2.Compose([v2.Identity(), v2.Normalize([0.5], [0.25])])]),
    "sequential": torch.nn.Sequential(v2.Normalize([0.5], [0.25])),
    "hugging face": SimpleNamespace(image_mean=[0.5], image_std=[0.25]),
}


@pytest.mark.parametrize("kind", NORMALISE)
def test_pixels_undo_the_normalisation_of_the_transform(kind):
    pixels = plots.to_pixels((RAMP[None] - 0.5) / 0.25, NORMALISE[kind])
    assert np.allclose(pixels, RAMP.numpy()[..., None].repeat(3, 2), atol=1e-6)


def test_pixels_of_two_normalisations_are_scaled_to_their_range():
    twice = v2.Compose([v2.Normalize([0.5], [0.25]), v2.Normalize([0.1], [0.5])])
    assert np.allclose(plots.to_pixels(8 * RAMP[None] - 4, twice)[..., 0], RAMP.numpy(), atol=1e-6)


def test_pixels_of_the_default_transform_are_the_images():
    image = Image.new("RGB", (224, 224), (10, 200, 90))
    net = iscam.load_model("menagerie/resnet", weights=None)
    pixels = plots.to_pixels(net.transform(image), net.transform)
    assert np.allclose(pixels[0, 0], np.array([10, 200, 90]) / 255, atol=1e-6)
    assert np.array_equal(pixels, plots.to_pixels(net.transform(image)))


@pytest.mark.parametrize("transform", [None, lambda image: image, v2.ToImage()])
def test_pixels_without_normalisation_keep_an_image_in_range(transform):
    assert np.array_equal(plots.to_pixels(0.5 * RAMP[None], transform)[..., 0], 0.5 * RAMP.numpy())


def test_pixels_without_normalisation_scale_another_image():
    pixels = plots.to_pixels(torch.stack([RAMP, 4 * RAMP - 1, RAMP]), None)
    assert np.allclose(pixels[..., 1], RAMP.numpy(), atol=1e-6)
    assert np.allclose(pixels[..., 0], (RAMP.numpy() + 1) / 4, atol=1e-6)


@pytest.mark.parametrize(("channels", "shown"), [(1, (0, 0, 0)), (2, (0, 0, 0)), (3, (0, 1, 2)), (4, (0, 1, 2))])
def test_pixels_of_any_number_of_channels(channels, shown):
    image = torch.rand(channels, 3, 4, generator=torch.Generator().manual_seed(0))
    assert np.array_equal(plots.to_pixels(image, None), image[list(shown)].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 4])
def test_pixels_ignore_a_normalisation_of_other_channels(channels):
    image = RAMP.expand(channels, -1, -1)
    assert np.array_equal(plots.to_pixels(image), plots.to_pixels(image, None))


def test_pixels_of_bytes():
    assert np.allclose(plots.to_pixels(torch.full((3, 2, 2), 51, dtype=torch.uint8), None), 0.2)


@pytest.mark.parametrize("image", [torch.zeros(3, 4), torch.full((3, 2, 2), torch.nan)])
def test_pixels_of_a_bad_image_are_refused(image):
    with refused("image"):
        plots.to_pixels(image)


def test_explanation_figure_shows_image_map_and_overlay():
    figure = plots.explanation_figure(torch.stack([RAMP] * 3), RAMP, "Score-CAM: fox", None)
    assert figure.get_suptitle() == "Score-CAM: fox"
    left, middle, right, _ = figure.axes
    assert np.array_equal(left.images[0].get_array(), RAMP.numpy()[..., None].repeat(3, 2))
    assert np.array_equal(middle.images[0].get_array(), RAMP.numpy())
    assert middle.images[0].get_clim() == (0, 1)
    assert len(right.images) == 2


def test_explanation_figure_of_zeros_is_drawn(tmp_path):
    plots.explanation_figure(torch.zeros(3, 8, 8), torch.zeros(8, 8), "").savefig(tmp_path / "zeros.png")
    assert (tmp_path / "zeros.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("bad", "word"), [(torch.zeros(2, 2), "size"), (-RAMP, "0 to 1"), (2 * RAMP, "0 to 1"), (RAMP / 0, "0 to 1")]
)
def test_explanation_figure_bad_map_is_refused(bad, word):
    with refused(word):
        plots.explanation_figure(torch.zeros(3, 3, 4), bad, "")


def test_gallery_has_a_row_per_image_and_a_column_per_method():
    images = [torch.zeros(3, 3, 4)] * 2
    figure = plots.gallery(images, {"score_cam": [RAMP, RAMP], "mine": [RAMP, RAMP]}, ["fox", "hound"])
    assert [axes.get_title() for axes in figure.axes] == ["fox", "Score-CAM", "mine", "hound", "", ""]
    long = plots.gallery(images[:1], {"grad_pp_score_cam": [RAMP]}, ["fox"])
    assert long.axes[1].get_title() == "Grad++ScoreCAM\n(reconstruction)"


def test_names_with_dollar_signs_are_plain_text():
    name, image = "$\\frac{$", torch.zeros(3, 3, 4)
    curves = Curves(torch.tensor([0, 1.0]), torch.zeros(1, 2), torch.zeros(1))
    row = {"model": name, "method": "cam", "metric": "energy", "mean": 0.5, "low": 0.4, "high": 0.6}
    for figure in (
        plots.explanation_figure(image, RAMP, name, None),
        plots.gallery([image], {name: [RAMP]}, [name]),
        plots.curve_bands({name: curves}, "pixels"),
        plots.intervals(pd.DataFrame([row]), "energy", "energy"),
    ):
        figure.savefig(io.BytesIO())


def test_curve_bands_show_mean_and_area():
    fraction = torch.tensor([0, 0.5, 1.0])
    scores = torch.tensor([[0, 0.2, 0.4], [0, 0.4, 0.8]])
    many = {f"m{i}": Curves(fraction, scores, scores.mean(1)) for i in range(12)}
    figure = plots.curve_bands(many, "pixels")
    lines = figure.axes[0].lines
    assert len(lines) == 12
    assert np.allclose(lines[0].get_ydata(), [0, 0.3, 0.6])
    assert lines[0].get_label() == "m0 (area 0.300)"


def test_figures_leave_no_pyplot_state():
    before = plt.get_fignums()
    plots.explanation_figure(torch.zeros(3, 8, 8), torch.zeros(8, 8), "a")
    plots.gallery([torch.zeros(3, 8, 8)], {"cam": [torch.zeros(8, 8)]}, ["a"])
    assert plt.get_fignums() == before


def test_figure_with_an_unknown_backend_is_refused(tmp_path):
    """The package itself can be imported, because it imports matplotlib only for a figure."""
    code = (
        "import torch, iscam\nfrom iscam import plots\n"
        "try: plots.explanation_figure(torch.zeros(3, 8, 8), torch.zeros(8, 8), '')\n"
        "except iscam.InputError as error: print(error)"
    )
    environment = os.environ | {"MPLBACKEND": "nonsense", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.startswith("matplotlib cannot be imported: ")
    assert "nonsense" in found
    assert found.count("\n") == 1


def test_figure_is_shown_by_notebooks():
    figure = plots.explanation_figure(torch.zeros(3, 8, 8), torch.zeros(8, 8), "a")
    assert figure._repr_png_().startswith(b"\x89PNG")
