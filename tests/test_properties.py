"""Properties that follow from the equations, on random images: `explain` with the papers' seven methods."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from torch import Tensor, nn

import iscam
from helpers import reference
from helpers.images import array, smooth_images
from helpers.networks import pooled
from iscam.record import forward_record

#: Few steps and samples, to save time. The properties hold for any number.
METHODS = {
    "cam": {},
    "grad_cam": {},
    "grad_cam_pp": {},
    "smooth_grad_cam_pp": {"samples": 2},
    "score_cam": {},
    "ss_cam": {"samples": 2},
    "is_cam": {"steps": 3},
}
SMOOTH_WITHOUT_NOISE = {"smooth_grad_cam_pp": {"samples": 2, "sigma": 0.0}}
SS_WITHOUT_NOISE = {"ss_cam": {"samples": 2, "sigma": 0.0}}
SCORE_METHODS = ("score_cam", "ss_cam", "is_cam")

CHANNELS = 8
TARGETS = torch.tensor([2, 0, 4])
SEEDS = st.integers(0, 10_000)

few_examples = settings(max_examples=8)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # a single blank map among three is no failure here


def methods(exceptions: dict[str, dict] | None = None):
    """Parametrise a test with all methods and their options, some with other options."""
    return pytest.mark.parametrize(("method", "options"), (METHODS | (exceptions or {})).items(), ids=METHODS)


def images_of(seed: int) -> Tensor:
    """Three images. With their odd width, the network's convolutions of stride 2 treat left and right alike."""
    return smooth_images(3, 25, 31, seed=seed)


def network(model: nn.Module, method: str) -> iscam.Network:
    """The layer before the last ReLU, so that gradients depend on the image. CAM is defined for the layer after it."""
    return iscam.Network(model, "relu" if method == "cam" else "last")


def explained(model: nn.Module, images: Tensor, method: str, options: dict) -> Tensor:
    maps = iscam.explain(network(model, method), images, TARGETS[: len(images)], method, **options)
    assert maps.amax() == 1, "all maps are blank, so a comparison would show nothing"
    return maps


# SS-CAM takes part without noise: its noise depends on the number of the channel.
@methods(SS_WITHOUT_NOISE)
@few_examples
@given(seed=SEEDS, order=st.permutations(range(CHANNELS)))
def test_explain_ignores_the_order_of_channels(method, options, seed, order):
    model, permuted = pooled(), pooled()
    with torch.no_grad():
        permuted.last.weight.copy_(model.last.weight[order])
        permuted.last.bias.copy_(model.last.bias[order])
        permuted.head.weight.copy_(model.head.weight[:, order])
    images = images_of(seed)
    expected = explained(model, images, method, options)
    assert_allclose(array(explained(permuted, images, method, options)), array(expected), atol=1e-5)


# The two methods with noise take part without it: noise is fixed by the pixel, so it does not flip with the image.
@methods(SMOOTH_WITHOUT_NOISE | SS_WITHOUT_NOISE)
@few_examples
@given(seed=SEEDS)
def test_explain_of_a_flipped_image_is_the_flipped_map(method, options, seed):
    """A network with symmetric kernels and global pooling treats left and right alike."""
    model, images = pooled(), images_of(seed)
    with torch.no_grad():
        for convolution in (model.first[0], model.last):
            convolution.weight.copy_((convolution.weight + convolution.weight.flip(3)) / 2)
    expected = explained(model, images, method, options).flip(2)
    assert_allclose(array(explained(model, images.flip(3), method, options)), array(expected), atol=1e-5)


@methods()
@few_examples
@given(seed=SEEDS, other=SEEDS, factor=st.sampled_from([0.0, 1.0, 100.0]))
def test_explain_ignores_batch_mates(method, options, seed, other, factor):
    """Maps of score methods are equal bit for bit. Gradients of a complete batch may round differently."""
    model, images = pooled(), images_of(seed)
    mates = torch.cat([images[:1], factor * images_of(other)[1:]])
    alone = explained(model, images[:1], method, options)[0]
    together = explained(model, mates, method, options)[0]
    assert_allclose(array(together), array(alone), rtol=0, atol=0 if method in SCORE_METHODS else 1e-6)


@pytest.mark.parametrize("method", SCORE_METHODS)
@few_examples
@given(seed=SEEDS, batch_size=st.integers(1, 40))
def test_batch_size_changes_rounding_only(method, seed, batch_size):
    model, images = pooled(), images_of(seed)
    expected = explained(model, images, method, METHODS[method])
    found = explained(model, images, method, METHODS[method] | {"batch_size": batch_size})
    assert_allclose(array(found), array(expected), atol=1e-5)


# The masks of score methods are scaled to [0, 1], so a channel's scale changes its activations but not its weight.
@methods()
@few_examples
@given(seed=SEEDS, scale=st.lists(st.sampled_from([0.25, 1.0, 3.0]), min_size=CHANNELS, max_size=CHANNELS))
def test_scaled_channels_change_maps_as_the_equations_say(method, options, seed, scale):
    """The head undoes the scale. Weights of gradient methods and CAM undo it, too; weights of score methods do not."""
    model, scaled, image, c = pooled(), pooled(), images_of(seed)[:1], torch.tensor(scale)
    with torch.no_grad():
        scaled.last.weight.mul_(c[:, None, None, None])
        scaled.last.bias.mul_(c)
        scaled.head.weight.div_(c)
    record = forward_record(network(model, method), image[0], int(TARGETS[0]))
    weights = iscam.METHODS[method](record, **options)
    factors = c if method in SCORE_METHODS else torch.ones(CHANNELS)
    expected = reference.saliency(array(factors * weights), array(record.activations), 25, 31)
    assert_allclose(array(explained(scaled, image, method, options)[0]), expected, atol=1e-4)
