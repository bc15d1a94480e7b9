"""SSIM of two maps: its formula, the values of scikit-image, and maps that are refused."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

import iscam
from helpers.errors import refused
from helpers.images import array, smooth_images


def test_ssim_equals_its_formula_per_window():
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(14, 12, generator=g).double(), torch.rand(14, 12, generator=g).double()
    bell = [[math.exp(-((i - 5) ** 2 + (j - 5) ** 2) / (2 * 1.5**2)) for j in range(11)] for i in range(11)]
    total, values = sum(map(sum, bell)), []
    for top in range(4):
        for left in range(2):
            pairs = [
                (bell[i][j] / total, a[top + i, left + j].item(), b[top + i, left + j].item())
                for i in range(11)
                for j in range(11)
            ]
            mean_a, mean_b = sum(w * x for w, x, _ in pairs), sum(w * y for w, _, y in pairs)
            var_a = sum(w * (x - mean_a) ** 2 for w, x, _ in pairs)
            var_b = sum(w * (y - mean_b) ** 2 for w, _, y in pairs)
            both = sum(w * (x - mean_a) * (y - mean_b) for w, x, y in pairs)
            up = (2 * mean_a * mean_b + 0.0001) * (2 * both + 0.0009)
            values.append(up / ((mean_a**2 + mean_b**2 + 0.0001) * (var_a + var_b + 0.0009)))
    assert iscam.ssim(a[None], b[None]).item() == pytest.approx(sum(values) / len(values), abs=1e-12)


def test_ssim_equals_hand_computed_values():
    a = torch.zeros(11, 11)
    a[:, 5], a[:, 6:] = 0.5, 1  # one window, mean 1/2; the map turned round has the opposite covariance
    bell = [math.exp(-((i - 5) ** 2) / 4.5) for i in range(11)]
    variance = 0.25 * (1 - 1 / sum(bell))
    turned = (0.0009 - 2 * variance) / (0.0009 + 2 * variance)
    found = iscam.ssim(torch.stack([a, a]), torch.stack([a, 1 - a]))
    assert found.tolist() == pytest.approx([1, turned])


def test_ssim_of_a_constant_map_is_nan():
    a = torch.rand(2, 11, 11, generator=torch.Generator().manual_seed(0))
    blank = torch.stack([torch.zeros(11, 11), a[1]])
    assert iscam.ssim(a, blank).isnan().tolist() == iscam.ssim(blank, a).isnan().tolist() == [True, False]


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.01, 1))
def test_ssim_agrees_with_scikit_image(seed, noise):
    """scikit-image's mean leaves out the same border of half a window."""
    a, b = smooth_images(2, 24, 31, seed=seed)[:, 0].sigmoid().double()
    b = (a + noise * (b - a)).clamp(0, 1)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    expected = structural_similarity(array(a), array(b), **options)
    assert iscam.ssim(a[None], b[None]).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "bad", [torch.rand(2, 20, 20) - 0.5, torch.rand(2, 20, 20) * 255, torch.full((2, 20, 20), torch.nan)]
)
def test_ssim_of_maps_outside_the_unit_range_is_refused(bad):
    with refused("maps in [0, 1]"):
        iscam.ssim(torch.rand(2, 20, 20), bad)


@pytest.mark.parametrize("shapes", [((2, 11, 11), (1, 11, 11)), ((1, 10, 20), (1, 10, 20)), ((11, 11), (11, 11))])
def test_ssim_of_other_shapes_is_refused(shapes):
    with refused("ssim needs two batches"):
        iscam.ssim(*(torch.zeros(shape) for shape in shapes))


def test_ssim_of_no_maps_is_refused():
    with refused("ssim needs two batches"):
        iscam.ssim(None, None)
